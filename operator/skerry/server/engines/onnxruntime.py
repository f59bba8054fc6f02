"""ONNX Runtime."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from skerry.accelerators.onnx_providers import LEVEL, session_setup
from skerry.api.artifact import VariantFacts
from skerry.server.engines.base import Array

_LEVELS: Final = {
    "All": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "Extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "Basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}


class OnnxRuntimeEngine:
    """A session on the provider that the variant was made for."""

    def __init__(self, facts: VariantFacts, folder: Path, threads: int) -> None:
        setup = session_setup(facts.device, facts.settings)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.graph_optimization_level = _LEVELS[facts.settings.get(LEVEL, "All")]
        options.enable_mem_pattern = setup.memory_pattern
        self._session = ort.InferenceSession(str(folder / facts.model_file), options, providers=list(setup.providers))
        self._device = self._most_nodes()
        self._outputs = [tensor.name for tensor in facts.outputs]
        self._precision = facts.execution_precision

    @property
    def device(self) -> str:
        """The provider that executes most of the model's nodes: a session falls back to others without a word."""
        return self._device

    def _most_nodes(self) -> str:
        counts = Counter[str]()
        for part in self._session.get_provider_graph_assignment_info():
            counts[str(part.ep_name)] += len(part.get_nodes())
        # A model of which nothing is left after optimization is not executed anywhere.
        return counts.most_common(1)[0][0] if counts else str(self._session.get_providers()[0])

    @property
    def precision(self) -> str:
        """The precision that the variant's nodes have: ONNX Runtime does not change it."""
        return self._precision

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model."""
        found = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, found, strict=True)}
