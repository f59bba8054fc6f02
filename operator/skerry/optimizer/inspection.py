"""Looking at a source model before anything is made of it. The functions run in child processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skerry.api.types import InputShape, ModelFacts, ModelFormat, TensorFacts, TensorType
from skerry.optimizer.backends.base import Source
from skerry.optimizer.errors import BadModelError, UnsupportedFormatError

SUPPORTED: Final = "ONNX (.onnx) and OpenVINO IR (.xml with .bin)"
_MAGICS: Final = {
    b"GGUF": "GGUF",
    b"\x89HDF": "Keras (HDF5)",
    b"PK\x03\x04": "a zip archive (PyTorch or Keras?)",
    b"\x80\x02": "a Python pickle",
    b"\x80\x04": "a Python pickle",
}
_TFLITE: Final = b"TFL3"
_ONNX_TYPES: Final = {
    1: TensorType.FP32,
    2: TensorType.UINT8,
    3: TensorType.INT8,
    4: TensorType.UINT16,
    5: TensorType.INT16,
    6: TensorType.INT32,
    7: TensorType.INT64,
    8: TensorType.BYTES,
    9: TensorType.BOOL,
    10: TensorType.FP16,
    11: TensorType.FP64,
    12: TensorType.UINT32,
    13: TensorType.UINT64,
}
_OPENVINO_TYPES: Final = {
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


@dataclass(frozen=True)
class Inspected:
    """The model's facts, and the source as backends want it."""

    facts: ModelFacts
    source: Source


def locate(path: Path, wanted: ModelFormat) -> tuple[Path, ModelFormat]:
    """Return the model's main file and its format.

    Raises:
        UnsupportedFormatError: It is of another format.
        BadModelError: There is no model, or more than one.
    """
    if path.is_file():
        found = _format_of(path)
        main = path
    else:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        mains = [file for file in files if file.suffix in {".onnx", ".xml"}]
        if len(mains) != 1:
            names = ", ".join(file.relative_to(path).as_posix() for file in (mains or files)[:10])
            message = f"the folder must hold one model file (.onnx, or .xml with .bin), but holds {names or 'nothing'}"
            raise BadModelError(message)
        main = mains[0]
        found = _format_of(main)
    if wanted is not ModelFormat.AUTO and wanted is not found:
        message = f"the spec says format {wanted}, but {main.name} is {found}"
        raise BadModelError(message)
    return main, found


def _format_of(path: Path) -> ModelFormat:
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        message = f"{path.name} is empty"
        raise BadModelError(message)
    for magic, name in _MAGICS.items():
        if head.startswith(magic):
            message = f"{path.name} looks like {name}; the formats supported now are {SUPPORTED}"
            raise UnsupportedFormatError(message)
    if head[4:8] == _TFLITE:
        message = f"{path.name} looks like TFLite; the formats supported now are {SUPPORTED}"
        raise UnsupportedFormatError(message)
    if path.suffix == ".xml" or head.lstrip().startswith((b"<?xml", b"<net")):
        return ModelFormat.OPENVINO
    return ModelFormat.ONNX


def inspect(path: Path, wanted: ModelFormat, inputs: Sequence[InputShape]) -> Inspected:
    """Return what a model is, having really loaded it in its reference runtime.

    Raises:
        BadModelError: It cannot be used; the message says why and what to do.
    """
    main, found = locate(path, wanted)
    read = _onnx if found is ModelFormat.ONNX else _openvino
    tensors_in, tensors_out, parameters = read(main)
    shapes = _shapes(tensors_in, {shape.name: shape.shape for shape in inputs})
    source = Source(main, found, shapes)
    (_load_onnx if found is ModelFormat.ONNX else _load_openvino)(source)
    pinned = [tensor.model_copy(update={"shape": shapes.get(tensor.name, tensor.shape)}) for tensor in tensors_in]
    folder = main.parent if path.is_dir() else None
    size = main.stat().st_size if folder is None else sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    facts = ModelFacts(format=found, size_bytes=size, parameters=parameters, inputs=pinned, outputs=tensors_out)
    return Inspected(facts, source)


