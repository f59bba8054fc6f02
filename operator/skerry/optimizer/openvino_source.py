"""Source models in OpenVINO's IR; its reference runtime is OpenVINO."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import openvino as ov

from skerry.api.types import Framework, TensorFacts, TensorType
from skerry.optimizer.backends.base import BASELINE_SETTINGS
from skerry.optimizer.backends.openvino import Tool
from skerry.optimizer.backends.openvino_layers import CPU
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.inspection import Content
from skerry.optimizer.kinds import Operation, model_kind

_TYPES: Final = {
    "f32": TensorType.FP32,
    "f16": TensorType.FP16,
    "f64": TensorType.FP64,
    "i8": TensorType.INT8,
    "i16": TensorType.INT16,
    "i32": TensorType.INT32,
    "i64": TensorType.INT64,
    "u8": TensorType.UINT8,
    "u16": TensorType.UINT16,
    "u32": TensorType.UINT32,
    "u64": TensorType.UINT64,
    "boolean": TensorType.BOOL,
    "string": TensorType.BYTES,
}


class OpenVinoReader:
    """Reads, pins and loads models in OpenVINO's IR."""

    def read(self, path: Path) -> Content:
        """Return what the file says.

        Raises:
            BadModelError: It is no OpenVINO model, is cut off, or misses its weights.
        """
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            message = f"{path.name}: {weights.name} is missing beside it; push the folder with both files"
            raise BadModelError(message)
        try:
            model = ov.Core().read_model(str(path))
        except Exception as error:
            message = f"{path.name} is not an OpenVINO model, or is cut off: {summary(error)}"
            raise BadModelError(message) from error
        constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
        return Content(
            inputs=[_facts(path, port) for port in model.inputs],
            outputs=[_facts(path, port) for port in model.outputs],
            parameters=sum(prod(node.get_output_shape(0)) for node in constants),
            files={path.name: path, weights.name: weights},
            kind=model_kind([_operation(node) for node in model.get_ops()]),
        )

    def pin(self, path: Path, shapes: Mapping[str, list[int]], target: Path) -> None:
        """Write the model with its inputs' shapes pinned, its weights in the precision that they have."""
        model = ov.Core().read_model(str(path))
        model.reshape({name: ov.PartialShape(list(shape)) for name, shape in shapes.items()})
        ov.save_model(model, str(target), compress_to_fp16=False)

    def load(self, path: Path) -> Mapping[str, list[int]]:
        """Compile the model and return the outputs' shapes.

        Raises:
            BadModelError: OpenVINO refuses it.
        """
        try:
            Tool().load(path, BASELINE_SETTINGS[Framework.OPENVINO], 1, CPU)
            outputs = ov.Core().read_model(str(path)).outputs
        except Exception as error:
            message = f"OpenVINO cannot compile {path.name}: {summary(error)}"
            raise BadModelError(message) from error
        return {tensor.name: tensor.shape for tensor in (_facts(path, port) for port in outputs)}


def _operation(node: Any) -> Operation:
    sources = [port.get_source_output() for port in node.inputs()]
    return Operation(
        node.get_type_name(),
        [f"{source.get_node().get_name()}:{source.get_index()}" for source in sources],
        [f"{node.get_name()}:{port.get_index()}" for port in node.outputs()],
    )


def _facts(path: Path, port: Any) -> TensorFacts:
    if not port.get_names():
        message = f"{path.name}: an input or output of {port.get_node().get_friendly_name()!r} has no name"
        raise BadModelError(message)
    name, kind = port.get_any_name(), port.get_element_type().get_type_name()
    if kind not in _TYPES:
        message = f"{path.name}: {name!r} has the element type {kind}, which cannot be served"
        raise BadModelError(message)
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        message = f"{path.name}: {name!r} has no shape; export the model with the rank of its inputs and outputs"
        raise BadModelError(message)
    sizes = [dimension.get_length() if dimension.is_static else -1 for dimension in shape]
    return TensorFacts(name=name, dtype=_TYPES[kind], shape=sizes)
