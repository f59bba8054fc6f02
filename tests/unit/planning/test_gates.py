"""Gates: properties that hold for all figures, and the sentences that people read."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skerry.api.metrics import higher_is_better
from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, Verdict
from skerry.planning.gates import Comparison, GateError, check, combine, evaluate, judge

FIGURES = st.floats(min_value=0.001, max_value=1e6)
GATES = st.builds(
    Gate,
    metric=st.sampled_from(Metric),
    goal=st.sampled_from(Goal),
    value=st.decimals(min_value=0, max_value=1000, places=2).map(str),
)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    low, value, high = sorted(draw(st.tuples(FIGURES, FIGURES, FIGURES)))
    return Comparison(draw(FIGURES), value, low, high)


def better(metric: Metric, figure: float, factor: float) -> float:
    return figure * factor if higher_is_better(metric) else figure / factor


@given(GATES, comparisons(), st.floats(min_value=1.0, max_value=10.0))
def test_a_better_candidate_never_gets_a_worse_verdict(gate: Gate, found: Comparison, factor: float) -> None:
    ends = [better(gate.metric, figure, factor) for figure in (found.low, found.value, found.high)]
    improved = Comparison(found.baseline, ends[1], ends[0], ends[2])
    order = [Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED]
    before, after = evaluate(gate, found).verdict, evaluate(gate, improved).verdict
    assert order.index(after) >= order.index(before)


@given(GATES, comparisons())
def test_without_an_interval_there_is_no_doubt(gate: Gate, found: Comparison) -> None:
    exact = Comparison(found.baseline, found.value, found.value, found.value)
    assert evaluate(gate, exact).verdict is not Verdict.INCONCLUSIVE


@given(GATES, comparisons(), st.floats(min_value=0.5, max_value=2.0))
def test_a_wider_interval_only_takes_certainty_away(gate: Gate, found: Comparison, factor: float) -> None:
    wider = Comparison(
        found.baseline, found.value, found.low / max(factor, 1 / factor), found.high * max(factor, 1 / factor)
    )
    before, after = evaluate(gate, found).verdict, evaluate(gate, wider).verdict
    assert after in {before, Verdict.INCONCLUSIVE}


@given(st.sampled_from(Metric), FIGURES, st.integers(min_value=0, max_value=99))
def test_improvement_and_degradation_are_two_sides_of_one_change(metric: Metric, figure: float, percent: int) -> None:
    same = Comparison(figure, figure, figure, figure)
    worse = Comparison(figure, *[better(metric, figure, 0.5)] * 3)
    degradation = Gate(metric=metric, goal=Goal.PERCENT_MAX_DEGRADATION, value=str(percent))
    improvement = Gate(metric=metric, goal=Goal.PERCENT_MIN_IMPROVEMENT, value=str(percent))
    assert evaluate(degradation, same).verdict is Verdict.PASSED
    assert evaluate(improvement, same).verdict is (Verdict.PASSED if percent == 0 else Verdict.FAILED)
    assert evaluate(improvement, worse).verdict is Verdict.FAILED


@given(comparisons(), st.floats(min_value=0.01, max_value=100.0), GATES)
def test_percentages_do_not_depend_on_the_unit(found: Comparison, scale: float, gate: Gate) -> None:
    relative = gate.model_copy(update={"goal": Goal.PERCENT_MIN_IMPROVEMENT})
    distance = abs(100.0 * (1 - found.low / found.baseline) - float(gate.value))
    assume(distance > 1e-3)  # floats decide on the very edge
    scaled = Comparison(*(scale * figure for figure in (found.baseline, found.value, found.low, found.high)))
    edge = abs(100.0 * (1 - found.high / found.baseline) - float(gate.value))
    assume(edge > 1e-3)
    assert evaluate(relative, found).verdict == evaluate(relative, scaled).verdict


@given(st.lists(st.sampled_from(Verdict)))
def test_any_failure_fails_and_any_doubt_is_doubt(verdicts: list[Verdict]) -> None:
    found = combine(verdicts)
    if Verdict.FAILED in verdicts:
        assert found is Verdict.FAILED
    elif Verdict.INCONCLUSIVE in verdicts:
        assert found is Verdict.INCONCLUSIVE
    else:
        assert found is Verdict.PASSED


def gate(metric: Metric, goal: Goal, value: str) -> Gate:
    return Gate(metric=metric, goal=goal, value=value)


@pytest.mark.parametrize(
    ("wanted", "found", "verdict", "sentence"),
    [
        (
            gate(Metric.LATENCY_P95, Goal.PERCENT_MIN_IMPROVEMENT, "50"),
            Comparison(2.5, 1.0, 0.95, 1.125),
            Verdict.PASSED,
            "LatencyP95 1 ms is 60 % better than 2.5 ms (interval 55 to 62 %), at least 50 % better wanted",
        ),
        (
            gate(Metric.LATENCY_P95, Goal.PERCENT_MIN_IMPROVEMENT, "50"),
            Comparison(2.0, 2.5, 2.4, 2.6),
            Verdict.FAILED,
            "LatencyP95 2.5 ms is 25 % worse than 2 ms (interval 20 to 30 %), at least 50 % better wanted",
        ),
        (
            gate(Metric.THROUGHPUT, Goal.MIN_IMPROVEMENT, "0"),
            Comparison(100.0, 105.0, 95.0, 110.0),
            Verdict.INCONCLUSIVE,
            (
                "Throughput 105 1/s is 5 1/s better than 100 1/s (interval 5 1/s worse to 10 1/s better), "
                "at least 0 1/s better wanted"
            ),
        ),
        (
            gate(Metric.ACCURACY, Goal.PERCENT_MAX_DEGRADATION, "5"),
            Comparison(98.0, 98.0, 97.5, 98.5),
            Verdict.PASSED,
            (
                "Accuracy 98 % is as good as the baseline's 98 % (interval 0.5102 % worse to 0.5102 % better), "
                "at most 5 % worse wanted"
            ),
        ),
        (
            gate(Metric.ACCURACY, Goal.MAX_DEGRADATION, "1"),
            Comparison(100.0, 100.0, 99.5, 100.0),
            Verdict.PASSED,
            "Accuracy 100 % is as good as the baseline's 100 % (interval 0 to 0.5 % worse), at most 1 % worse wanted",
        ),
        (
            gate(Metric.MODEL_MEMORY, Goal.THRESHOLD, "4"),
            Comparison(10.0, 4.5, 4.25, 4.75),
            Verdict.FAILED,
            "ModelMemory is 4.5 MiB (interval 4.25 to 4.75 MiB), at most 4 MiB wanted",
        ),
        (
            gate(Metric.ACCURACY, Goal.THRESHOLD, "95"),
            Comparison(97.0, 96.0, 96.0, 96.0),
            Verdict.PASSED,
            "Accuracy is 96 %, at least 95 % wanted",
        ),
    ],
)
def test_sentences(wanted: Gate, found: Comparison, verdict: Verdict, sentence: str) -> None:
    judged = evaluate(wanted, found)
    assert (judged.verdict, judged.message) == (verdict, sentence)


def test_a_mean_absolute_error_is_better_when_it_is_smaller() -> None:
    wanted = gate(Metric.ACCURACY, Goal.PERCENT_MAX_DEGRADATION, "5")
    smaller = Comparison(1.0, 0.5, 0.5, 0.5)
    assert evaluate(wanted, smaller, EvaluationMetric.MEAN_ABSOLUTE_ERROR).verdict is Verdict.PASSED
    assert evaluate(wanted, smaller, EvaluationMetric.ACCURACY).verdict is Verdict.FAILED


def test_what_was_not_measured_is_inconclusive_and_says_why() -> None:
    wanted = gate(Metric.ACCURACY, Goal.PERCENT_MAX_DEGRADATION, "5")
    judged = judge([wanted], {}, missing={Metric.ACCURACY: "there is no evaluation data"})
    assert judged[Metric.ACCURACY].verdict is Verdict.INCONCLUSIVE
    assert judged[Metric.ACCURACY].message == "Accuracy is not known: there is no evaluation data"


def test_no_percentage_of_zero() -> None:
    wanted = gate(Metric.ACCURACY, Goal.PERCENT_MAX_DEGRADATION, "5")
    judged = evaluate(wanted, Comparison(0.0, 0.0, 0.0, 0.0))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "use another goal" in judged.message


def test_several_gates_on_a_metric_are_all_told_and_the_worst_counts() -> None:
    gates = [gate(Metric.LATENCY_P95, Goal.THRESHOLD, "2"), gate(Metric.LATENCY_P95, Goal.MIN_IMPROVEMENT, "5")]
    judged = judge(gates, {Metric.LATENCY_P95: Comparison(4.0, 1.0, 1.0, 1.0)})[Metric.LATENCY_P95]
    assert judged.verdict is Verdict.FAILED
    assert "at most 2 ms wanted; " in judged.message
    assert judged.message.endswith("at least 5 ms better wanted")


def test_nothing_can_get_better_by_all_of_itself() -> None:
    with pytest.raises(GateError, match="can never be met"):
        check(gate(Metric.LATENCY_P95, Goal.PERCENT_MIN_IMPROVEMENT, "100"))
    check(gate(Metric.THROUGHPUT, Goal.PERCENT_MIN_IMPROVEMENT, "100"))
    with pytest.raises(GateError, match="is negative"):
        check(gate(Metric.LATENCY_P95, Goal.MAX_DEGRADATION, "-1"))
