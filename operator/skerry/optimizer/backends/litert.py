"""LiteRT: conversion by onnx2tf, quantization by ai-edge-quantizer, execution by XNNPACK on the CPU.

Integer models for devices without floating point want integers: what they are fed is quantized with the parameters in
the file, and what comes out is turned back, wherever such a model runs. That costs time, which is measured as well.
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer, recipe, recipe_manager

from skerry.api.types import ModelFormat, Precision, Technique
from skerry.optimizer.backends import calibration, tflite_file
from skerry.optimizer.backends.base import Array, Made, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.tflite"
DEVICE: Final = "CPU"
INTEGER_INTERFACE: Final = {"interface": "integer"}
"""Setting of models that take integers where the source model takes numbers: whoever runs one turns them to and fro."""
_FLOAT_INTERFACE: Final[list[dict[str, Any]]] = [
    {"regex": ".*", "operation": operation, "algorithm_key": "no_quantize", "op_config": {}}
    for operation in ("INPUT", "OUTPUT")
]
_SIGNATURE: Final = "serving_default"
_CALIBRATION_THREADS: Final = 2


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded model.

    Attributes:
        name: Its name in the model's signature; that of the tensor where there is no signature.
        index: Index of the tensor.
        dtype: Its element type.
        shape: Its shape; -1 stands for a dimension that is free.
        scale: What one step of its integers means; 0 when it is not quantized.
        zero: The integer that means 0.
    """

    name: str
    index: int
    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    scale: float
    zero: int

    def quantized(self, array: Array) -> Array:
        """Return numbers as the tensor's integers."""
        limits = np.iinfo(np.dtype(self.dtype))
        steps = np.rint(array / self.scale) + self.zero
        return np.asarray(np.clip(steps, limits.min, limits.max), self.dtype)

    def told(self, array: Array) -> Array:
        """Return the tensor's integers as numbers."""
        return np.asarray((array.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale))


def _port(detail: Mapping[str, Any], names: Mapping[int, str]) -> Port:
    scale, zero = detail["quantization"]
    signature = detail["shape_signature"]
    return Port(
        name=names.get(int(detail["index"]), str(detail["name"])),
        index=int(detail["index"]),
        dtype=detail["dtype"],
        shape=tuple(int(size) for size in (signature if len(signature) else detail["shape"])),
        scale=float(scale),
        zero=int(zero),
    )


def ports(interpreter: Any) -> tuple[list[Port], list[Port]]:
    """Return the inputs and outputs of a model, in the order of its main graph."""
    names: dict[int, str] = {}
    if (key := signature_of(interpreter)) is not None:
        runner = interpreter.get_signature_runner(key)
        for details in (runner.get_input_details(), runner.get_output_details()):
            names.update({int(detail["index"]): str(name) for name, detail in details.items()})
    inputs = [_port(detail, names) for detail in interpreter.get_input_details()]
    return inputs, [_port(detail, names) for detail in interpreter.get_output_details()]


def signature_of(interpreter: Any) -> str | None:
    """Return the name of the signature that counts: the usual one, or the only one; None without any."""
    keys = list(interpreter.get_signature_list())
    return _SIGNATURE if _SIGNATURE in keys else str(keys[0]) if len(keys) == 1 else None


class LiteRtSession:
    """An interpreter with its tensors allocated."""

    def __init__(self, interpreter: Any, *, integers: bool) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._inputs, (self._output, *_) = ports(interpreter)
        self._shapes = {port.name: tuple(max(size, 1) for size in port.shape) for port in self._inputs}
        self._integers = integers

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return a copy of the first output."""
        self._fit(sample)
        for port in self._inputs:
            array = sample[port.name]
            turned = self._integers and bool(port.scale) and array.dtype.kind == "f"
            self._interpreter.set_tensor(port.index, port.quantized(array) if turned else array)
        self._interpreter.invoke()
        found = np.asarray(self._interpreter.get_tensor(self._output.index))
        return self._output.told(found) if self._integers and self._output.scale else found

    def _fit(self, sample: Sample) -> None:
        """Give the inputs the shapes of a sample."""
        changed = [port for port in self._inputs if sample[port.name].shape != self._shapes[port.name]]
        for port in changed:
            self._shapes[port.name] = sample[port.name].shape
            self._interpreter.resize_tensor_input(port.index, list(self._shapes[port.name]), strict=True)
        if changed:
            self._interpreter.allocate_tensors()


class Tool:
    """Conversion, full integer and dynamic range quantization, weights in half precision."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> LiteRtSession:
        """Load a model for the CPU.

        Raises:
            ConfigurationError: The device is another one.
        """
        if device != DEVICE:
            message = f"LiteRT runs models on {DEVICE} here, not on {device}"
            raise ConfigurationError(message)
        interpreter = Interpreter(model_path=str(model), num_threads=threads)
        return LiteRtSession(interpreter, integers=INTEGER_INTERFACE.items() <= settings.items())

    def warm(self, threads: int, device: str) -> LiteRtSession:
        """Return a session with the smallest model, run once."""
        del device
        interpreter = Interpreter(model_content=tflite_file.smallest(), num_threads=threads)
        session = LiteRtSession(interpreter, integers=False)
        session.infer({"x": np.zeros(1, np.float32)})
        return session

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        target = work.folder / MODEL_FILE
        with tempfile.TemporaryDirectory(dir=work.folder.parent, prefix="litert-") as scratch:
            model = float_model(work, Path(scratch))
            settings, execution, remark = quantized(model, work, target)
        return Made(MODEL_FILE, settings, execution, tools(work.source.format), remark)


