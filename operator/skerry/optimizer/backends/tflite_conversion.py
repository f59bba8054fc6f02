"""From ONNX to TFLite by onnx2tf, checked against ONNX Runtime."""

import contextlib
import io
import re
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx2tf
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter

from skerry.optimizer.backends import tflite_file
from skerry.optimizer.backends.base import Array, Source
from skerry.optimizer.backends.litert import ports, programs_of_this_environment
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadModelError

_TOLERANCE: Final = 0.01
_SEED: Final = 3
_ERRORS_ONLY: Final = 3
_NAME: Final = "model"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN_LINES: Final = 5


def converted(source: Source, scratch: Path) -> Path:
    """Return an ONNX model as a TFLite model with the same inputs and outputs, in names, order and layout.

    Raises:
        BadModelError: onnx2tf cannot convert it, or what it makes computes something else.
    """
    # onnx2tf writes into the file that it is given: it gets one of its own.
    model = onnx.load(str(source.path))
    copy = scratch / f"{_NAME}.onnx"
    onnx.save(model, str(copy))
    session = _session(copy)
    inputs = {tensor.name: _example(tensor) for tensor in session.get_inputs()}
    expected = session.run(None, inputs)
    made = _run_onnx2tf(copy, list(inputs), scratch / "made")
    outputs = _outputs(made, inputs)
    if len(outputs) != len(expected):
        message = f"onnx2tf made a model with {len(outputs)} outputs of one with {len(expected)}"
        raise BadModelError(message)
    return _straightened(made, [_order(*pair) for pair in zip(expected, outputs, strict=True)])


def _session(model: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _example(tensor: Any) -> Array:
    """Return numbers between 0 and 1, or small integers, in the shape and type of an ONNX input."""
    random = np.random.default_rng(_SEED)
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in tensor.shape]
    if tensor.type in {"tensor(float)", "tensor(float16)", "tensor(double)"}:
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}[tensor.type]
        return random.random(shape).astype(kind)
    name = tensor.type.removeprefix("tensor(").removesuffix(")")
    return random.integers(0, 2, shape).astype(name)


def _run_onnx2tf(copy: Path, inputs: Sequence[str], folder: Path) -> Path:
    """Return the model in floating point that onnx2tf makes.

    Raises:
        BadModelError: It cannot.
    """
    programs_of_this_environment()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            onnx2tf.convert(
                input_onnx_file_path=str(copy),
                output_folder_path=str(folder),
                keep_shape_absolutely_input_names=list(inputs),
                non_verbose=True,
                verbosity="error",
            )
    except SystemExit as error:  # its way to end after it has said what is wrong
        message = f"onnx2tf cannot convert the model: {_complaint(said.getvalue())}"
        raise BadModelError(message) from error
    except Exception as error:
        message = f"onnx2tf cannot convert the model: {summary(error)}"
        raise BadModelError(message) from error
    made = folder / f"{_NAME}_float32.tflite"
    if not made.is_file():
        message = "onnx2tf made no model in floating point"
        raise BadModelError(message)
    return made


def _complaint(text: str) -> str:
    """Return what a tool said in the end, without colours."""
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    return " ".join(lines[-_SHOWN_LINES:]) or "it did not say why"


def _outputs(made: Path, inputs: dict[str, Array]) -> list[Array]:
    """Return the outputs of the model that was made.

    Raises:
        BadModelError: Its inputs have other names or shapes, or LiteRT cannot run it.
    """
    interpreter = Interpreter(model_path=str(made))
    found, outputs = ports(interpreter)
    shapes = {port.name: (tuple(max(size, 1) for size in port.shape), np.dtype(port.dtype)) for port in found}
    if (wanted := {name: (array.shape, array.dtype) for name, array in inputs.items()}) != shapes:
        message = f"onnx2tf changed the model's inputs from {wanted} to {shapes}"
        raise BadModelError(message)
    try:
        interpreter.allocate_tensors()
        for port in found:
            interpreter.set_tensor(port.index, inputs[port.name])
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        message = f"LiteRT cannot run what onnx2tf made of the model: {summary(error)}"
        raise BadModelError(message) from error
    return [np.asarray(interpreter.get_tensor(port.index)) for port in outputs]


def _order(expected: Array, found: Array) -> tuple[int, ...]:
    """Return in which order the axes of an output must be put so that it is as it was: onnx2tf moves channels.

    Raises:
        BadModelError: No order helps.
    """
    scale = max(float(np.abs(expected).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    axes = range(1, found.ndim)
    orders = [(0, *moved) for moved in permutations(axes)] if found.ndim > 1 else [tuple(range(found.ndim))]
    for order in orders:
        turned = np.transpose(found, order)
        if turned.shape == expected.shape and np.allclose(turned, expected, rtol=0.0, atol=_TOLERANCE * scale):
            return order
    message = f"what onnx2tf made of the model computes something else: {list(found.shape)} for {list(expected.shape)}"
    raise BadModelError(message)


def _straightened(made: Path, orders: Sequence[tuple[int, ...]]) -> Path:
    """Return the model with outputs in the layout that they had."""
    turned = {place: order for place, order in enumerate(orders) if order != tuple(sorted(order))}
    if not turned:
        return made
    model = tflite_file.read(made)
    for place, order in turned.items():
        tflite_file.transpose_output(model, place, order)
    target = made.with_name("straightened.tflite")
    tflite_file.write(model, target)
    return target
