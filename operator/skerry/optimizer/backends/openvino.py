"""OpenVINO and NNCF."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nncf
import numpy as np
import openvino as ov
from nncf.openvino.quantization.backend_parameters import BackendParameters
from nncf.quantization.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedCompressionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    GroupSizeFallbackMode,
    QuantizationParameters,
)
from nncf.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

from skerry.api.types import EvaluationMetric, Framework, ModelFormat, ModelKind, Precision, Technique
from skerry.optimizer import accuracy
from skerry.optimizer.backends import calibration, sensitivity
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Work
from skerry.optimizer.backends.openvino_layers import CPU, in_floating_point, is_quantized
from skerry.optimizer.backends.openvino_layers import sensitivity as measured_sensitivity
from skerry.optimizer.backends.sensitivity import Sensitivity
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.xml"
NPU: Final = "NPU"
PRECISION_HINT: Final = "INFERENCE_PRECISION_HINT"
PERFORMANCE_HINT: Final = "PERFORMANCE_HINT"
NUMBER_OF_REQUESTS: Final = "PERFORMANCE_HINT_NUM_REQUESTS"
NUMBER_OF_STREAMS: Final = "NUM_STREAMS"
DEFAULT_MAX_DROP_PERCENT: Final = "1.0"
DEFAULT_SMOOTHING_PERCENT: Final = "95"
_HALF_HINTS: Final = {"BF16": "bf16", "FP16": "f16"}
_PRESETS: Final = {"Mixed": nncf.QuantizationPreset.MIXED, "Performance": nncf.QuantizationPreset.PERFORMANCE}
# By itself NNCF takes the mean over the samples of each one's extremes, which cuts off the widest samples.
_RANGES: Final = {
    "MinMax": RangeEstimatorParametersSet.MINMAX,
    "Percentile": RangeEstimatorParameters(
        min=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MIN, quantile_outlier_prob=1e-3),
        max=StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MAX, quantile_outlier_prob=1e-3),
    ),
}
_EIGHT_BITS: Final = {
    "Asymmetric": nncf.CompressWeightsMode.INT8_ASYM,
    "Symmetric": nncf.CompressWeightsMode.INT8_SYM,
}
_FOUR_BITS: Final = {
    "Asymmetric": nncf.CompressWeightsMode.INT4_ASYM,
    "Symmetric": nncf.CompressWeightsMode.INT4_SYM,
}
_FOUR_BIT_TYPES: Final = frozenset({"i4", "u4"})
_PERCENT: Final = 100.0
_OFF: Final = -1.0


class OpenVinoSession:
    """A compiled model with one request."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return a copy of the first output: the request's memory is used again."""
        self._request.infer(sample, share_inputs=True)
        return np.array(self._request.get_tensor(self._output).data)


@dataclass(frozen=True)
class _Result:
    """What became of a model, and what is to be said of it."""

    model: Any
    remarks: tuple[str, ...] = ()
    sensitivity: Sensitivity = ()


