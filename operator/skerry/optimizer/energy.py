"""How much energy the machine has used, where something tells.

That is RAPL of Intel and AMD, or the energy counters of hwmon, with those of NVIDIA's GPUs; where a board has neither
RAPL nor such a counter, its INA power sensors, added up. All are of whole packages, boards or GPUs: what neighbours use
is in the figure, and taken out only as far as baseline and candidate are compared within the same rounds. Kernels let
only root read RAPL. Where nothing can be read there is no figure, rather than a zero.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from skerry.optimizer import nvml, power

_MICRO: Final = 1e-6
_ROOT: Final = Path("/sys")
_PACKAGES: Final = "class/powercap/intel-rapl:[0-9]*"
_HWMON: Final = "class/hwmon/hwmon*/energy*_input"


class Counter(Protocol):
    """Something that counts energy."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def begin(self) -> None:
        """Count from now on.

        Raises:
            OSError: It cannot be read.
            ValueError: It shows no number.
        """
        ...

    def joules(self) -> float:
        """Return what was used since it began, and count no more.

        Raises:
            OSError: It cannot be read.
            ValueError: It shows no number.
        """
        ...


class FileCounter:
    """A file with a count of microjoules.

    Args:
        path: The file.
        range_microjoules: Where it begins again at 0; None: it does not.
    """

    def __init__(self, path: Path, range_microjoules: int | None) -> None:
        self._path = path
        self._range = range_microjoules
        self._began = 0

    @property
    def name(self) -> str:
        """The last two parts of the path: what counts, and which of its counters."""
        return f"{self._path.parent.name}/{self._path.name}"

    def read(self) -> int:
        """Return what it shows."""
        return int(self._path.read_text(encoding="ascii"))

    def begin(self) -> None:
        """Note what it shows."""
        self._began = self.read()

    def joules(self) -> float:
        """Return by how much more it shows now."""
        used = self.read() - self._began
        return max(used if used >= 0 else used + (self._range or 0), 0) * _MICRO


@cache
def here() -> Sequence[Counter]:
    """Return this machine's counters."""
    return counters()


def counters(root: Path = _ROOT) -> list[Counter]:
    """Return the counters that can be read; a board's own sensors see its GPU as well, and are not added to others."""
    packages = [folder for folder in sorted(root.glob(_PACKAGES)) if folder.name.count(":") == 1 and _part(folder)]
    found: list[Counter] = [
        *_readable((folder / "energy_uj", folder / "max_energy_range_uj") for folder in packages)
    ] or [*_readable((path, None) for path in sorted(root.glob(_HWMON)))]
    if not found and (board := power.counter(root)) is not None:
        return [board]
    return [*found, *nvml.counters()]


def _part(zone: Path) -> bool:
    """Tell whether a zone of RAPL is a part of the machine: `psys` is all of it, and would be added to its parts."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (zone / "name").read_text(encoding="ascii").strip() != "psys"
    return True


def _readable(files: Iterable[tuple[Path, Path | None]]) -> Iterator[FileCounter]:
    """Yield the counters that can be read; each is a file, and one that tells where it begins again."""
    for path, limit in files:
        with contextlib.suppress(OSError, ValueError):
            counter = FileCounter(path, int(limit.read_text(encoding="ascii")) if limit is not None else None)
            counter.read()
            yield counter


def begin(found: Sequence[Counter]) -> bool:
    """Let counters count from now on; return whether there are any and all of them do."""
    try:
        for counter in found:
            counter.begin()
    except (OSError, ValueError):
        return False
    return bool(found)


def joules(found: Sequence[Counter]) -> float | None:
    """Return what was used since they began; None when one cannot be read, or stood still: then it is too slow."""
    try:
        used = [counter.joules() for counter in found]
    except (OSError, ValueError):
        return None
    return sum(used) if min(used, default=0.0) > 0 else None
