"""Metrics against scikit-learn, and intervals that neither doubt equals nor trust small samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, Verdict
from skerry.optimizer.accuracy import Scored, compare, score
from skerry.optimizer.errors import BadModelError
from skerry.planning.gates import evaluate

RANDOM = np.random.default_rng(3)
SCORES = RANDOM.random((90, 4))
LABELS = RANDOM.integers(0, 4, 90)
TARGETS = SCORES + 0.1 * RANDOM.standard_normal(SCORES.shape)


def value(metric: EvaluationMetric, labels: np.ndarray | None = None, other: np.ndarray = SCORES) -> float:
    return score(metric, SCORES, labels, other).value


def test_metrics_are_what_scikit_learn_says() -> None:
    found = SCORES.argmax(axis=1)
    assert value(EvaluationMetric.ACCURACY, LABELS) == pytest.approx(100 * accuracy_score(LABELS, found))
    assert value(EvaluationMetric.F1, LABELS) == pytest.approx(100 * f1_score(LABELS, found, average="macro"))
    assert value(EvaluationMetric.MEAN_ABSOLUTE_ERROR, TARGETS) == pytest.approx(mean_absolute_error(TARGETS, SCORES))


def test_agreement_with_the_unoptimized_model() -> None:
    assert value(EvaluationMetric.AGREEMENT) == 100
    other = SCORES.copy()
    other[:9] = -other[:9]
    assert value(EvaluationMetric.AGREEMENT, other=other) == pytest.approx(90)


def test_agreement_of_outputs_that_are_no_scores_is_their_direction() -> None:
    vectors = SCORES.reshape(90, 2, 2)
    assert score(EvaluationMetric.AGREEMENT, 2 * vectors, None, vectors).value == pytest.approx(100)
    assert score(EvaluationMetric.AGREEMENT, np.zeros((9, 2, 2)), None, np.zeros((9, 2, 2))).value == 100


def test_classes_may_come_as_they_are() -> None:
    assert score(EvaluationMetric.ACCURACY, LABELS, LABELS, LABELS).value == 100


def test_outputs_that_are_not_numbers_end_the_candidate() -> None:
    broken = SCORES.copy()
    broken[:2] = np.nan
    with pytest.raises(BadModelError, match=r"not a number \(NaN\) for 2 of 90 samples"):
        score(EvaluationMetric.ACCURACY, broken, LABELS, SCORES)
    broken[:2] = np.inf
    with pytest.raises(BadModelError, match="infinite for 2 of 90 samples"):
        score(EvaluationMetric.MEAN_ABSOLUTE_ERROR, broken, TARGETS, SCORES)


def test_another_shape_ends_the_candidate() -> None:
    with pytest.raises(BadModelError, match="the outputs have the shape"):
        score(EvaluationMetric.AGREEMENT, SCORES[:, :3], None, SCORES)


def right_or_wrong(right: np.ndarray) -> Scored:
    scores = right.astype(np.float64)
    return Scored(scores, 100 * float(scores.mean()))


def verdict(baseline: Scored, candidate: Scored) -> Verdict:
    gate = Gate(metric=Metric.ACCURACY, goal=Goal.PERCENT_MAX_DEGRADATION, value="5")
    return evaluate(gate, compare(EvaluationMetric.ACCURACY, candidate, baseline)).verdict


@pytest.mark.parametrize(("lost", "expected"), [(0, Verdict.PASSED), (15, Verdict.INCONCLUSIVE), (60, Verdict.FAILED)])
def test_what_some_hundred_samples_can_tell(lost: int, expected: Verdict) -> None:
    baseline = np.arange(300) < 291
    candidate = baseline & (np.arange(300) >= lost)
    assert verdict(right_or_wrong(baseline), right_or_wrong(candidate)) is expected


def test_a_handful_of_samples_cannot_tell() -> None:
    equal = right_or_wrong(np.ones(12, dtype=bool))
    assert verdict(equal, equal) is Verdict.INCONCLUSIVE


@given(st.integers(0, 2**32 - 1), st.sampled_from([EvaluationMetric.ACCURACY, EvaluationMetric.MEAN_ABSOLUTE_ERROR]))
def test_the_interval_holds_the_figure(seed: int, metric: EvaluationMetric) -> None:
    random = np.random.default_rng(seed)
    outputs = SCORES + 0.2 * random.standard_normal(SCORES.shape)
    labels = LABELS if metric is EvaluationMetric.ACCURACY else TARGETS
    baseline = score(metric, SCORES, labels, SCORES)
    candidate = score(metric, outputs, labels, SCORES)
    found = compare(metric, candidate, baseline)
    assert found.baseline == baseline.value
    assert found.low <= found.value == candidate.value <= found.high
