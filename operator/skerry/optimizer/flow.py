"""Several streams of inferences at once, in the process that has the model loaded."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from skerry.optimizer.backends.base import Session
from skerry.optimizer.data import Sample
from skerry.optimizer.wire import transported

_GATHERING_SECONDS: Final = 30.0
"""How long streams wait for each other before they begin, should one never come."""


@transported
@dataclass(frozen=True)
class Flow:
    """What streams did at once.

    Attributes:
        inferences: Number of inferences of each stream.
        seconds: How long each took for them.
    """

    inferences: tuple[int, ...]
    seconds: tuple[float, ...]

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

    def stream(place: int) -> tuple[int, float]:
        session, count = sessions[place], 0
        together.wait(_GATHERING_SECONDS)
        started = clock()
        while True:
            session.infer(inputs[(place + count) % len(inputs)])
            count += 1
            taken = clock() - started
            if taken >= seconds:
                return count, taken

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="stream") as pool:
        done = list(pool.map(stream, range(len(sessions))))
    return Flow(tuple(count for count, _ in done), tuple(taken for _, taken in done))
