"""How much energy the machine has used, where a counter tells: RAPL of Intel and AMD, energy counters of hwmon.

The counters are of whole packages or boards: what neighbours use is in the figure, and taken out only as far as
baseline and candidate are compared within the same rounds. Power sensors without a counter (INA3221) and NVML are not
read. Kernels let only root read RAPL; then there is no figure, rather than a zero.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MICRO: Final = 1e-6
_PACKAGES: Final = "class/powercap/intel-rapl:[0-9]*"
_HWMON: Final = "class/hwmon/hwmon*/energy*_input"


@dataclass(frozen=True)
class Counter:
    """A counter of microjoules, which begins again at 0 after its range; None: it does not."""

    path: Path
    range_microjoules: int | None

    def read(self) -> int:
        """Return what it shows."""
        return int(self.path.read_text(encoding="ascii"))


def counters(root: Path = Path("/sys")) -> list[Counter]:
    """Return the counters that can be read; those of packages where there are such, else those of hwmon."""
    packages = [folder for folder in sorted(root.glob(_PACKAGES)) if folder.name.count(":") == 1]
    found = [_counter(folder / "energy_uj", folder / "max_energy_range_uj") for folder in packages]
    return [each for each in found if each is not None] or [
        each for path in sorted(root.glob(_HWMON)) if (each := _counter(path, None)) is not None
    ]


def _counter(path: Path, wraps_at: Path | None) -> Counter | None:
    try:
        counter = Counter(path, int(wraps_at.read_text(encoding="ascii")) if wraps_at is not None else None)
        counter.read()
    except (OSError, ValueError):
        return None
    return counter


def joules(found: list[Counter], before: list[int], after: list[int]) -> float:
    """Return the joules between two readings of the counters."""
    total = 0
    for counter, first, last in zip(found, before, after, strict=True):
        total += last - first if last >= first else last - first + (counter.range_microjoules or 0)
    return max(total, 0) * _MICRO
