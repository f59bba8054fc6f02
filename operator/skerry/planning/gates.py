"""Gates: whether a candidate is good enough, said with the uncertainty of its measurement."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from skerry.api.metrics import higher_is_better, unit
from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, Verdict

PERCENT: Final = 100.0
_RELATIVE: Final = frozenset({Goal.PERCENT_MIN_IMPROVEMENT, Goal.PERCENT_MAX_DEGRADATION})
_IMPROVEMENT: Final = frozenset({Goal.MIN_IMPROVEMENT, Goal.PERCENT_MIN_IMPROVEMENT})
_FOUR_DIGITS: Final = 1000


class GateError(ValueError):
    """A gate that no candidate could ever meet, or that contradicts itself."""


@dataclass(frozen=True)
class Comparison:
    """A candidate's figure beside the baseline's, both in the metric's unit.

    Attributes:
        baseline: The unoptimized model's figure.
        value: The candidate's figure.
        low: Lower end of the interval in which the candidate's figure lies, given this baseline.
        high: Upper end of that interval.
    """

    baseline: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GateVerdict:
    """What one gate says, and the sentence that explains it."""

    verdict: Verdict
    message: str


def check(gate: Gate, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> None:
    """Refuse a gate that makes no sense; the API server refuses the same, but gates come from the command line as well.

    Raises:
        GateError: With what to write instead.
    """
    value = float(gate.value)
    if gate.goal is not Goal.THRESHOLD and value < 0:
        message = (
            f"gate {gate.metric} {gate.goal}: {gate.value} is negative; give the size of the change as a number ≥ 0"
        )
        raise GateError(message)
    less_is_better = gate.metric is not Metric.ACCURACY and not higher_is_better(gate.metric, evaluation)
    if gate.goal is Goal.PERCENT_MIN_IMPROVEMENT and less_is_better and value >= PERCENT:
        message = (
            f"gate {gate.metric} {gate.goal}: {gate.value} % can never be met, because nothing would be left; "
            "50 means half, that is twice as good"
        )
        raise GateError(message)


def _gain(figure: float, baseline: float, *, higher: bool) -> float:
    """Return by how much a figure is better than the baseline, in its unit; below 0 when it is worse."""
    return figure - baseline if higher else baseline - figure


def _change(gate: Gate, figure: float, baseline: float, *, higher: bool) -> float:
    """Return the gain in the measure of the goal: percent of the baseline, or the metric's unit."""
    gain = _gain(figure, baseline, higher=higher)
    return PERCENT * gain / abs(baseline) if gate.goal in _RELATIVE else gain


def _verdict(quantities: tuple[float, float], wanted: float, *, at_least: bool) -> Verdict:
    """Return Passed when the whole interval meets the bound, Failed when none of it does, else Inconclusive."""
    low, high = quantities
    if low >= wanted if at_least else high <= wanted:
        return Verdict.PASSED
    if high < wanted if at_least else low > wanted:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE


def _number(value: float) -> str:
    """Return four significant digits (all digits of the whole part), without an exponent."""
    if abs(value) >= _FOUR_DIGITS:
        return f"{value:.0f}"
    text = f"{value:.4g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def _range(low: str, high: str, suffix: str) -> str:
    return f"interval {low}{suffix}" if low == high else f"interval {low} to {high}{suffix}"


def _spread(low: float, high: float, suffix: str, *, direction: bool) -> str:
    """Return the interval of a change, with its direction where that is asked for or is not the same at both ends."""
    if low < 0 < high:
        return f"interval {_number(-low)}{suffix} worse to {_number(high)}{suffix} better"
    better = low >= 0
    first, second = (low, high) if better else (-high, -low)
    word = (" better" if better else " worse") if direction else ""
    return _range(_number(abs(first)), _number(abs(second)), suffix + word)


