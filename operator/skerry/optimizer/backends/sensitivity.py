"""How much each layer hurts: by how much the output is wrong when that layer alone is quantized."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from skerry.optimizer.backends.base import Array

Sensitivity = tuple[tuple[str, float], ...]
"""Layers with the error of the output in percent, the worst first."""

MAX_LAYERS: Final = 256
"""More are not measured: each takes a model of its own."""
_WORST: Final = 1e6
_SHOWN: Final = 5
_PERCENT: Final = 100.0


def error_percent(wanted: Array, found: Array) -> float:
    """Return the root mean square of the error in percent of that of the output; what is not a number counts most."""
    exact, noisy = np.asarray(wanted, dtype=np.float64), np.asarray(found, dtype=np.float64)
    scale = max(float(np.sqrt(np.mean(exact**2))), float(np.finfo(np.float32).tiny))
    error = _PERCENT * float(np.sqrt(np.mean((noisy - exact) ** 2))) / scale
    return round(min(error, _WORST), 4) if np.isfinite(error) else _WORST


def ranked(errors: Mapping[str, float]) -> Sensitivity:
    """Return the layers, the most sensitive first; equal ones in the order of their names."""
    return tuple(sorted(errors.items(), key=lambda item: (-item[1], item[0])))


def worst(found: Sensitivity, count: int) -> list[str]:
    """Return the names of the most sensitive layers."""
    return [name for name, _ in found[:count]]


def kept(names: list[str]) -> str:
    """Return the remark about layers that stay in floating point."""
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"in floating point: {shown}{more}"
