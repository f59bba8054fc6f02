"""Accuracy, looked at bit by bit."""

from skerry.optimizer.looks import of_all, scaled
from skerry.planning.gates import Comparison


def test_a_part_is_said_of_all_by_the_difference() -> None:
    found = of_all(Comparison(90.0, 81.0, 80.0, 82.0), 95.0)
    assert (found.baseline, found.value, found.low, found.high) == (95.0, 86.0, 85.0, 87.0)


def test_perplexities_differ_by_a_ratio() -> None:
    """A candidate that is 4 % worse on a hard beginning is 4 % worse on the whole, not 8 %."""
    found = scaled(Comparison(20.0, 20.8, 20.6, 21.0), 10.0)
    assert (found.baseline, found.value, found.low, found.high) == (10.0, 10.4, 10.3, 10.5)
