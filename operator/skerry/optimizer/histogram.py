"""The distribution of latencies, small enough for a report."""

from typing import Final

import numpy as np

from skerry.optimizer.measure import Timings
from skerry.optimizer.report import LatencyHistogram

BINS_A_DECADE: Final = 100
"""Each bin is 2.3 % wide; all histograms have their edges at the same places, so that they can be laid over another."""
_DIGITS: Final = 6


def latency_histogram(timings: Timings) -> LatencyHistogram | None:
    """Return how the inferences of all rounds are distributed, from the fastest to the slowest; None without any."""
    milliseconds = np.concatenate([taken.latencies for taken in timings.rounds]) if timings.rounds else np.empty(0)
    milliseconds = milliseconds[milliseconds > 0]
    if not len(milliseconds):
        return None
    bins = np.floor(np.log10(milliseconds) * BINS_A_DECADE).astype(int)
    first, last = int(bins.min()), int(bins.max())
    edges = 10.0 ** (np.arange(first, last + 2) / BINS_A_DECADE)
    return LatencyHistogram(
        edges=[float(f"{edge:.{_DIGITS}g}") for edge in edges], counts=np.bincount(bins - first).tolist()
    )
