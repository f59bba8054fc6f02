"""OpenVINO and NNCF on the CPU."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import nncf
import numpy as np
import openvino as ov

from skerry.api.types import EvaluationMetric, Framework, Precision, Technique
from skerry.optimizer import accuracy
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.xml"
CPU: Final = "CPU"
PRECISION_HINT: Final = "INFERENCE_PRECISION_HINT"
_HALF_HINTS: Final = {"BF16": "bf16", "FP16": "f16"}
_PRESETS: Final = {"Mixed": nncf.QuantizationPreset.MIXED, "Performance": nncf.QuantizationPreset.PERFORMANCE}
DEFAULT_MAX_DROP_PERCENT: Final = "1.0"


class OpenVinoSession:
    """A compiled model with one request."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return a copy of the first output: the request's memory is used again."""
        self._request.infer(sample, share_inputs=True)
        return np.array(self._request.get_tensor(self._output).data)


class Tool:
    """Conversion, post-training and accuracy-aware quantization, weight compression."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> OpenVinoSession:
        """Compile a model for a device; only the CPU counts threads."""
        config = {**settings, "INFERENCE_NUM_THREADS": str(threads)} if device == CPU else dict(settings)
        return OpenVinoSession(ov.Core().compile_model(str(model), device, config))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        model = ov.Core().read_model(str(work.source.path))
        settings = dict(BASELINE_SETTINGS[Framework.OPENVINO])
        execution, remark = "FP32", ""
        half = work.request.precision is Precision.FP16
        match work.request.technique:
            case Technique.POST_TRAINING:
                model = _quantized(model, work)
                execution = "INT8"
            case Technique.ACCURACY_AWARE:
                model = _accuracy_aware(model, work)
                execution = "INT8"
            case Technique.WEIGHTS_ONLY:
                model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
                remark = "INT8 weights, computed in FP32"
            case _ if half and work.half_precision is not None:
                execution = work.half_precision
                settings[PRECISION_HINT] = _HALF_HINTS[execution]
            case _ if half:
                remark = "FP16 weights, computed in FP32, because the CPU has no fast half precision"
        ov.save_model(model, str(work.folder / MODEL_FILE), compress_to_fp16=half)
        tools = {name: importlib.metadata.version(name) for name in ("openvino", "nncf")}
        return Made(MODEL_FILE, settings, execution, tools, remark)


def _quantized(model: Any, work: Work) -> Any:
    samples = _samples(work.calibration)
    preset = _PRESETS[work.request.options.get("preset", "Mixed")]
    return _integers(nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), preset=preset))


def _accuracy_aware(model: Any, work: Work) -> Any:
    calibration = work.calibration
    samples = _samples(calibration)
    if calibration is None or calibration.labels is None or work.metric is None:
        message = "accuracy-aware quantization needs labels in the calibration data, and a metric"
        raise ConfigurationError(message)
    pairs = list(zip(samples, calibration.labels, strict=True))
    drop = float(work.request.options.get("maxDropPercent", DEFAULT_MAX_DROP_PERCENT))
    return _integers(
        nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset(samples),
            validation_dataset=nncf.Dataset(pairs, lambda pair: pair[0]),
            validation_fn=_validator(work.metric),
            max_drop=drop / 100.0,
            drop_type=nncf.DropType.RELATIVE,
            subset_size=len(samples),
            preset=_PRESETS[work.request.options.get("preset", "Mixed")],
        )
    )


def _samples(calibration: Samples | None) -> list[Sample]:
    if calibration is None:
        message = "quantizing activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    return [calibration.sample(index) for index in range(len(calibration))]


def _integers(model: Any) -> Any:
    """Refuse a quantized model in which nothing is quantized.

    Raises:
        BadModelError: It is the source model in other words.
    """
    if not any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
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
