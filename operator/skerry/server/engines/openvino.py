"""OpenVINO."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino as ov

from skerry.api.artifact import VariantFacts
from skerry.server.engines.base import Array


class OpenVinoEngine:
    """A compiled model with one request."""

    def __init__(self, facts: VariantFacts, folder: Path, threads: int) -> None:
        settings = {**facts.settings, "INFERENCE_NUM_THREADS": str(threads)}
        self._compiled = ov.Core().compile_model(str(folder / facts.model_file), facts.device, settings)
        self._measured = facts.execution_precision
        self._request = self._compiled.create_infer_request()
        self._outputs = [(tensor.name, self._compiled.output(tensor.name)) for tensor in facts.outputs]

    @property
    def device(self) -> str:
        """The devices that execute, joined by commas when there are several."""
        return ",".join(str(device).strip("()") for device in self._compiled.get_property("EXECUTION_DEVICES"))

    @property
    def precision(self) -> str:
        """The inference precision, as OpenVINO names it; that of the measurement where the device does not tell it."""
        try:
            hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        except RuntimeError:
            return self._measured
        return str(hint.get_type_name() if hasattr(hint, "get_type_name") else hint)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model; the outputs are copies, because the request's memory is used again."""
        self._request.infer(dict(inputs), share_inputs=True)
        return {name: np.array(self._request.get_tensor(port).data) for name, port in self._outputs}