def _shapes(tensors: Sequence[TensorFacts], pinned: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the shapes that pin free dimensions; a free first dimension counts as the batch and may stay free."""
    names = [tensor.name for tensor in tensors]
    unknown = sorted(set(pinned) - set(names))
    if unknown:
        message = f"spec.inputs names {', '.join(unknown)}, but the model's inputs are {', '.join(names)}"
        raise BadModelError(message)
    shapes: dict[str, list[int]] = {}
    for tensor in tensors:
        shape = pinned.get(tensor.name)
        if shape is None:
            if -1 in tensor.shape[1:]:
                message = (
                    f"the input {tensor.name!r} has free dimensions beside the batch {tensor.shape}: give its shape "
                    f"in spec.inputs, for example {{name: {tensor.name}, shape: [1, 3, 224, 224]}}"
                )
                raise BadModelError(message)
            continue
        fits = len(shape) == len(tensor.shape) and all(
            have in {-1, want} for have, want in zip(tensor.shape, shape, strict=True)
        )
        if not fits:
            message = f"spec.inputs gives {tensor.name!r} the shape {shape}, but the model wants {tensor.shape}"
            raise BadModelError(message)
        shapes[tensor.name] = list(shape)
    return shapes


def _onnx(path: Path) -> tuple[list[TensorFacts], list[TensorFacts], int]:
    import onnx  # noqa: PLC0415 - heavy

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        message = f"{path.name} is not an ONNX model, or is cut off: {error}"
        raise BadModelError(message) from error
    if not model.graph.node:
        message = f"{path.name} is not an ONNX model: it has no graph"
        raise BadModelError(message)
    parameters = 0
    for tensor in model.graph.initializer:
        size = 1
        for dimension in tensor.dims:
            size *= dimension
        parameters += size
        for entry in tensor.external_data:
            if entry.key == "location":
                _external(path, tensor.name, entry.value)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        message = f"{path.name} is not a valid ONNX model: {_first_line(error)}"
        raise BadModelError(message) from error
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [_onnx_tensor(value) for value in model.graph.input if value.name not in held]
    return inputs, [_onnx_tensor(value) for value in model.graph.output], parameters


def _external(path: Path, tensor: str, location: str) -> None:
    file = (path.parent / location).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        message = f"{path.name}: the weights of {tensor!r} are in {location!r}, outside the model's folder"
        raise BadModelError(message)
    if not file.is_file():
        message = (
            f"{path.name}: the weights of {tensor!r} are in {location!r}, which is missing; push the folder with both files, "
            "not the .onnx file alone"
        )
        raise BadModelError(message)


def _onnx_tensor(value: Any) -> TensorFacts:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in _ONNX_TYPES:
        message = f"{value.name!r} is not a tensor of a type that can be served"
        raise BadModelError(message)
    shape = [dimension.dim_value if dimension.HasField("dim_value") else -1 for dimension in kind.shape.dim]
    return TensorFacts(name=value.name, dtype=_ONNX_TYPES[kind.elem_type], shape=shape)


def _openvino(path: Path) -> tuple[list[TensorFacts], list[TensorFacts], int]:
    import openvino as ov  # noqa: PLC0415 - heavy

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        message = f"{path.name}: {weights.name} is missing beside it; push the folder with both files"
        raise BadModelError(message)
    try:
        model = ov.Core().read_model(str(path))
    except Exception as error:
        message = f"{path.name} is not an OpenVINO model, or is cut off: {_first_line(error)}"
        raise BadModelError(message) from error

    def tensor(port: Any) -> TensorFacts:
        shape = [dimension.get_length() if dimension.is_static else -1 for dimension in port.get_partial_shape()]
        name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
        return TensorFacts(name=name, dtype=_OPENVINO_TYPES[port.get_element_type().get_type_name()], shape=shape)

    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    parameters = 0
    for node in constants:
        size = 1
        for dimension in node.get_output_shape(0):
            size *= dimension
        parameters += size
    return [tensor(port) for port in model.inputs], [tensor(port) for port in model.outputs], parameters


def _load_onnx(source: Source) -> None:
    from skerry.optimizer.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - heavy

    backend = OnnxRuntimeBackend()
    try:
        backend.load(source.path, backend.baseline_settings(), 1)
    except Exception as error:
        message = f"ONNX Runtime cannot load {source.path.name}: {_first_line(error)}"
        raise BadModelError(message) from error


def _load_openvino(source: Source) -> None:
    from skerry.optimizer.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - heavy

    backend = OpenVinoBackend()
    try:
        backend.load(source.path, backend.baseline_settings(), 1)
    except Exception as error:
        message = f"OpenVINO cannot compile {source.path.name}: {_first_line(error)}"
        raise BadModelError(message) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:600] if lines else type(error).__name__
