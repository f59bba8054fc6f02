"""Source models in TFLite; their reference runtime is LiteRT."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from skerry.api.types import ModelKind, TensorFacts, TensorType
from skerry.optimizer.backends import tflite_file
from skerry.optimizer.backends.litert import Port, ports
from skerry.optimizer.child import summary
from skerry.optimizer.data import DTYPES
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.inspection import Content

_TYPES: Final = {
    **{np.dtype(dtype): word for word, dtype in DTYPES.items()},
    np.dtype(np.bytes_): TensorType.BYTES,
    np.dtype(np.object_): TensorType.BYTES,
}
_EDGE_TPU: Final = "edgetpu-custom-op"


class TfliteReader:
    """Reads, pins and loads TFLite models."""

    def read(self, path: Path) -> Content:
        """Return what the file says.

        Raises:
            BadModelError: It is no TFLite model, is cut off or damaged, or LiteRT refuses it.
        """
        model = tflite_file.read(path)
        inputs, outputs = ports(_interpreter(path))
        return Content(
            inputs=[_facts(path, port) for port in inputs],
            outputs=[_facts(path, port) for port in outputs],
            parameters=tflite_file.parameters(model),
            files={path.name: path},
            kind=ModelKind.OTHER,
        )

    def pin(self, path: Path, shapes: Mapping[str, list[int]], target: Path) -> None:
        """Write the model with its inputs' shapes pinned."""
        model = tflite_file.read(path)
        inputs, _ = ports(_interpreter(path))
        tflite_file.pin(model, {port.index: shapes[port.name] for port in inputs if port.name in shapes})
        tflite_file.write(model, target)

    def load(self, path: Path) -> Mapping[str, list[int]]:
        """Load the model in LiteRT and return the outputs' shapes.

        Raises:
            BadModelError: LiteRT refuses it.
        """
        interpreter = _interpreter(path)
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            message = f"LiteRT cannot load {path.name}: {summary(error)}"
            raise BadModelError(message) from error
        return {port.name: list(port.shape) for port in ports(interpreter)[1]}


def _interpreter(path: Path) -> Any:
    try:
        return Interpreter(model_path=str(path), num_threads=1)
    except (RuntimeError, ValueError) as error:
        text = summary(error)
        advice = "; it is compiled for the Edge TPU: give the model that was compiled" if _EDGE_TPU in text else ""
        message = f"LiteRT cannot load {path.name}: {text}{advice}"
        raise BadModelError(message) from error


def _facts(path: Path, port: Port) -> TensorFacts:
    kind = np.dtype(port.dtype)
    if kind not in _TYPES:
        message = f"{path.name}: {port.name!r} has the element type {kind}, which cannot be served"
        raise BadModelError(message)
    return TensorFacts(name=port.name, dtype=_TYPES[kind], shape=list(port.shape))
