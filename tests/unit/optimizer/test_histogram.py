"""The distribution of latencies."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry.optimizer.bench import Round
from skerry.optimizer.histogram import BINS_A_DECADE, latency_histogram
from skerry.optimizer.measure import Timings


def timings(*rounds: list[float]) -> Timings:
    return Timings(tuple(Round(np.array(latencies), 0.0) for latencies in rounds))


@given(st.lists(st.lists(st.floats(1e-3, 1e5), min_size=1), min_size=1))
def test_every_inference_of_every_round_is_in_its_bin(rounds: list[list[float]]) -> None:
    found = latency_histogram(timings(*rounds))
    assert found is not None
    values = sorted(itertools.chain.from_iterable(rounds))
    assert sum(found.counts) == len(values)
    assert found.counts[0] > 0
    assert found.counts[-1] > 0
    assert found.edges[0] <= values[0] * 1.00001
    assert values[-1] <= found.edges[-1] * 1.00001
    ratios = [after / before for before, after in itertools.pairwise(found.edges)]
    assert np.allclose(ratios, 10 ** (1 / BINS_A_DECADE), rtol=1e-4)


def test_bins_are_at_the_same_places_everywhere() -> None:
    one, other = latency_histogram(timings([1.0, 2.0])), latency_histogram(timings([1.5, 4.0]))
    assert one is not None
    assert other is not None
    assert len(set(one.edges) & set(other.edges)) > 10


def test_nothing_timed_has_no_distribution() -> None:
    assert latency_histogram(timings()) is None
    assert latency_histogram(timings([0.0])) is None
