"""ONNX Runtime on the CPU."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from skerry.api.types import Framework, Technique
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.onnx"
LEVEL: Final = "graphOptimizationLevel"
PROVIDER: Final = "CPUExecutionProvider"
_LEVELS: Final = {
    "All": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "Extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "Basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}
_CALIBRATIONS: Final = {
    "MinMax": CalibrationMethod.MinMax,
    "Entropy": CalibrationMethod.Entropy,
    "Percentile": CalibrationMethod.Percentile,
}
# Convolutions are left out: ONNX Runtime's integer convolution without known activation ranges is slower than FP32.
_DYNAMIC_OPERATORS: Final = ["MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization"]
_ERRORS_ONLY: Final = 3


class OnnxRuntimeSession:
    """A session on the CPU provider."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._first = [session.get_outputs()[0].name]

    @property
    def output_shapes(self) -> dict[str, list[int]]:
        """Shapes of the outputs as ONNX Runtime infers them; -1 stands for a dimension that is free."""
        return {
            output.name: [size if isinstance(size, int) else -1 for size in output.shape]
            for output in self._session.get_outputs()
        }

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        return np.asarray(self._session.run(self._first, sample)[0])


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives ONNX Runtime one sample after the other."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._rows = self._iterate()

    def _iterate(self) -> Iterator[Sample]:
        return (self._samples.sample(index) for index in range(len(self._samples)))

    def get_next(self) -> Sample | None:
        return next(self._rows, None)

    def rewind(self) -> None:
        self._rows = self._iterate()


def _options(level: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = _ERRORS_ONLY
    return options


class Tool:
    """Graph optimization, static and dynamic quantization."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> OnnxRuntimeSession:
        """Make a session on a provider, without a fallback to the CPU.

        Raises:
            ConfigurationError: This ONNX Runtime does not have the provider.
        """
        if device not in ort.get_available_providers():
            message = f"this ONNX Runtime has no {device}; it has {', '.join(ort.get_available_providers())}"
            raise ConfigurationError(message)
        options = _options(settings.get(LEVEL, "All"))
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if device != PROVIDER:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return OnnxRuntimeSession(ort.InferenceSession(str(model), options, providers=[device]))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        target = work.folder / MODEL_FILE
        execution, remark = "INT8", ""
        match work.request.technique:
            case Technique.GRAPH_OPTIMIZATION:
                _optimize(work.source.path, target)
                execution = "FP32"
            case Technique.POST_TRAINING:
                remark = _quantize_static(work, target)
            case _:
                _quantize_dynamic(work, target)
        tools = {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx")}
        return Made(MODEL_FILE, dict(BASELINE_SETTINGS[Framework.ONNX_RUNTIME]), execution, tools, remark)


def _optimize(source: Path, target: Path) -> None:
    """Write the graph as ONNX Runtime's hardware-independent optimizations leave it."""
    options = _options("Extended")
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=[PROVIDER])


def _prepared(work: Work) -> Path:
    """Return the model with shapes inferred and layers fused, as the quantizers want it."""
    prepared = work.folder.with_suffix(".prepared.onnx")
    # Symbolic shape inference helps transformers only, and fails on some of them.
    quant_pre_process(work.source.path, prepared, skip_symbolic_shape=True)
    return prepared


def _quantize_static(work: Work, target: Path) -> str:
    if work.calibration is None:
        message = "quantizing activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    prepared = _prepared(work)
    quantize_static(
        prepared,
        target,
        _Reader(work.calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=_CALIBRATIONS[work.request.options.get("calibration", "MinMax")],
        # Without VNNI, products of 8-bit unsigned and signed numbers overflow 16 bits: 7-bit weights do not.
        reduce_range=not work.native_int8,
    )
    prepared.unlink()
    _require_integers(target, ("QuantizeLinear",), "convolutions or matrix products")
    return "" if work.native_int8 else "7-bit weights, because the CPU has no instruction for 8-bit dot products"


def _quantize_dynamic(work: Work, target: Path) -> None:
    prepared = _prepared(work)
    quantize_dynamic(
        prepared,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=_DYNAMIC_OPERATORS,
        reduce_range=not work.native_int8,
    )
    prepared.unlink()
    _require_integers(target, ("MatMulInteger", "DynamicQuantizeLinear", "QAttention"), "matrix products or LSTMs")


def _require_integers(model: Path, operators: tuple[str, ...], wanted: str) -> None:
    """Refuse a quantized model in which nothing is quantized.

    Raises:
        BadModelError: It is the source model in other words.
    """
    graph = onnx.load(str(model), load_external_data=False).graph
    if not any(node.op_type.startswith(operators) for node in graph.node):
        message = f"there is nothing to quantize: the model has no {wanted} with constant weights"
        raise BadModelError(message)
