"""Which candidates to try: the decision matrix, cut down to what model, data and hardware allow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.api.types import CandidateRequest, Framework, ModelFormat, Precision, Technique

_SHORT_FRAMEWORK = {Framework.OPENVINO: "openvino", Framework.ONNX_RUNTIME: "onnxruntime"}
_SHORT_TECHNIQUE = {
    (Precision.FP32, Technique.CONVERSION): "fp32",
    (Precision.FP32, Technique.GRAPH_OPTIMIZATION): "fp32",
    (Precision.FP16, Technique.CONVERSION): "fp16",
    (Precision.INT8, Technique.POST_TRAINING): "int8-ptq",
    (Precision.INT8, Technique.ACCURACY_AWARE): "int8-aware",
    (Precision.INT8, Technique.WEIGHTS_ONLY): "int8-weights",
    (Precision.INT8, Technique.DYNAMIC): "int8-dynamic",
}
_POSSIBLE = {
    Framework.OPENVINO: {
        (Precision.FP32, Technique.CONVERSION),
        (Precision.FP16, Technique.CONVERSION),
        (Precision.INT8, Technique.POST_TRAINING),
        (Precision.INT8, Technique.ACCURACY_AWARE),
        (Precision.INT8, Technique.WEIGHTS_ONLY),
    },
    Framework.ONNX_RUNTIME: {
        (Precision.FP32, Technique.GRAPH_OPTIMIZATION),
        (Precision.INT8, Technique.POST_TRAINING),
        (Precision.INT8, Technique.DYNAMIC),
    },
}
_OPTIONS: dict[tuple[Framework, Technique], dict[str, set[str] | None]] = {
    (Framework.OPENVINO, Technique.POST_TRAINING): {"preset": {"Mixed", "Performance"}},
    (Framework.OPENVINO, Technique.ACCURACY_AWARE): {"preset": {"Mixed", "Performance"}, "maxDropPercent": None},
    (Framework.ONNX_RUNTIME, Technique.POST_TRAINING): {"calibration": {"MinMax", "Entropy", "Percentile"}},
}
_READS = {
    Framework.OPENVINO: {ModelFormat.ONNX, ModelFormat.OPENVINO},
    Framework.ONNX_RUNTIME: {ModelFormat.ONNX},
}


class CandidateError(ValueError):
    """A candidate that was asked for cannot be made; the message says why."""


@dataclass(frozen=True)
class Available:
    """What there is to work with."""

    model_format: ModelFormat
    calibration: bool
    labels: bool


@dataclass(frozen=True)
class Planned:
    """One candidate to try."""

    name: str
    request: CandidateRequest


@dataclass(frozen=True)
class Plan:
    """The candidates to try, and for each that is left out the reason."""

    candidates: tuple[Planned, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def name_of(request: CandidateRequest) -> str:
    """Return a candidate's name, for example openvino-int8-ptq."""
    return f"{_SHORT_FRAMEWORK[request.framework]}-{_SHORT_TECHNIQUE[request.precision, request.technique]}"


def check(request: CandidateRequest) -> None:
    """Refuse a combination that no backend has, and options that it does not know.

    Raises:
        CandidateError: With what would be possible.
    """
    possible = _POSSIBLE[request.framework]
    if (request.precision, request.technique) not in possible:
        words = ", ".join(sorted(f"{precision} {technique}" for precision, technique in possible))
        message = f"{request.framework} has no candidate {request.precision} {request.technique}; it has {words}"
        raise CandidateError(message)
    known = _OPTIONS.get((request.framework, request.technique), {})
    for option, value in request.options.items():
        if option not in known:
            words = ", ".join(sorted(known)) or "none"
            message = f"{name_of(request)} has no option {option!r}; its options: {words}"
            raise CandidateError(message)
        values = known[option]
        if values is not None and value not in values:
            message = f"{name_of(request)}: option {option} is {value!r}; it may be {', '.join(sorted(values))}"
            raise CandidateError(message)
        if values is None and not _is_percent(value):
            message = f"{name_of(request)}: option {option} is {value!r}; it must be a percentage, for example 1.0"
            raise CandidateError(message)


def _is_percent(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 100.0  # noqa: PLR2004 - a percentage
    except ValueError:
        return False


def _refusal(request: CandidateRequest, available: Available) -> str | None:
    """Return why a candidate cannot be made from what there is."""
    if available.model_format not in _READS[request.framework]:
        return f"{request.framework} does not read {available.model_format} models"
    if request.technique is Technique.ACCURACY_AWARE and not available.labels:
        return "accuracy-aware quantization needs evaluation data with labels"
    if request.technique in {Technique.POST_TRAINING, Technique.ACCURACY_AWARE} and not available.calibration:
        return "quantization of activations needs calibration or evaluation data"
    if request.precision is Precision.INT8 and not available.calibration:
        return "without data nobody could tell what the lower precision costs"
    return None


def plan(entry: AcceleratorEntry, available: Available, requested: Sequence[CandidateRequest]) -> Plan:
    """Return what to try on an accelerator.

    Raises:
        CandidateError: A requested candidate does not exist, or cannot be made from what there is.
    """
    for request in requested:
        check(request)
    wanted = list(requested or entry.candidates)
    chosen: list[Planned] = []
    left_out: dict[str, str] = {}
    for request in wanted:
        name = name_of(request)
        refusal = _refusal(request, available)
        if refusal is not None and requested:
            message = f"candidate {name} was asked for, but {refusal}"
            raise CandidateError(message)
        if refusal is not None:
            left_out[name] = refusal
            continue
        taken = {planned.name for planned in chosen}
        unique = name if name not in taken else f"{name}-{sum(other.startswith(name) for other in taken) + 1}"
        chosen.append(Planned(unique, request))
    return Plan(tuple(chosen), left_out)
