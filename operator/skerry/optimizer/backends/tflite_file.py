"""TFLite files, by their schema: reading them with care, and small changes to them."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skerry.optimizer.errors import BadModelError

_MAGIC: Final = b"TFL3"
_MAGIC_AT: Final = 4
_VERSION: Final = 3
_ITEM_BYTES: Final[Mapping[int, int]] = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.UINT8: 1,
    schema.TensorType.INT64: 8,
    schema.TensorType.BOOL: 1,
    schema.TensorType.INT16: 2,
    schema.TensorType.INT8: 1,
    schema.TensorType.FLOAT64: 8,
}


def read(path: Path) -> Any:
    """Return a file's content as the schema's objects, every index in it checked.

    LiteRT itself follows the indices and sizes of a file without looking, and crashes on a damaged one.

    Raises:
        BadModelError: It is no TFLite file, is cut off or damaged.
    """
    data = path.read_bytes()
    if data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        message = f"{path.name} is not a TFLite model"
        raise BadModelError(message)
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        trouble = _trouble(model, len(data))
    except Exception as error:
        message = f"{path.name} is cut off or damaged: its structure leads beyond its end"
        raise BadModelError(message) from error
    if trouble:
        message = f"{path.name} is cut off or damaged: {trouble}"
        raise BadModelError(message)
    return model


def write(model: Any, path: Path) -> None:
    """Write a model."""
    path.write_bytes(_packed(model))


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 10)
    builder.Finish(model.Pack(builder), _MAGIC)
    return bytes(builder.Output())


def _trouble(model: Any, size: int) -> str:
    """Return what is wrong with a model's indices and sizes; empty when nothing is."""
    if model.version != _VERSION:
        return f"it says that it is of version {model.version} of the format, not {_VERSION}"
    if not model.subgraphs or not model.buffers:
        return "it holds no graph"
    if any(buffer.offset + buffer.size > size for buffer in model.buffers):
        return "weights are to be found beyond its end"
    codes = len(_given(model.operatorCodes))
    troubles = (_graph(graph, codes, model.buffers) for graph in model.subgraphs)
    return next((f"in graph {number} {told}" for number, told in enumerate(troubles) if told), "")


def _graph(graph: Any, codes: int, buffers: Sequence[Any]) -> str:
    """Return what is wrong with one graph."""
    tensors, operators = _given(graph.tensors), _given(graph.operators)
    if told := _tensors(tensors, buffers):
        return told
    if any(not 0 <= operator.opcodeIndex < codes for operator in operators):
        return "there is an operator of an unknown kind"
    lists = [graph.inputs, graph.outputs]
    lists += [indices for operator in operators for indices in (operator.inputs, operator.outputs)]
    if any(not -1 <= index < len(tensors) for indices in lists for index in _given(indices)):
        return "a tensor is named that is not there"
    return ""


def _given(values: Sequence[Any] | None) -> Sequence[Any]:
    """Return a vector; the schema's objects have none where it is empty."""
    return [] if values is None else values


def _tensors(tensors: Sequence[Any], buffers: Sequence[Any]) -> str:
    """Return what is wrong with a graph's tensors."""
    for tensor in tensors:
        if not 0 <= tensor.buffer < len(buffers):
            return "a tensor's weights are not there"
        held = buffers[tensor.buffer].data
        item = _ITEM_BYTES.get(tensor.type)
        shape = [int(side) for side in _given(tensor.shape)]
        if min(shape, default=0) < 0:
            return "a tensor has a side of negative length"
        if held is not None and len(held) and item and tensor.sparsity is None and prod(shape) * item != len(held):
            return "a tensor has more or fewer weights than its shape says"
    return ""


def parameters(model: Any) -> int:
    """Return the number of elements of all constant tensors."""
    constants = (
        tensor
        for graph in model.subgraphs
        for tensor in _given(graph.tensors)
        if (buffer := model.buffers[tensor.buffer]).size or (buffer.data is not None and len(buffer.data))
    )
    return sum(prod(int(side) for side in _given(tensor.shape)) for tensor in constants)


def quantized(model: Any) -> bool:
    """Tell whether any tensor holds integers that stand for numbers, or numbers in half precision."""
    return any(
        tensor.type == schema.TensorType.FLOAT16
        or (tensor.quantization is not None and len(_given(tensor.quantization.scale)) > 0)
        for graph in model.subgraphs
        for tensor in _given(graph.tensors)
    )


def pin(model: Any, shapes: Mapping[int, Sequence[int]]) -> None:
    """Give inputs of the main graph fixed shapes, by their index; when none is left free, nothing else is."""
    graph = model.subgraphs[0]
    for index, shape in shapes.items():
        graph.tensors[index].shape, graph.tensors[index].shapeSignature = list(shape), None
    if all(min(_given(graph.tensors[index].shapeSignature), default=0) >= 0 for index in graph.inputs):
        fix_batch(model)


def fix_batch(model: Any) -> None:
    """Make all free dimensions what they are by default, 1."""
    for graph in model.subgraphs:
        for tensor in _given(graph.tensors):
            tensor.shapeSignature = None


def transpose_output(model: Any, place: int, order: Sequence[int]) -> None:
    """Put a transposition behind an output of the main graph; its axis i is axis order[i] of what it was."""
    graph = model.subgraphs[0]
    graph.outputs = list(graph.outputs)
    before = graph.outputs[place]
    source = graph.tensors[before]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(order, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    axes, after = schema.TensorT(), schema.TensorT()
    axes.name, axes.type, axes.shape = source.name + b"/axes", schema.TensorType.INT32, [len(order)]
    axes.buffer = len(model.buffers) - 1
    after.name, after.type, after.buffer = source.name + b"/transposed", source.type, 0
    after.shape = [int(source.shape[axis]) for axis in order]
    if source.shapeSignature is not None and len(source.shapeSignature):
        after.shapeSignature = [int(source.shapeSignature[axis]) for axis in order]
    graph.tensors += [axes, after]
    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, schema.BuiltinOperator.TRANSPOSE)
    operator.inputs, operator.outputs = [before, len(graph.tensors) - 2], [len(graph.tensors) - 1]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    graph.operators.append(operator)
    graph.outputs[place] = len(graph.tensors) - 1
    for signature in _given(model.signatureDefs):
        for tensor in signature.outputs:
            if tensor.tensorIndex == before:
                tensor.tensorIndex = len(graph.tensors) - 1


def _opcode(model: Any, builtin: int) -> int:
    """Return the index of an operator's code, which is added if need be."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def smallest() -> bytes:
    """Return the smallest model that makes the runtime set itself up, `x` `[1]` in and max(x, 0) out."""
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = _VERSION, [schema.BufferT()], [], [graph]
    graph.tensors = []
    for name in (b"x", b"y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1], schema.TensorType.FLOAT32, 0
        graph.tensors.append(tensor)
    operator.opcodeIndex, operator.inputs, operator.outputs = _opcode(model, schema.BuiltinOperator.RELU), [0], [1]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    return _packed(model)
