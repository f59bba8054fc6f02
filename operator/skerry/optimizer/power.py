"""Power sensors of boards that do not count energy: the INA chips of Jetsons and others, sampled and added up.

They tell the power of this moment, in `class/hwmon`. A Jetson's INA3221 has up to three rails, whose power is voltage
times current; others have one, and say its power. Where one rail is that of the whole board, it alone counts.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, Protocol

_CHIP: Final = re.compile(r"ina\d+x?")
_CHANNELS: Final = (1, 2, 3)
"""An INA3221's; what it calls the fourth is the sum of the others' currents, beside another voltage."""
_WHOLE: Final = frozenset({"VDD_IN", "5V_IN", "POM_5V_IN"})
"""What Jetsons call the rail that feeds all the others."""
_NOT_CONNECTED: Final = "NC"
_MICRO: Final = 1e-6
PERIOD_SECONDS: Final = 0.025


@dataclass(frozen=True)
class Rail:
    """A rail with the files whose product is its power: microwatts, or millivolts and milliamperes."""

    chip: str
    name: str
    files: tuple[Path, ...]

    def watts(self) -> float:
        """Return its power now.

        Raises:
            OSError: It cannot be read.
            ValueError: A file has no number.
        """
        return _MICRO * prod(int(path.read_text(encoding="ascii")) for path in self.files)


class Integral:
    """Energy by the trapezoidal rule over samples of power."""

    def __init__(self) -> None:
        self.joules = 0.0
        self._last: tuple[float, float] | None = None

    def add(self, seconds: float, watts: float) -> None:
        """Take a sample, no earlier than the one before."""
        if self._last is not None:
            before, power = self._last
            self.joules += (seconds - before) * (power + watts) / 2
        self._last = (seconds, watts)


class PowerCounter:
    """Adds up the power of rails as often as it is asked to take a sample; that may be done by any thread.

    Args:
        rails: What is sampled.
        clock: Seconds that pass.
    """

    def __init__(self, rails: Sequence[Rail], clock: Callable[[], float] = time.monotonic) -> None:
        self._rails = rails
        self._clock = clock
        self._lock = threading.Lock()
        self._integral = Integral()
        self._failure: Exception | None = None

    @property
    def name(self) -> str:
        """The chips and the rails."""
        return " + ".join(f"{rail.chip} {rail.name}" for rail in self._rails)

    def begin(self) -> None:
        """Forget what was, and take a first sample."""
        with self._lock:
            self._integral, self._failure = Integral(), None
        self.sample()

    def sample(self) -> None:
        """Take a sample; that it fails is told to whoever asks for the sum."""
        with self._lock:
            try:
                watts = sum(rail.watts() for rail in self._rails)
                self._integral.add(self._clock(), watts)
            except (OSError, ValueError) as error:
                self._failure = error

    def joules(self) -> float:
        """Take a last sample and return the sum.

        Raises:
            OSError: A sample could not be taken.
            ValueError: A sample was no number.
        """
        self.sample()
        if self._failure is not None:
            raise self._failure
        return self._integral.joules


class Sampled(Protocol):
    """What a thread takes samples of."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def begin(self) -> None:
        """Count from now on."""
        ...

    def sample(self) -> None:
        """Take a sample."""
        ...

    def joules(self) -> float:
        """Return the sum."""
        ...


class Sampling:
    """A counter of which a thread takes samples while it counts.

    Args:
        counter: The counter.
        period: Seconds between two samples.
    """

    def __init__(self, counter: Sampled, period: float = PERIOD_SECONDS) -> None:
        self._counter = counter
        self._period = period
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self._counter.name

    def begin(self) -> None:
        """Count from now on."""
        self._stop()  # what began and was never asked, as its inferences failed
        self._counter.begin()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._samples, args=(self._end,), name="power", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        """Return the sum, and count no more."""
        self._stop()
        return self._counter.joules()

    def _samples(self, end: threading.Event) -> None:
        while not end.wait(self._period):
            self._counter.sample()

    def _stop(self) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def counter(root: Path) -> Sampling | None:
    """Return the counter of a board with such sensors, or None."""
    found = rails(root)
    return Sampling(PowerCounter(found)) if found else None


def rails(root: Path) -> list[Rail]:
    """Return the rails that count and can be read."""
    found = [rail for folder in sorted(root.glob("class/hwmon/hwmon*")) for rail in _rails(folder) if _readable(rail)]
    return [rail for rail in found if rail.name in _WHOLE] or found


def _rails(folder: Path) -> Iterator[Rail]:
    """Yield the rails of a chip."""
    chip = _text(folder / "name")
    if not _CHIP.fullmatch(chip):
        return
    powers = sorted(folder.glob("power[0-9]*_input"))
    for path in powers:
        yield Rail(chip, _text(folder / path.name.replace("_input", "_label")) or folder.name, (path,))
    for channel in () if powers else _CHANNELS:
        name = _text(folder / f"in{channel}_label") or f"{folder.name} channel {channel}"
        if name != _NOT_CONNECTED and _text(folder / f"in{channel}_enable") != "0":
            yield Rail(chip, name, (folder / f"in{channel}_input", folder / f"curr{channel}_input"))


def _readable(rail: Rail) -> bool:
    try:
        rail.watts()
    except (OSError, ValueError):
        return False
    return True


def _text(path: Path) -> str:
    """Return what a file says; nothing when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
