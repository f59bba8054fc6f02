"""The order of a search: all is tried or left out with a reason, and what follows depends on what was found."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from skerry.accelerators.catalogue import catalogue
from skerry.api.types import Metric, ModelFormat, ModelKind, Objective, Verdict
from skerry.planning.candidates import Available, Plan, plan
from skerry.planning.searching import Limits, Trial, decide

ALL = Available(ModelFormat.ONNX, calibration=True, calibration_labels=True)
PLAN = plan(catalogue()["cpu"], ALL, [])
PASSED, FAILED = Verdict.PASSED, Verdict.FAILED


def searched(
    wanted: Plan, verdicts: dict[str, dict[Metric, Verdict]], kind: ModelKind, limits: Limits | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return what is tried, in its order, and why the others are not, when candidates turn out as said."""
    done: list[Trial] = []
    while True:
        decision = decide(wanted, done, kind, limits or Limits(), 10.0 * len(done))
        if decision.candidate is None:
            return [trial.planned.name for trial in done], dict(decision.left_out)
        name = decision.candidate.name
        assert name not in {trial.planned.name for trial in done}
        done.append(Trial(decision.candidate, made=True, verdicts=verdicts.get(name, {})))


def test_what_takes_longer_is_left_out_when_the_quick_way_keeps_the_accuracy() -> None:
    tried, left_out = searched(PLAN, {}, ModelKind.CONVOLUTIONAL)
    assert tried[0] == "openvino-int8-ptq"
    assert list(left_out) == ["openvino-int8-aware"]
    assert left_out["openvino-int8-aware"].startswith("openvino-int8-ptq keeps the accuracy: this takes longer")


def test_lost_accuracy_is_recovered_step_by_step() -> None:
    lost = {Metric.ACCURACY: FAILED}
    verdicts = {"openvino-int8-ptq": lost, "openvino-int8-ptq-bias": lost}
    tried, left_out = searched(PLAN, verdicts, ModelKind.CONVOLUTIONAL)
    at = tried.index("openvino-int8-ptq-bias")
    assert tried[at : at + 2] == ["openvino-int8-ptq-bias", "openvino-int8-ptq-percentile"]
    assert "openvino-int8-ptq-keep" not in tried
    assert "openvino-int8-ptq-percentile keeps the accuracy" in left_out["openvino-int8-aware"]


def test_when_nothing_recovers_it_the_last_resort_is_tried() -> None:
    names = ("", "-bias", "-percentile", "-keep")
    verdicts = {f"openvino-int8-ptq{name}": {Metric.ACCURACY: FAILED} for name in names}
    tried, left_out = searched(PLAN, verdicts, ModelKind.CONVOLUTIONAL)
    assert tried[-1] == "openvino-int8-aware"
    assert not left_out


def test_recoveries_are_those_for_the_kind_of_model() -> None:
    verdicts = {"openvino-int8-ptq": {Metric.ACCURACY: FAILED}}
    assert "openvino-int8-ptq-smooth" in searched(PLAN, verdicts, ModelKind.TRANSFORMER)[0]
    assert "openvino-int8-ptq-bias" not in searched(PLAN, verdicts, ModelKind.TRANSFORMER)[0]


def test_what_is_too_slow_already_is_not_recovered() -> None:
    verdicts = {"openvino-int8-ptq": {Metric.ACCURACY: FAILED, Metric.LATENCY_P95: FAILED}}
    tried, left_out = searched(PLAN, verdicts, ModelKind.CONVOLUTIONAL)
    assert not any(name.startswith("openvino-int8-ptq-") for name in tried)
    assert "openvino-int8-ptq already fails on LatencyP95" in left_out["openvino-int8-ptq-bias"]


def test_what_was_asked_for_is_tried_and_nothing_else() -> None:
    asked = plan(catalogue()["cpu"], ALL, [PLAN.candidates[0].request])
    verdicts = {"openvino-int8-ptq": {Metric.ACCURACY: FAILED}}
    assert searched(asked, verdicts, ModelKind.OTHER) == (["openvino-int8-ptq"], {})


def test_the_budget_ends_the_search() -> None:
    tried, left_out = searched(PLAN, {}, ModelKind.OTHER, Limits(candidates=2))
    assert len(tried) == 2
    assert "maxCandidates" in left_out["openvino-fp32"]
    tried, left_out = searched(PLAN, {}, ModelKind.OTHER, Limits(seconds=30.0))
    assert len(tried) == 3
    assert "the 0.5 minutes of spec.optimization.budgetMinutes" in left_out["openvino-fp32"]


def test_what_would_be_larger_is_left_out_where_the_smallest_is_wanted() -> None:
    first = Trial(PLAN.candidates[0], made=True, verdicts={}, size_percent=27.0, passed=True)

    def left_out(trial: Trial, objective: Objective) -> set[str]:
        done = [trial]
        while (decision := decide(PLAN, done, ModelKind.OTHER, Limits(), 0.0, objective)).candidate is not None:
            done.append(Trial(decision.candidate, made=True, verdicts={}))
        return set(decision.left_out) - {"openvino-int8-aware"}

    assert {"openvino-fp32", "openvino-fp16"} <= left_out(first, Objective.ARTIFACT_SIZE)
    assert "openvino-int4-weights" not in left_out(first, Objective.ARTIFACT_SIZE)
    assert not left_out(first, Objective.LATENCY_P95)
    assert not left_out(replace(first, passed=False), Objective.ARTIFACT_SIZE)


VERDICTS = st.dictionaries(
    st.sampled_from([Metric.ACCURACY, Metric.LATENCY_P95]), st.sampled_from(list(Verdict)), max_size=2
)


@given(st.lists(VERDICTS, min_size=40, max_size=40), st.sampled_from(list(ModelKind)), st.integers(0, 12))
def test_every_search_ends_with_an_answer_for_every_candidate(
    found: list[dict[Metric, Verdict]], kind: ModelKind, most: int
) -> None:
    done: list[Trial] = []
    while (decision := decide(PLAN, done, kind, Limits(candidates=most), 0.0)).candidate is not None:
        done.append(Trial(decision.candidate, made=True, verdicts=found[len(done)]))
    tried = [trial.planned.name for trial in done]
    assert len(tried) == len(set(tried)) <= most
    assert {planned.name for planned in PLAN.candidates} <= set(tried) | set(decision.left_out)
    assert not set(tried) & set(decision.left_out)
