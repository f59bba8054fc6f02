"""From figures to places on paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_DECADES_FOR_LOG: Final = 0.9
_PADDING: Final = 0.08
_TICKS: Final = 5
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LEAST_MARGIN: Final = 0.03
"""In decades."""
_POWERS: Final = 307
"""Powers of ten that floats can have."""
_TINY: Final = 1e-12
_DECADES_WITH_HALVES: Final = 2.0


@dataclass(frozen=True)
class Scale:
    """Maps figures to coordinates, linearly or by the logarithm.

    Attributes:
        low: The figure at `start`.
        high: The figure at `end`.
        start: Coordinate of the lowest figure.
        end: Coordinate of the highest figure.
        log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        """Return the coordinate of a figure, within the paper, to a tenth."""
        low, high, at = (math.log(it) if self.log else it for it in (self.low, self.high, self._within(value)))
        share = (at - low) / (high - low)
        return round(self.start + (self.end - self.start) * share, 1)

    def _within(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    @property
    def ticks(self) -> list[float]:
        """Round figures along the axis."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def fit(values: Sequence[float], start: float, end: float, *, log: bool | None = None) -> Scale:
    """Return a scale on which all figures have their place, with some room around them.

    Args:
        values: Finite figures, at least one.
        start: Coordinate of the lowest figure.
        end: Coordinate of the highest figure.
        log: Whether by the logarithm; where it is left open, when the figures are that far apart.
    """
    low, high = min(values), max(values)
    if low > 0 and (log or (log is None and math.log10(high) - math.log10(low) > _DECADES_FOR_LOG)):
        first, last = math.log10(low), math.log10(high)
        margin = max(_PADDING * (last - first), _LEAST_MARGIN)
        return Scale(10 ** max(first - margin, -_POWERS), 10 ** min(last + margin, _POWERS), start, end, log=True)
    margin = max((high / 2 - low / 2) * 2 * _PADDING, max(abs(low), abs(high)) * 0.001, _TINY)
    return Scale(low - margin, high + margin, start, end, log=False)


def _linear_ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / _TICKS
    decade = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * decade for factor in _STEPS if factor * decade >= raw * (1 - _TINY))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high) - math.log10(low)
    if decades < 1.0:
        return [tick for tick in _linear_ticks(low, high) if tick > 0]
    every = max(1, math.ceil(decades / (_TICKS + 1)))
    factors = (1.0, 2.0, 5.0) if decades <= _DECADES_WITH_HALVES else (1.0,)
    found = [factor * 10.0**power for power in range(first, min(last, _POWERS) + 1, every) for factor in factors]
    return [tick for tick in found if low <= tick <= high]
