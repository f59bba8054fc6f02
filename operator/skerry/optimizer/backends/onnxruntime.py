"""ONNX Runtime on the CPU."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

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

from skerry.api.types import Technique
from skerry.optimizer.backends.base import Array, Made, Source, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import ConfigurationError

MODEL_FILE: Final = "model.onnx"
LEVEL: Final = "graphOptimizationLevel"
_ALL: Final = {LEVEL: "All"}
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


class OnnxRuntimeSession:
    """A session on the CPU provider."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._first = [session.get_outputs()[0].name]

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


class OnnxRuntimeBackend:
    """Graph optimization, static and dynamic quantization."""

    def baseline_settings(self) -> dict[str, str]:
        """Return the settings of the reference runtime as people use it."""
        return dict(_ALL)

    def load(self, model: Path, settings: Mapping[str, str], threads: int) -> OnnxRuntimeSession:
        """Make a session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _LEVELS[settings.get(LEVEL, "All")]
        options.log_severity_level = 3
        return OnnxRuntimeSession(ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"]))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        pinned = work.folder / "pinned.onnx"
        onnx.save(read(work.source), str(pinned))
        target = work.folder / MODEL_FILE
        execution = "FP32"
        match work.request.technique:
            case Technique.GRAPH_OPTIMIZATION:
                self._optimized(pinned, target)
            case Technique.POST_TRAINING:
                self._static(pinned, target, work)
                execution = "INT8"
            case _:
                quantize_dynamic(pinned, target, weight_type=QuantType.QInt8, per_channel=True)
                execution = "INT8"
        for leftover in work.folder.iterdir():
            if leftover.name != MODEL_FILE:
                leftover.unlink()
        tools = {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx")}
        return Made(MODEL_FILE, dict(_ALL), execution, tools)

    def _optimized(self, source: Path, target: Path) -> None:
        """Write the graph as ONNX Runtime's hardware-independent optimizations leave it."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    def _static(self, source: Path, target: Path, work: Work) -> None:
        if work.calibration is None:
            message = "quantization of activations needs calibration or evaluation data"
            raise ConfigurationError(message)
        prepared = work.folder / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Reader(work.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_CALIBRATIONS[work.request.options.get("calibration", "MinMax")],
        )


def read(source: Source) -> Any:
    """Return the source model with its free dimensions pinned as the source says, weights inside."""
    model = onnx.load(str(source.path))
    for value in model.graph.input:
        for size, dimension in zip(source.shapes.get(value.name, []), value.type.tensor_type.shape.dim, strict=False):
            if size > 0:
                dimension.Clear()
                dimension.dim_value = size
    return model