class Tool:
    """Conversion, post-training and accuracy-aware quantization, weight compression."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> OpenVinoSession:
        """Compile a model for a device; only the CPU counts threads."""
        config = {**settings, "INFERENCE_NUM_THREADS": str(threads)} if device == CPU else dict(settings)
        return OpenVinoSession(ov.Core().compile_model(str(model), device, config))

    def streams(
        self, model: Path, settings: Mapping[str, str], threads: int, device: str, count: int
    ) -> Sequence[OpenVinoSession]:
        """Compile a model for several requests at once; the CPU divides its threads among them."""
        config = {**settings, NUMBER_OF_REQUESTS: str(count), PERFORMANCE_HINT: "THROUGHPUT"}
        if device == CPU:
            config = {**settings, NUMBER_OF_STREAMS: str(count), "INFERENCE_NUM_THREADS": str(threads)}
        compiled = ov.Core().compile_model(str(model), device, config)
        return [OpenVinoSession(compiled) for _ in range(count)]

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        model = _fitting(_read(work), work.device)
        match work.request.technique:
            case Technique.POST_TRAINING:
                result = _quantized(model, work)
            case Technique.ACCURACY_AWARE:
                result = _accuracy_aware(model, work)
            case Technique.WEIGHTS_ONLY:
                result = _compressed(model, work)
            case _:
                result = _Result(model)
        half = work.request.precision is Precision.FP16
        ov.save_model(result.model, str(work.folder / MODEL_FILE), compress_to_fp16=half)
        execution, settings, told = execution_of(work)
        tools = {name: importlib.metadata.version(name) for name in ("openvino", "nncf")}
        remark = "; ".join([*result.remarks, *([told] if told else [])])
        return Made(MODEL_FILE, settings, execution, tools, remark, result.sensitivity)


_INTEGERS: Final = frozenset({Technique.POST_TRAINING, Technique.ACCURACY_AWARE})
Execution = tuple[str, dict[str, str], str]
"""The precision in which a candidate computes, the settings for that, and what a person should know."""


def execution_of(work: Work) -> Execution:
    """Return how a candidate computes on its device; what is not quantized is FP32 on the CPU, FP16 elsewhere."""
    return _on_cpu(work) if work.device == CPU else _elsewhere(work)


def _on_cpu(work: Work) -> Execution:
    settings, half = dict(BASELINE_SETTINGS[Framework.OPENVINO]), work.half_precision
    if work.request.technique in _INTEGERS:
        return "INT8", settings, ""
    if work.request.technique is Technique.WEIGHTS_ONLY:
        return "FP32", settings, f"{work.request.precision} weights, computed in FP32"
    if work.request.precision is not Precision.FP16:
        return "FP32", settings, ""
    if half is None:
        return "FP32", settings, "FP16 weights, computed in FP32, because the CPU has no fast half precision"
    return half, {**settings, PRECISION_HINT: _HALF_HINTS[half]}, ""


def _elsewhere(work: Work) -> Execution:
    full, npu = work.request.precision is Precision.FP32, work.device.startswith(NPU)
    settings = {PERFORMANCE_HINT: "LATENCY"}
    if not npu:  # the NPU's compiler has no FP32 and takes no hint
        settings[PRECISION_HINT] = "f32" if full else "f16"
    if work.request.technique in _INTEGERS:
        return "INT8", settings, ""
    if work.request.technique is Technique.WEIGHTS_ONLY:
        return "FP16", settings, f"{work.request.precision} weights, computed in FP16"
    if full and npu:
        return "FP16", settings, "the NPU has no FP32: it computes in FP16"
    return ("FP32" if full else "FP16"), settings, ""


def _read(work: Work) -> Any:
    """Return the source model, its constants folded.

    As the ONNX reader alone leaves them, biases are computed from shapes, and NNCF corrects none that it does not see.
    """
    path = str(work.source.path)
    return ov.convert_model(path) if work.source.format is ModelFormat.ONNX else ov.Core().read_model(path)


def _fitting(model: Any, device: str) -> Any:
    """Return the model as the device takes it: for the NPU with fixed shapes.

    Raises:
        BadModelError: A dimension that is not the batch is free.
    """
    if not device.startswith(NPU) or not model.is_dynamic():
        return model
    shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
    for shape in shapes.values():
        if len(shape) and shape[0].is_dynamic:
            shape[0] = 1
    model.reshape(shapes)
    if model.is_dynamic():
        free = [name for name, shape in shapes.items() if shape.is_dynamic]
        where = f"the input {', '.join(map(repr, free))} leaves some free" if free else "shapes within the model vary"
        message = f"the NPU needs fixed shapes, but {where}: pin them in spec.inputs, or export the model with them"
        raise BadModelError(message)
    return model


def _quantized(model: Any, work: Work) -> _Result:
    samples = calibration.required(work.calibration)
    count = int(float(work.request.options.get("keepSensitive", "0")))
    found: Sensitivity = ()
    if count:
        bare = _quantize(model.clone(), work, samples, _advanced(work, probing=True))
        found = measured_sensitivity(model, _integers(bare), calibration.sampled(samples))
    names = sensitivity.worst(found, count)
    quantized = _integers(_quantize(model, work, samples, _advanced(work), names))
    remarks = calibration.remarks(samples)
    return _Result(quantized, (*remarks, *([sensitivity.kept(names)] if names else [])), found)


def _quantize(
    model: Any, work: Work, samples: Samples, advanced: AdvancedQuantizationParameters, ignored: Iterable[str] = ()
) -> Any:
    return nncf.quantize(
        model,
        nncf.Dataset(_rows(samples)),
        subset_size=len(samples),
        preset=_PRESETS[work.request.options.get("preset", "Mixed")],
        fast_bias_correction=work.request.options.get("biasCorrection", "Fast") != "Accurate",
        model_type=_model_type(work),
        ignored_scope=nncf.IgnoredScope(names=list(ignored)),
        advanced_parameters=advanced,
    )


def _smooths(work: Work) -> bool:
    by_itself = "On" if work.source.kind is ModelKind.TRANSFORMER else "Off"
    return work.request.options.get("smoothQuant", by_itself) == "On"


def _model_type(work: Work) -> Any:
    """Return NNCF's type of the model, without which it does not smooth."""
    transformer = work.source.kind is ModelKind.TRANSFORMER or _smooths(work)
    return nncf.ModelType.TRANSFORMER if transformer else None


