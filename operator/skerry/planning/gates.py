"""Gates: whether a candidate is good enough, said with the uncertainty of its measurement."""

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.api.metrics import higher_is_better, unit
from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, Verdict

PERCENT = 100.0


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


def _quantity(gate: Gate, comparison: Comparison, figure: float, *, higher: bool) -> float:
    """Return what the gate's goal speaks of, for one figure: the figure itself, an improvement, or a degradation."""
    gain = figure - comparison.baseline if higher else comparison.baseline - figure
    match gate.goal:
        case Goal.THRESHOLD:
            return figure
        case Goal.MIN_IMPROVEMENT:
            return gain
        case Goal.MAX_DEGRADATION:
            return -gain
        case Goal.PERCENT_MIN_IMPROVEMENT:
            return PERCENT * gain / abs(comparison.baseline)
        case Goal.PERCENT_MAX_DEGRADATION:
            return -PERCENT * gain / abs(comparison.baseline)


def _at_least(gate: Gate, *, higher: bool) -> bool:
    """Tell whether the goal's quantity must be at least the value, rather than at most."""
    if gate.goal is Goal.THRESHOLD:
        return higher
    return gate.goal in {Goal.MIN_IMPROVEMENT, Goal.PERCENT_MIN_IMPROVEMENT}


def _number(value: float) -> str:
    return f"{value:.4g}"


def _sentence(gate: Gate, comparison: Comparison, quantities: tuple[float, float, float], what: str, bound: str) -> str:
    """Return the explanation: what was found, its interval, and what was wanted."""
    found, low, high = quantities
    percent = gate.goal in {Goal.PERCENT_MIN_IMPROVEMENT, Goal.PERCENT_MAX_DEGRADATION}
    suffix = " %" if percent else what and f" {what}"
    words = {
        Goal.THRESHOLD: "is",
        Goal.MIN_IMPROVEMENT: "is better by",
        Goal.PERCENT_MIN_IMPROVEMENT: "is better by",
        Goal.MAX_DEGRADATION: "is worse by",
        Goal.PERCENT_MAX_DEGRADATION: "is worse by",
    }[gate.goal]
    against = (
        "" if gate.goal is Goal.THRESHOLD else f", {_number(comparison.value)} against {_number(comparison.baseline)}"
    )
    interval = "" if low == high else f" (interval {_number(low)} to {_number(high)})"
    return f"{gate.metric} {words} {_number(found)}{suffix}{interval}{against}; {bound} {gate.value}{suffix} is wanted"


def evaluate(
    gate: Gate, comparison: Comparison | None, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY
) -> GateVerdict:
    """Return whether a figure meets a gate.

    Passed when all of its interval does, Failed when none of it does, Inconclusive in between, where the measurement
    cannot tell, and where there is no figure at all.
    """
    if comparison is None:
        return GateVerdict(Verdict.INCONCLUSIVE, f"{gate.metric} could not be measured")
    relative = gate.goal in {Goal.PERCENT_MIN_IMPROVEMENT, Goal.PERCENT_MAX_DEGRADATION}
    if relative and comparison.baseline == 0:
        message = f"{gate.metric} of the baseline is 0, so that no percentage of it can be said"
        return GateVerdict(Verdict.INCONCLUSIVE, message)
    higher = higher_is_better(gate.metric, evaluation)
    wanted = float(gate.value)
    found = _quantity(gate, comparison, comparison.value, higher=higher)
    low, high = sorted(_quantity(gate, comparison, end, higher=higher) for end in (comparison.low, comparison.high))
    at_least = _at_least(gate, higher=higher)
    surely = low >= wanted if at_least else high <= wanted
    never = high < wanted if at_least else low > wanted
    verdict = Verdict.PASSED if surely else Verdict.FAILED if never else Verdict.INCONCLUSIVE
    bound = "at least" if at_least else "at most"
    return GateVerdict(verdict, _sentence(gate, comparison, (found, low, high), unit(gate.metric, evaluation), bound))


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of all gates: any failure fails, any doubt is doubt; without gates all pass."""
    found = set(verdicts)
    if Verdict.FAILED in found:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in found else Verdict.PASSED


def judge(
    gates: Iterable[Gate],
    comparisons: dict[Metric, Comparison],
    evaluation: EvaluationMetric = EvaluationMetric.ACCURACY,
) -> dict[Metric, GateVerdict]:
    """Return the verdict on each metric that has gates; where one has several, the worst counts and all are told."""
    judged: dict[Metric, GateVerdict] = {}
    for gate in gates:
        verdict = evaluate(gate, comparisons.get(gate.metric), evaluation)
        before = judged.get(gate.metric)
        if before is not None:
            both = combine([before.verdict, verdict.verdict])
            verdict = GateVerdict(both, f"{before.message}; {verdict.message}")
        judged[gate.metric] = verdict
    return judged
