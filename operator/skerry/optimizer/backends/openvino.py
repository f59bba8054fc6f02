"""OpenVINO and NNCF on the CPU."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import nncf
import numpy as np
import openvino as ov

from skerry.api.types import EvaluationMetric, Technique
from skerry.optimizer.accuracy import macro_f1
from skerry.optimizer.backends.base import Array, Made, Source, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import ConfigurationError

MODEL_FILE: Final = "model.xml"
PRECISION_HINT: Final = "INFERENCE_PRECISION_HINT"
# Without the hint the CPU plugin computes FP32 models in BF16 where it can, and every gain would be understated.
FULL_PRECISION: Final = {PRECISION_HINT: "f32", "PERFORMANCE_HINT": "LATENCY"}
_HALF_HINTS: Final = {"BF16": "bf16", "FP16": "f16"}
_PRESETS: Final = {"Mixed": nncf.QuantizationPreset.MIXED, "Performance": nncf.QuantizationPreset.PERFORMANCE}
DEFAULT_MAX_DROP_PERCENT: Final = "1.0"


class OpenVinoSession:
    """A compiled model with one request."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        self._request.infer(sample, share_inputs=True)
        return np.array(self._request.get_tensor(self._output).data)


class OpenVinoBackend:
    """Conversion, post-training and accuracy-aware quantization, weight compression."""

    def baseline_settings(self) -> dict[str, str]:
        """Return the settings of true FP32."""
        return dict(FULL_PRECISION)

    def load(self, model: Path, settings: Mapping[str, str], threads: int) -> OpenVinoSession:
        """Compile a model for the CPU."""
        config = {**settings, "INFERENCE_NUM_THREADS": str(threads)}
        return OpenVinoSession(ov.Core().compile_model(str(model), "CPU", config))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        model = read(work.source)
        settings, execution, remark = dict(FULL_PRECISION), "FP32", ""
        compress = False
        match work.request.technique:
            case Technique.CONVERSION if work.request.precision == "FP16":
                compress = True
                if work.half_precision is not None:
                    settings[PRECISION_HINT] = _HALF_HINTS[work.half_precision]
                    execution = work.half_precision
                else:
                    remark = "the CPU has no fast half precision: FP16 weights, computed in FP32"
            case Technique.POST_TRAINING:
                model = self._quantized(model, work)
                execution = "INT8"
            case Technique.ACCURACY_AWARE:
                model = self._accuracy_aware(model, work)
                execution = "INT8"
            case Technique.WEIGHTS_ONLY:
                model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
                remark = "INT8 weights, computed in FP32"
            case _:
                pass
        ov.save_model(model, str(work.folder / MODEL_FILE), compress_to_fp16=compress)
        tools = {name: importlib.metadata.version(name) for name in ("openvino", "nncf")}
        return Made(MODEL_FILE, settings, execution, tools, remark)

    def _quantized(self, model: Any, work: Work) -> Any:
        samples = _samples(work.calibration)
        preset = _PRESETS[work.request.options.get("preset", "Mixed")]
        return nncf.quantize(model, nncf.Dataset(samples), subset_size=max(len(samples), 1), preset=preset)

    def _accuracy_aware(self, model: Any, work: Work) -> Any:
        samples = _samples(work.calibration)
        validation = work.validation
        if validation is None or validation.labels is None or work.metric is None:
            message = "accuracy-aware quantization needs evaluation data with labels"
            raise ConfigurationError(message)
        pairs = [(validation.sample(index), validation.labels[index]) for index in range(len(validation))]
        drop = float(work.request.options.get("maxDropPercent", DEFAULT_MAX_DROP_PERCENT))
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset(samples),
            validation_dataset=nncf.Dataset(pairs, lambda pair: pair[0]),
            validation_fn=_validator(work.metric),
            max_drop=drop / 100.0,
            drop_type=nncf.DropType.RELATIVE,
            subset_size=max(len(samples), 1),
            preset=_PRESETS[work.request.options.get("preset", "Mixed")],
        )


def read(source: Source) -> Any:
    """Return the source model with its free dimensions pinned as the source says."""
    model = ov.Core().read_model(str(source.path))
    if source.shapes:
        model.reshape({name: ov.PartialShape(list(shape)) for name, shape in source.shapes.items()})
    return model


def _samples(calibration: Samples | None) -> list[Sample]:
    if calibration is None:
        message = "quantization of activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    return [calibration.sample(index) for index in range(len(calibration))]


def _validator(metric: EvaluationMetric) -> Callable[[Any, Iterable[Any]], tuple[float, list[float]]]:
    """Return NNCF's validation function: the metric (more is better) and what each sample is worth."""

    def validate(compiled: Any, pairs: Iterable[Any]) -> tuple[float, list[float]]:
        output = compiled.output(0)
        found, wanted, scores = [], [], []
        for sample, label in pairs:
            value = compiled(sample)[output]
            if np.ndim(label) == 0:
                found.append(int(value.reshape(-1).argmax()))
                wanted.append(int(label))
                scores.append(float(found[-1] == wanted[-1]))
            else:
                scores.append(-float(np.abs(value[0] - label).mean()))
        if metric is EvaluationMetric.F1:
            return macro_f1(np.array(found), np.array(wanted)), scores
        return float(np.mean(scores)), scores

    return validate