def tools(source: ModelFormat) -> dict[str, str]:
    """Return the versions of the tools that worked on a source of a format."""
    converters = ["onnx2tf"] if source is ModelFormat.ONNX else []
    return {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "ai-edge-quantizer", *converters)}


def float_model(work: Work, scratch: Path) -> Path:
    """Return the source as a LiteRT model, converted if need be.

    Raises:
        BadModelError: It cannot be converted, or is quantized already.
    """
    if work.source.format is ModelFormat.TFLITE:
        if tflite_file.quantized(tflite_file.read(work.source.path)):
            message = "the source model is quantized already: give the one in floating point that it was made from"
            raise BadModelError(message)
        return work.source.path
    from skerry.optimizer.backends.tflite_conversion import converted  # noqa: PLC0415 - heavy

    return converted(work.source, scratch)


def quantized(model: Path, work: Work, target: Path) -> tuple[dict[str, str], str, str]:
    """Write a model in the precision that is wanted; return settings, execution precision and a remark."""
    options = work.request.options
    match work.request.technique, work.request.precision:
        case Technique.POST_TRAINING, _:
            wide, integer = options.get("activations") == "Int16", options.get("interface") == "Integer"
            wish = recipe.static_wi8_ai16() if wide else recipe.static_wi8_ai8()
            remark = full_integer(model, wish if integer else [*wish, *_FLOAT_INTERFACE], work, target)
            return dict(INTEGER_INTERFACE) if integer else {}, "A16W8" if wide else "INT8", remark
        case Technique.DYNAMIC, _:
            _quantize(model, recipe.dynamic_wi8_afp32(), target)
            return {}, "INT8", "activations are quantized while it runs"
        case Technique.WEIGHTS_ONLY, _:
            _quantize(model, recipe.weight_only_wi8_afp32(), target)
            return {}, "FP32", "INT8 weights, computed in FP32"
        case _, Precision.FP16:
            _quantize(model, _halves(), target)
            return {}, "FP32", "FP16 weights, computed in FP32"
    shutil.copyfile(model, target)
    return {}, "FP32", ""


def full_integer(model: Path, wish: Any, work: Work, target: Path) -> str:
    """Write a model with integer weights and activations; return what a person should know of the calibration data."""
    samples = calibration.required(work.calibration)
    _quantize(model, wish, target, samples)
    return "; ".join(calibration.remarks(samples))


def _halves() -> Any:
    """Return the recipe for weights in half precision."""
    manager = recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=recipe_manager.AlgorithmName.FLOAT_CASTING,
    )
    return manager.get_quantization_recipe()


def _quantize(model: Path, wish: Any, target: Path, samples: Samples | None = None) -> None:
    """Write a model quantized by a recipe.

    Raises:
        BadModelError: There is nothing to quantize, or the model has no signature.
    """
    interpreter = Interpreter(model_path=str(model))
    tool = quantizer.Quantizer(str(model))
    tool.load_quantization_recipe(wish)
    statistics = None
    if samples is not None:
        key = signature_of(interpreter)
        if key is None:
            message = "the model has no signature, by which it is calibrated: convert it with a newer converter"
            raise BadModelError(message)
        data = [samples.sample(row) for row in range(len(samples))]
        statistics = tool.calibrate({key: data}, num_threads=_CALIBRATION_THREADS)
    target.write_bytes(tool.quantize(statistics).quantized_model)
    if not tflite_file.quantized(tflite_file.read(target)):
        message = "there is nothing to quantize: the model has no operators with weights that ai-edge-quantizer knows"
        raise BadModelError(message)


def programs_of_this_environment() -> None:
    """Let tools find the programs that were installed beside this Python."""
    own = str(Path(sys.executable).parent)
    if own not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
