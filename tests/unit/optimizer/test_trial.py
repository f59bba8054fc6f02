"""When there are enough rounds, and figures as the API writes them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.meta import DECIMAL_PATTERN
from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, Verdict
from skerry.optimizer.backends.base import Made
from skerry.optimizer.trial import EMULATED, decimal, settled, unknown
from skerry.planning.gates import Comparison, judge

FASTER = Gate(metric=Metric.LATENCY_P95, goal=Goal.PERCENT_MIN_IMPROVEMENT, value="50")
SMALLER = Gate(metric=Metric.MODEL_MEMORY, goal=Goal.PERCENT_MIN_IMPROVEMENT, value="50")
CLEAR = Comparison(10.0, 2.0, 1.5, 2.5)
DOUBTFUL = Comparison(10.0, 5.0, 4.0, 6.0)
HOPELESS = Comparison(10.0, 9.0, 8.5, 9.5)


@pytest.mark.parametrize(
    ("latency", "memory", "enough"),
    [
        (CLEAR, CLEAR, True),
        (DOUBTFUL, CLEAR, False),
        (DOUBTFUL, DOUBTFUL, False),
        (DOUBTFUL, HOPELESS, True),
        (HOPELESS, DOUBTFUL, True),
    ],
)
def test_more_rounds_are_taken_only_where_they_may_decide(
    latency: Comparison, memory: Comparison, *, enough: bool
) -> None:
    found = {Metric.LATENCY_P95: latency, Metric.MODEL_MEMORY: memory}
    assert settled(found, [FASTER, SMALLER], EvaluationMetric.ACCURACY) is enough


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_every_figure_is_a_decimal_near_itself(value: float) -> None:
    text = decimal(value)
    assert re.fullmatch(DECIMAL_PATTERN, text)
    assert len(text) <= 32
    assert abs(float(text) - value) <= max(1e-9, abs(value) * 1e-4)


def test_five_digits_and_no_exponent() -> None:
    assert [decimal(value) for value in (0.0, 5000.0, 0.000123456789, 98.0)] == ["0", "5000", "0.00012346", "98"]


@pytest.mark.parametrize("metric", [metric for metric in Metric if metric is not Metric.ACCURACY])
def test_what_an_emulator_measures_is_no_figure_of_the_device(metric: Metric) -> None:
    gates = [Gate(metric=metric, goal=Goal.PERCENT_MAX_DEGRADATION, value="1000")]
    real, emulated = Made("m", {}, "INT8"), Made("m", {}, "INT8", emulated="an emulator ran it")
    assert metric not in unknown(real)
    told = judge(gates, {}, missing=unknown(emulated))[metric]
    assert told.verdict is Verdict.INCONCLUSIVE
    assert told.message.endswith("an emulator ran it") is (metric not in EMULATED)
