"""Small models and data, made deterministically: a real classifier of 8x8 digits, and models that are broken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CLASSES = 10
FILTERS = 8
OPSET = 17
SEED = 5

Array = npt.NDArray[Any]


def digits() -> tuple[Array, Array]:
    """Return images `[N, 1, 8, 8]` in 0..1 and class ids `[N]`: noisy copies of ten random patterns."""
    random = np.random.default_rng(SEED)
    patterns = random.random((CLASSES, 1, SIDE, SIDE))
    labels = np.arange(200) % CLASSES
    images = np.clip(patterns[labels] + 0.35 * random.standard_normal((len(labels), 1, SIDE, SIDE)), 0, 1)
    return images.astype(np.float32), labels.astype(np.int64)


def _features(images: Array, kernel: Array) -> Array:
    """Return what convolution and ReLU make of images, `[N, FILTERS * 64]`."""
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    found = np.einsum("nijab,fab->nfij", windows, kernel[:, 0])
    return np.asarray(np.maximum(found, 0).reshape(len(images), -1))


def classifier(batch: int | str = "batch", *, side: int | str = SIDE) -> onnx.ModelProto:
    """Return a convolution with a linear readout that fits the digits: `image` in, `scores` `[batch, 10]` out."""
    random = np.random.default_rng(SEED)
    kernel = random.standard_normal((FILTERS, 1, 3, 3)) / 3
    images, labels = digits()
    features = _features(images, kernel)
    ridge = features.T @ features + 10.0 * np.eye(features.shape[1])
    readout = np.linalg.solve(ridge, features.T @ np.eye(CLASSES)[labels])
    weights = {"kernel": kernel, "readout": readout, "bias": np.zeros(CLASSES)}
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "readout", "bias"], ["scores"]),
    ]
    return model(
        nodes,
        {"image": (TensorProto.FLOAT, [batch, 1, side, side])},
        {"scores": (TensorProto.FLOAT, [batch, CLASSES])},
        {name: value.astype(np.float32) for name, value in weights.items()},
    )


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
    weights: dict[str, Array] | None = None,
    *,
    opsets: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """Return a model of nodes; opsets are versions by domain."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *facts) for name, facts in inputs.items()],
        [helper.make_tensor_value_info(name, *facts) for name, facts in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    versions = {"": OPSET, **(opsets or {})}
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def relu(dtype: int = TensorProto.FLOAT, shape: list[int | str] | None = None, opset: int = OPSET) -> onnx.ModelProto:
    """Return a model of one node: `x` in, `y` out."""
    size = shape or [1, 4]
    return model(
        [helper.make_node("Relu", ["x"], ["y"])], {"x": (dtype, size)}, {"y": (dtype, size)}, opsets={"": opset}
    )


def flat() -> onnx.ModelProto:
    """Return a model without weights for the digits' images."""
    shapes: dict[str, tuple[int, list[int | str]]] = {"image": (TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])}
    node = helper.make_node("Flatten", ["image"], ["scores"], axis=1)
    return model([node], shapes, {"scores": (TensorProto.FLOAT, ["batch", SIDE * SIDE])})


def foreign() -> onnx.ModelProto:
    """Return a model with an operator that ONNX Runtime has and OpenVINO has not: `x` `[2, 2]` in, its inverse out."""
    shapes: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, [2, 2])}
    node = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    return model([node], shapes, {"y": (TensorProto.FLOAT, [2, 2])}, opsets={"com.microsoft": 1})


def unrunnable() -> onnx.ModelProto:
    """Return a model that loads, but asks for a shape that no input can have when it is run."""
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Add", ["shape", "one"], ["larger"]),
        helper.make_node("Reshape", ["image", "larger"], ["scores"]),
    ]
    shapes: dict[str, tuple[int, list[int | str]]] = {"image": (TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])}
    outputs: dict[str, tuple[int, list[int | str]]] = {"scores": (TensorProto.FLOAT, ["a", "b", "c", "d"])}
    return model(nodes, shapes, outputs, {"one": np.ones(1, np.int64)})


def save(path: Path, made: onnx.ModelProto) -> Path:
    """Write a model with its weights inside."""
    onnx.save(made, path)
    return path


def save_outside(folder: Path, made: onnx.ModelProto, weights: str = "weights.bin") -> Path:
    """Write a model with its weights in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "outside.onnx"
    onnx.save(made, path, save_as_external_data=True, location=weights, size_threshold=0)
    return path


def save_data(path: Path, **arrays: Array) -> Path:
    """Write an Npz file."""
    np.savez(path, allow_pickle=True, **arrays)
    return path


def to_ir(source: Path, target: Path) -> None:
    """Write an ONNX model as OpenVINO's IR; to be run in a child process."""
    import openvino as ov  # noqa: PLC0415 - heavy

    ov.save_model(ov.Core().read_model(str(source)), str(target), compress_to_fp16=False)


def _unknown_operator() -> onnx.ModelProto:
    node = helper.make_node("Zauber", ["x"], ["y"])
    return model([node], {"x": (TensorProto.FLOAT, [1])}, {"y": (TensorProto.FLOAT, [1])})


def _foreign_operator() -> onnx.ModelProto:
    node = helper.make_node("Zauber", ["x"], ["y"], domain="acme")
    return model([node], {"x": (TensorProto.FLOAT, [1])}, {"y": (TensorProto.FLOAT, [1])}, opsets={"acme": 1})


def _wrong_shapes() -> onnx.ModelProto:
    weights = {"w": np.zeros((3, 5), np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model([node], {"x": (TensorProto.FLOAT, [1, 4])}, {"y": (TensorProto.FLOAT, [1, 5])}, weights)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "is empty"),
    "text": (lambda: b"this is no model at all", "is not an ONNX model, or is cut off"),
    "truncated": (lambda: classifier().SerializeToString()[:2000], "is not an ONNX model, or is cut off"),
    "a page": (lambda: b"<!DOCTYPE html><html>", "is an HTML page: the address answers with a page"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "unknown operator": (lambda: _unknown_operator().SerializeToString(), "No Op registered for Zauber"),
    "foreign operator": (
        lambda: _foreign_operator().SerializeToString(),
        "uses operators that are not part of ONNX: acme.Zauber; export the model with standard operators",
    ),
    "newer opset": (lambda: relu(opset=99).SerializeToString(), "uses opset 99; the newest one supported is"),
    "strings": (lambda: relu(TensorProto.STRING).SerializeToString(), "'x' holds strings"),
    "unservable type": (lambda: relu(TensorProto.BFLOAT16).SerializeToString(), "has the element type BFLOAT16"),
    "contradiction": (lambda: _wrong_shapes().SerializeToString(), "ONNX Runtime cannot load"),
}
"""Bad models: their bytes, and what the message says."""

FOREIGN: dict[str, tuple[bytes, str]] = {
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(64), r"looks like Keras \(HDF5\), which can hold code"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(64), "looks like GGUF"),
    "SafeTensors": (b"\x40\0\0\0\0\0\0\0" + b'{"__metadata__":{}}', "looks like SafeTensors"),
    "PyTorch": (b"PK\x03\x04" + bytes(64), "looks like a zip archive, as PyTorch"),
}
"""Models of formats that are not supported: their bytes, and what the message says."""
