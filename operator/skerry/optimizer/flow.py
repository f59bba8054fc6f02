"""Several streams of inferences at once, in the process that has the model loaded."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.optimizer.backends.base import Session
from skerry.optimizer.data import Sample
from skerry.optimizer.wire import transported

_OWN_TIMES: Final = Path("/proc/thread-self/schedstat")
_NANO: Final = 1e-9
_GATHERING_SECONDS: Final = 30.0
"""How long streams wait for each other before they begin, should one never come."""


@transported
@dataclass(frozen=True)
class Flow:
    """What streams did at once.

    Attributes:
        inferences: Number of inferences of each stream.
        seconds: How long each took for them.
        waited_seconds: For how long threads were ready to run but had to wait for a CPU, added up over the threads.
    """

    inferences: tuple[int, ...]
    seconds: tuple[float, ...]
    waited_seconds: float = 0.0

    @property
    def waited(self) -> float:
        """Which part of the time was spent waiting for a CPU."""
        return self.waited_seconds / sum(self.seconds)

    @property
    def per_second(self) -> float:
        """Inferences per second, added up over the streams: that one ends a little later than another costs nothing."""
        return sum(count / seconds for count, seconds in zip(self.inferences, self.seconds, strict=True))


def flow(
    sessions: Sequence[Session],
    inputs: Sequence[Sample],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Flow:
    """Run inferences in one thread a session, beginning together, for so long; each stream has one at the least.

    Args:
        sessions: What each stream runs; the same one may stand for several when threads may share it.
        inputs: Samples to run in turn; each stream begins with another.
        seconds: No inference begins after that time.
        clock: Seconds that pass.
    """
    together = threading.Barrier(len(sessions))

    def stream(place: int) -> tuple[int, float, float]:
        session, count = sessions[place], 0
        together.wait(_GATHERING_SECONDS)
        started = clock()
        while True:
            session.infer(inputs[(place + count) % len(inputs)])
            count += 1
            taken = clock() - started
            if taken >= seconds:
                return count, taken, _waited_seconds()

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="stream") as pool:
        done = list(pool.map(stream, range(len(sessions))))
    counts, seconds_taken, waited = zip(*done, strict=True)
    return Flow(counts, seconds_taken, sum(waited))


def _waited_seconds() -> float:
    """Return for how long this thread has been ready to run without a CPU, since it began."""
    with contextlib.suppress(OSError, IndexError):  # the kernel keeps no such count
        return int(_OWN_TIMES.read_text(encoding="ascii").split()[1]) * _NANO
    return 0.0