def _threshold(gate: Gate, comparison: Comparison, measure: str, *, higher: bool) -> GateVerdict:
    verdict = _verdict((comparison.low, comparison.high), float(gate.value), at_least=higher)
    spread = ""
    if comparison.low != comparison.high:
        spread = f" ({_range(_number(comparison.low), _number(comparison.high), measure)})"
    bound = "at least" if higher else "at most"
    message = f"{gate.metric} is {_number(comparison.value)}{measure}{spread}, {bound} {gate.value}{measure} wanted"
    return GateVerdict(verdict, message)


def _against_baseline(gate: Gate, comparison: Comparison, measure: str, *, higher: bool) -> GateVerdict:
    baseline = comparison.baseline
    change = _change(gate, comparison.value, baseline, higher=higher)
    ends = (_change(gate, end, baseline, higher=higher) for end in (comparison.low, comparison.high))
    low, high = sorted(ends)
    wanted = float(gate.value)
    if gate.goal in _IMPROVEMENT:
        verdict = _verdict((low, high), wanted, at_least=True)
        bound = f"at least {gate.value}"
    else:
        verdict = _verdict((-high, -low), wanted, at_least=False)
        bound = f"at most {gate.value}"
    suffix = " %" if gate.goal in _RELATIVE else measure
    if change == 0:
        what = f"is as good as the baseline's {_number(baseline)}{measure}"
    else:
        direction = "better" if change > 0 else "worse"
        what = f"is {_number(abs(change))}{suffix} {direction} than {_number(baseline)}{measure}"
    spread = "" if low == high else f" ({_spread(low, high, suffix, direction=change == 0)})"
    direction = "better" if gate.goal in _IMPROVEMENT else "worse"
    message = f"{gate.metric} {_number(comparison.value)}{measure} {what}{spread}, {bound}{suffix} {direction} wanted"
    return GateVerdict(verdict, message)


def evaluate(
    gate: Gate,
    comparison: Comparison | None,
    evaluation: EvaluationMetric = EvaluationMetric.ACCURACY,
    missing: str = "it could not be measured",
) -> GateVerdict:
    """Return whether a figure meets a gate.

    Passed when all of its interval does, Failed when none of it does, Inconclusive in between, where the measurement
    cannot tell, and where there is no figure at all.

    Args:
        gate: What is wanted.
        comparison: What was measured.
        evaluation: What Accuracy means.
        missing: Why nothing was measured.
    """
    if comparison is None:
        return GateVerdict(Verdict.INCONCLUSIVE, f"{gate.metric} is not known: {missing}")
    if gate.goal in _RELATIVE and comparison.baseline == 0:
        message = f"{gate.metric} of the baseline is 0, so that no percentage of it can be said; use another goal"
        return GateVerdict(Verdict.INCONCLUSIVE, message)
    higher = higher_is_better(gate.metric, evaluation)
    name = unit(gate.metric, evaluation)
    measure = f" {name}" if name else ""
    if gate.goal is Goal.THRESHOLD:
        return _threshold(gate, comparison, measure, higher=higher)
    return _against_baseline(gate, comparison, measure, higher=higher)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of all gates: any failure fails, any doubt is doubt; without gates all pass."""
    found = set(verdicts)
    if Verdict.FAILED in found:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in found else Verdict.PASSED


def judge(
    gates: Iterable[Gate],
    comparisons: Mapping[Metric, Comparison],
    evaluation: EvaluationMetric = EvaluationMetric.ACCURACY,
    missing: Mapping[Metric, str] | None = None,
) -> dict[Metric, GateVerdict]:
    """Return the verdict on each metric that has gates; where one has several, the worst counts and all are told.

    Args:
        gates: What is wanted.
        comparisons: What was measured.
        evaluation: What Accuracy means.
        missing: Why a metric was not measured.
    """
    reasons = missing or {}
    judged: dict[Metric, GateVerdict] = {}
    for gate in gates:
        reason = reasons.get(gate.metric, "it could not be measured")
        verdict = evaluate(gate, comparisons.get(gate.metric), evaluation, reason)
        before = judged.get(gate.metric)
        if before is not None:
            both = combine([before.verdict, verdict.verdict])
            verdict = GateVerdict(both, f"{before.message}; {verdict.message}")
        judged[gate.metric] = verdict
    return judged