def _advanced(work: Work, *, probing: bool = False) -> AdvancedQuantizationParameters:
    """Return NNCF's advanced parameters; for probing with weights that can be had back, and no bias corrected."""
    options = work.request.options
    strength = float(options.get("smoothPercent", DEFAULT_SMOOTHING_PERCENT)) / _PERCENT
    advanced = AdvancedQuantizationParameters(
        disable_bias_correction=probing or options.get("biasCorrection") == "Off",
        smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=strength if _smooths(work) else _OFF),
        backend_params={BackendParameters.COMPRESS_WEIGHTS: not probing},
    )
    if options.get("granularity") == "PerTensor":
        advanced.activations_quantization_params = QuantizationParameters(per_channel=False)
    if (wanted := options.get("range", "Mean")) != "Mean":
        advanced.activations_range_estimator_params = _RANGES[wanted]
    return advanced


def _accuracy_aware(model: Any, work: Work) -> _Result:
    samples = calibration.required(work.calibration)
    if samples.labels is None or work.metric is None:
        message = "accuracy-aware quantization needs labels in the calibration data, and a metric"
        raise ConfigurationError(message)
    rows = _rows(samples)
    drop = float(work.request.options.get("maxDropPercent", DEFAULT_MAX_DROP_PERCENT))
    before = set(in_floating_point(model))
    quantized = _integers(
        nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset(rows),
            validation_dataset=nncf.Dataset(list(zip(rows, samples.labels, strict=True)), lambda pair: pair[0]),
            validation_fn=_validator(work.metric),
            max_drop=drop / _PERCENT,
            drop_type=nncf.DropType.RELATIVE,
            subset_size=len(samples),
            preset=_PRESETS[work.request.options.get("preset", "Mixed")],
            model_type=_model_type(work),
            advanced_quantization_parameters=_advanced(work),
            # By itself NNCF takes as many as memory and timing allow, so that no two runs need the same memory.
            advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(num_ranking_workers=1),
        )
    )
    names = [name for name in in_floating_point(quantized) if name in before]
    return _Result(quantized, (*calibration.remarks(samples), *([sensitivity.kept(names)] if names else [])))


def _compressed(model: Any, work: Work) -> _Result:
    """Return the model with narrow weights.

    Raises:
        BadModelError: No weight became narrower.
    """
    options = work.request.options
    if work.request.precision is Precision.INT8:
        return _Result(nncf.compress_weights(model, mode=_EIGHT_BITS[options.get("mode", "Asymmetric")]))
    ratio = float(options.get("ratioPercent", "100")) / _PERCENT
    size = int(options.get("groupSize", "64"))
    compressed = nncf.compress_weights(
        model,
        mode=_FOUR_BITS[options.get("mode", "Symmetric")],
        ratio=ratio,
        group_size=size,
        # Else NNCF leaves embeddings and the last layer in eight bits, whatever the ratio.
        all_layers=ratio >= 1.0,
        advanced_parameters=AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST),
    )
    narrow = [node for node in compressed.get_ops() if node.get_type_name() == "Constant"]
    if ratio > 0 and not any(node.get_element_type().get_type_name() in _FOUR_BIT_TYPES for node in narrow):
        message = (
            "no weight could be given four bits: the model has no matrix product or embedding with enough rows for "
            f"groups of {size}"
        )
        raise BadModelError(message)
    return _Result(compressed)


def _rows(samples: Samples) -> list[Sample]:
    return [samples.sample(index) for index in range(len(samples))]


def _integers(model: Any) -> Any:
    """Refuse a quantized model in which nothing is quantized.

    Raises:
        BadModelError: It is the source model in other words.
    """
    if not is_quantized(model):
        message = "there is nothing to quantize: the model has no convolutions or matrix products with constant weights"
        raise BadModelError(message)
    return model


def _validator(metric: EvaluationMetric) -> Callable[[Any, Iterable[Any]], tuple[float, list[float]]]:
    """Return NNCF's validation function: the metric and what each sample is worth.

    Both are above 0 and more is better, because NNCF takes the drop relative to the first: an error e counts as
    1/(1 + e), with e in units of the mean target.
    """

    def validate(compiled: Any, pairs: Iterable[tuple[Sample, Array]]) -> tuple[float, list[float]]:
        output = compiled.output(0)
        outputs, labels = [], []
        for sample, label in pairs:
            outputs.append(np.array(compiled(sample)[output]))
            labels.append(label)
        found, wanted = np.concatenate(outputs), np.stack(labels)
        if metric is EvaluationMetric.MEAN_ABSOLUTE_ERROR:
            errors = np.abs(found - wanted).reshape(len(wanted), -1).mean(axis=1)
            scores = 1.0 / (1.0 + errors / max(float(np.abs(wanted).mean()), np.finfo(np.float32).tiny))
        else:
            scores = accuracy.score(metric, found, wanted, found).scores
        value = accuracy.macro_f1(accuracy.classes(found), wanted) if metric is EvaluationMetric.F1 else scores.mean()
        return float(value), [float(score) for score in scores]

    return validate
