"""Figures as the API writes them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from skerry.api.meta import DECIMAL_PATTERN
from skerry.optimizer.trial import decimal


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_every_figure_is_a_decimal_near_itself(value: float) -> None:
    text = decimal(value)
    assert re.fullmatch(DECIMAL_PATTERN, text)
    assert len(text) <= 32
    assert abs(float(text) - value) <= max(1e-9, abs(value) * 1e-4)


def test_five_digits_and_no_exponent() -> None:
    assert [decimal(value) for value in (0.0, 5000.0, 0.000123456789, 98.0)] == ["0", "5000", "0.00012346", "98"]
