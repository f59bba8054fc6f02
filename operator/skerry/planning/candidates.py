"""Which candidates to try: the decision matrix, cut down to what model, data and hardware allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.api.types import CandidateRequest, Framework, ModelFormat, Precision, Technique
from skerry.planning.gates import PERCENT

Way = tuple[Framework, Precision, Technique]

_NAMES: Final[Mapping[Way, str]] = {
    (Framework.OPENVINO, Precision.FP32, Technique.CONVERSION): "openvino-fp32",
    (Framework.OPENVINO, Precision.FP16, Technique.CONVERSION): "openvino-fp16",
    (Framework.OPENVINO, Precision.INT8, Technique.POST_TRAINING): "openvino-int8-ptq",
    (Framework.OPENVINO, Precision.INT8, Technique.ACCURACY_AWARE): "openvino-int8-aware",
    (Framework.OPENVINO, Precision.INT8, Technique.WEIGHTS_ONLY): "openvino-int8-weights",
    (Framework.ONNX_RUNTIME, Precision.FP32, Technique.GRAPH_OPTIMIZATION): "onnxruntime-fp32",
    (Framework.ONNX_RUNTIME, Precision.INT8, Technique.POST_TRAINING): "onnxruntime-int8-static",
    (Framework.ONNX_RUNTIME, Precision.INT8, Technique.DYNAMIC): "onnxruntime-int8-dynamic",
}
"""Every way that the backends have, with the name of its candidate."""

_PRESETS: Final = frozenset({"Mixed", "Performance"})
_OPTIONS: Final[Mapping[tuple[Framework, Technique], Mapping[str, frozenset[str] | None]]] = {
    (Framework.OPENVINO, Technique.POST_TRAINING): {"preset": _PRESETS},
    (Framework.OPENVINO, Technique.ACCURACY_AWARE): {"preset": _PRESETS, "maxDropPercent": None},
    (Framework.ONNX_RUNTIME, Technique.POST_TRAINING): {"calibration": frozenset({"MinMax", "Entropy", "Percentile"})},
}
"""The options of each technique and their values; None stands for a percentage."""

_READS: Final = {
    Framework.OPENVINO: frozenset({ModelFormat.ONNX, ModelFormat.OPENVINO}),
    Framework.ONNX_RUNTIME: frozenset({ModelFormat.ONNX}),
}
_CALIBRATED: Final = frozenset({Technique.POST_TRAINING, Technique.ACCURACY_AWARE})
_LOADED_ON: Final = frozenset({"CPU", "AUTO", "CPUExecutionProvider"})
"""Devices on which the backends of this version run models, in the words of their frameworks."""


class CandidateError(ValueError):
    """A candidate that was asked for cannot be made; the message says why."""


@dataclass(frozen=True)
class Available:
    """What there is to work with.

    Attributes:
        model_format: Format of the source model.
        calibration: Whether there are samples to calibrate with.
        calibration_labels: Whether those samples have labels.
    """

    model_format: ModelFormat
    calibration: bool
    calibration_labels: bool


@dataclass(frozen=True)
class Planned:
    """One candidate to try."""

    name: str
    request: CandidateRequest


@dataclass(frozen=True)
class Plan:
    """The candidates to try, and for each that is left out the reason."""

    candidates: tuple[Planned, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def name_of(request: CandidateRequest) -> str:
    """Return a candidate's name, for example openvino-int8-ptq.

    Raises:
        CandidateError: No backend has that combination.
    """
    name = _NAMES.get((request.framework, request.precision, request.technique))
    if name is None:
        own = (way for way in _NAMES if way[0] is request.framework)
        words = ", ".join(f"{precision} {technique}" for _, precision, technique in own)
        message = (
            f"{request.framework} has no candidate {request.precision} {request.technique}; those it has are {words}"
        )
        raise CandidateError(message)
    return name


def from_name(name: str, options: Mapping[str, str] | None = None) -> CandidateRequest:
    """Return the request that a candidate's name stands for, checked.

    Raises:
        CandidateError: There is no such name, or it has no such option.
    """
    for (framework, precision, technique), known in _NAMES.items():
        if known == name:
            request = CandidateRequest(
                framework=framework, precision=precision, technique=technique, options=dict(options or {})
            )
            check(request)
            return request
    message = f"there is no candidate {name!r}; there are {', '.join(_NAMES.values())}"
    raise CandidateError(message)


def check(request: CandidateRequest) -> None:
    """Refuse a combination that no backend has, and options that it does not know.

    Raises:
        CandidateError: With what would be possible.
    """
    name = name_of(request)
    known = _OPTIONS.get((request.framework, request.technique), {})
    for option, value in request.options.items():
        if option not in known:
            words = f"its options are {', '.join(sorted(known))}" if known else "it has none"
            message = f"candidate {name} has no option {option!r}; {words}"
            raise CandidateError(message)
        values = known[option]
        if values is not None and value not in values:
            message = f"candidate {name}: option {option} is {value!r}; it may be {', '.join(sorted(values))}"
            raise CandidateError(message)
        if values is None and not _is_percentage(value):
            message = f"candidate {name}: option {option} is {value!r}; it must be a percentage, for example 1.0"
            raise CandidateError(message)


def _is_percentage(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= PERCENT
    except ValueError:
        return False


def _impossible(request: CandidateRequest, available: Available) -> str | None:
    """Return why a candidate cannot be made from what there is."""
    if available.model_format not in _READS[request.framework]:
        return f"{request.framework} does not read {available.model_format} models"
    if request.technique in _CALIBRATED and not available.calibration:
        return "quantizing activations needs calibration or evaluation data"
    if request.technique is Technique.ACCURACY_AWARE and not available.calibration_labels:
        return (
            "accuracy-aware quantization needs labels in the calibration data: it must not see the samples that it is "
            "measured on"
        )
    return None


def _unwise(request: CandidateRequest, available: Available) -> str | None:
    """Return why a candidate that nobody asked for is not tried."""
    if request.precision is not Precision.FP32 and not available.calibration:
        return "without data nobody could tell what the lower precision costs"
    return None


def measurable(entry: AcceleratorEntry) -> bool:
    """Tell whether the backends can load models on an accelerator: figures of another device would be bent ones."""
    return not _LOADED_ON.isdisjoint(entry.devices.values())


def plan(entry: AcceleratorEntry, available: Available, requested: Sequence[CandidateRequest]) -> Plan:
    """Return what to try on an accelerator: what was requested, else the matrix as far as it makes sense.

    Raises:
        CandidateError: A requested candidate does not exist, or cannot be made from what there is; or nothing can be
            measured on the accelerator.
    """
    if not measurable(entry):
        message = f"this version of Skerry cannot measure models on {entry.name}, so that it does not optimize for it"
        raise CandidateError(message)
    for request in requested:
        check(request)
        if request.framework not in entry.devices:
            message = (
                f"candidate {name_of(request)} was asked for, but {request.framework} does not run on {entry.name}"
            )
            raise CandidateError(message)
        if (reason := _impossible(request, available)) is not None:
            message = f"candidate {name_of(request)} was asked for, but {reason}"
            raise CandidateError(message)
    if requested:
        return Plan(_named(requested))
    left_out: dict[str, str] = {}
    chosen = []
    for request in entry.candidates:
        reason = _impossible(request, available) or _unwise(request, available)
        if reason is None:
            chosen.append(request)
        else:
            left_out[name_of(request)] = reason
    return Plan(_named(chosen), left_out)


def _named(requests: Sequence[CandidateRequest]) -> tuple[Planned, ...]:
    """Name candidates; the second with the same name (but other options) ends with -2, and so on."""
    counts: dict[str, int] = {}
    named = []
    for request in requests:
        name = name_of(request)
        counts[name] = counts.get(name, 0) + 1
        named.append(Planned(name if counts[name] == 1 else f"{name}-{counts[name]}", request))
    return tuple(named)
