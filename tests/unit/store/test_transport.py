"""Patience with servers that do not answer."""

import pytest

from skerry.store.errors import NotFoundError, UnreachableError
from skerry.store.transport import LONGEST_PAUSE, patiently, retry_after


class Time:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


class Server:
    """Does not answer so many times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


def test_pauses_grow_up_to_a_limit() -> None:
    time = Time()
    server = Server(9, UnreachableError("down"))
    assert patiently(server, seconds=1000, clock=time.clock, sleep=time.sleep, jitter=lambda: 0.5) == "answer"
    assert time.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


@pytest.mark.parametrize("jitter", [0.0, 0.99])
def test_jitter_spreads_the_pauses(jitter: float) -> None:
    time = Time()
    patiently(Server(1, UnreachableError("down")), seconds=9, clock=time.clock, sleep=time.sleep, jitter=lambda: jitter)
    assert time.pauses == [0.5 * (0.5 + jitter)]


def test_patience_ends_in_time_with_the_last_error() -> None:
    time = Time()
    told: list[str] = []
    with pytest.raises(UnreachableError, match="down"):
        patiently(
            Server(1000, UnreachableError("down")),
            seconds=60,
            notify=told.append,
            clock=time.clock,
            sleep=time.sleep,
            jitter=lambda: 0.5,
        )
    assert 40 < time.now <= 60
    assert told == ["down; trying again"] * len(time.pauses)


def test_what_does_not_get_better_is_not_tried_again() -> None:
    time = Time()
    server = Server(1, NotFoundError("missing"))
    with pytest.raises(NotFoundError):
        patiently(server, seconds=1000, clock=time.clock, sleep=time.sleep)
    assert server.calls == 1


def test_a_server_that_says_when_to_come_back_is_asked_then() -> None:
    time = Time()
    busy = UnreachableError("busy", retry_after_seconds=30)
    patiently(Server(2, busy), seconds=100, clock=time.clock, sleep=time.sleep, jitter=lambda: 0.5)
    assert time.pauses == [30, 30]
    with pytest.raises(UnreachableError, match="busy"):
        patiently(Server(1, busy), seconds=20, clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("", 0.0), ("-1", 0.0), ("Sat, 21 Nov 2026 16:00:00 GMT", 0.0), ("٣", 0.0)]
)
def test_when_to_come_back(header: str, seconds: float) -> None:
    assert retry_after(header) == seconds
