"""Source models in ONNX; its reference runtime is ONNX Runtime."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from skerry.api.types import Framework, TensorFacts, TensorType
from skerry.optimizer.backends.base import BASELINE_SETTINGS
from skerry.optimizer.backends.onnxruntime import PROVIDER, Tool
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.inspection import Content
from skerry.optimizer.kinds import Operation, model_kind

_TYPES: Final = {
    onnx.TensorProto.FLOAT: TensorType.FP32,
    onnx.TensorProto.UINT8: TensorType.UINT8,
    onnx.TensorProto.INT8: TensorType.INT8,
    onnx.TensorProto.UINT16: TensorType.UINT16,
    onnx.TensorProto.INT16: TensorType.INT16,
    onnx.TensorProto.INT32: TensorType.INT32,
    onnx.TensorProto.INT64: TensorType.INT64,
    onnx.TensorProto.STRING: TensorType.BYTES,
    onnx.TensorProto.BOOL: TensorType.BOOL,
    onnx.TensorProto.FLOAT16: TensorType.FP16,
    onnx.TensorProto.DOUBLE: TensorType.FP64,
    onnx.TensorProto.UINT32: TensorType.UINT32,
    onnx.TensorProto.UINT64: TensorType.UINT64,
}
_STANDARD_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "com.microsoft"})
_SHOWN_OPERATORS: Final = 5


class OnnxReader:
    """Reads, pins and loads ONNX models."""

    def read(self, path: Path) -> Content:
        """Return what the file says.

        Raises:
            BadModelError: It is no ONNX model, is cut off, misses files, or uses what no runtime here has.
        """
        model = _parse(path)
        tensors = list(_tensors(model.graph))
        files = {path.name: path, **_external_files(path, tensors)}
        _check_operators(path, model)
        _check_opset(path, model)
        try:
            onnx.checker.check_model(str(path))
        except Exception as error:
            message = f"{path.name} is not a valid ONNX model: {summary(error)}"
            raise BadModelError(message) from error
        constants = {tensor.name for tensor in model.graph.initializer}
        return Content(
            inputs=[_facts(path, value) for value in model.graph.input if value.name not in constants],
            outputs=[_facts(path, value, shapeless=True) for value in model.graph.output],
            parameters=sum(_size(tensor) for tensor in tensors),
            files=files,
            kind=model_kind(
                [
                    Operation(node.op_type, node.input, node.output)
                    for graph in _graphs(model.graph)
                    for node in graph.node
                ]
            ),
        )

    def pin(self, path: Path, shapes: Mapping[str, list[int]], target: Path) -> None:
        """Write the model with its inputs' shapes pinned; external weights stay outside."""
        model = onnx.load(str(path), load_external_data=False)
        for value in model.graph.input:
            for size, dimension in zip(shapes.get(value.name, []), value.type.tensor_type.shape.dim, strict=False):
                dimension.Clear()
                dimension.dim_value = size
        onnx.save(model, str(target))

    def load(self, path: Path) -> Mapping[str, list[int]]:
        """Load the model in ONNX Runtime and return the outputs' shapes.

        Raises:
            BadModelError: ONNX Runtime refuses it.
        """
        try:
            session = Tool().load(path, BASELINE_SETTINGS[Framework.ONNX_RUNTIME], 1, PROVIDER)
        except Exception as error:
            message = f"ONNX Runtime cannot load {path.name}: {summary(error)}"
            raise BadModelError(message) from error
        return session.output_shapes


def files_of(path: Path) -> dict[str, Path]:
    """Return the files that a model consists of, by their name relative to its folder.

    Raises:
        BadModelError: It is no ONNX model, or one of them is missing.
    """
    return {path.name: path, **_external_files(path, list(_tensors(_parse(path).graph)))}


def _parse(path: Path) -> Any:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        message = f"{path.name} is not an ONNX model, or is cut off: {summary(error)}"
        raise BadModelError(message) from error
    if not model.graph.node:
        message = f"{path.name} is not an ONNX model, or is cut off: it holds no graph"
        raise BadModelError(message)
    return model


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those inside its control flow operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for one in inner:
                yield from _graphs(one)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield all constant tensors, those of constants among the nodes included."""
    for one in _graphs(graph):
        yield from one.initializer
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _size(tensor: Any) -> int:
    size = 1
    for dimension in tensor.dims:
        size *= dimension
    return size


def _external_files(path: Path, tensors: list[Any]) -> dict[str, Path]:
    """Return the files beside the model that hold its weights.

    Raises:
        BadModelError: One is missing, or outside the model's folder.
    """
    files = {}
    for tensor in tensors:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is None:
            continue
        file = (path.parent / location).resolve()
        if not file.is_relative_to(path.parent.resolve()):
            message = f"{path.name}: the weights of {tensor.name!r} are in {location!r}, outside the model's folder"
            raise BadModelError(message)
        if not file.is_file():
            message = (
                f"{path.name}: the weights of {tensor.name!r} are in {location!r}, which is missing; "
                "push the folder with both files, not the .onnx file alone"
            )
            raise BadModelError(message)
        files[Path(location).as_posix()] = file
    return files


def _check_operators(path: Path, model: Any) -> None:
    functions = {(function.domain, function.name) for function in model.functions}
    used = {(node.domain, node.op_type) for graph in _graphs(model.graph) for node in graph.node}
    strange = sorted(f"{domain}.{operator}" for domain, operator in used - functions if domain not in _STANDARD_DOMAINS)
    if strange:
        more = f" and {len(strange) - _SHOWN_OPERATORS} more" if len(strange) > _SHOWN_OPERATORS else ""
        message = (
            f"{path.name} uses operators that are not part of ONNX: {', '.join(strange[:_SHOWN_OPERATORS])}{more}; "
            "export the model with standard operators"
        )
        raise BadModelError(message)


def _check_opset(path: Path, model: Any) -> None:
    newest = onnx.defs.onnx_opset_version()
    version = next((opset.version for opset in model.opset_import if opset.domain in {"", "ai.onnx"}), newest)
    if version > newest:
        message = (
            f"{path.name} uses opset {version}; the newest one supported is {newest}: export it with a lower opset"
        )
        raise BadModelError(message)


def _facts(path: Path, value: Any, *, shapeless: bool = False) -> TensorFacts:
    """Return the facts of an input or output; outputs may be shapeless, because the runtime infers their shape."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        message = (
            f"{path.name}: {value.name!r} is not a tensor but a {value.type.WhichOneof('value')}; export the model "
            "with tensors only (skl2onnx: zipmap=False)"
        )
        raise BadModelError(message)
    if kind.elem_type not in _TYPES:
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        message = f"{path.name}: {value.name!r} has the element type {name}, which cannot be served"
        raise BadModelError(message)
    if not kind.HasField("shape") and not shapeless:
        message = f"{path.name}: the input {value.name!r} has no shape; export the model with the rank of its inputs"
        raise BadModelError(message)
    shape = [dimension.dim_value if dimension.HasField("dim_value") else -1 for dimension in kind.shape.dim]
    return TensorFacts(name=value.name, dtype=_TYPES[kind.elem_type], shape=shape)
