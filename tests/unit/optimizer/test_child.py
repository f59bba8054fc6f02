"""Processes that crash, are killed or fail: each becomes an error with a message."""

import os
import signal
import sys

import pytest

from skerry.optimizer import child
from skerry.optimizer.errors import BadModelError, ChildDiedError, OptimizationError, OutOfDiskError, OutOfMemoryError


def double(value: int) -> int:
    return 2 * value


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def leave() -> None:
    os._exit(3)


def fail(kind: str) -> None:
    errors = {
        "foreseen": BadModelError("the model is bad"),
        "library": RuntimeError("Exception from src/core.cpp:97:\nCheck 'false' failed\nno such operation"),
        "memory": MemoryError("cannot allocate"),
        "allocator": RuntimeError("std::bad_alloc"),
        "disk": OSError(28, "No space left on device"),
    }
    raise errors[kind]


class Counter:
    def __init__(self, start: int) -> None:
        if start < 0:
            message = "below zero"
            raise BadModelError(message)
        self._value = start

    def add(self, step: int) -> int:
        self._value += step
        return self._value

    def crash(self) -> None:
        die(signal.SIGSEGV)


def test_a_result_comes_back() -> None:
    assert child.call("doubling", double, 21) == 42


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (signal.SIGSEGV, ChildDiedError, "parsing: the process crashed with SIGSEGV"),
        (signal.SIGABRT, ChildDiedError, "parsing: the process crashed with SIGABRT"),
        (signal.SIGKILL, OutOfMemoryError, "parsing: the process was killed, most likely because memory ran out"),
    ],
)
def test_a_death_is_told(number: int, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        child.call("parsing", die, number)


def test_leaving_without_an_answer() -> None:
    with pytest.raises(ChildDiedError, match="ended with exit code 3 and without an answer"):
        child.call("parsing", leave)


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("foreseen", BadModelError, "^the model is bad$"),
        ("library", OptimizationError, "^RuntimeError: no such operation$"),
        ("memory", OutOfMemoryError, "raise the memory limit"),
        ("allocator", OutOfMemoryError, "raise the memory limit"),
        ("disk", OutOfDiskError, "raise the ephemeral-storage limit"),
    ],
)
def test_an_error_is_passed_on(what: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        child.call("making", fail, what)
    assert type(caught.value) is kind


def test_an_object_lives_on_between_calls() -> None:
    with child.Remote("counting", Counter, 1) as counter:
        assert counter.call("add", 1) == 2
        assert counter.call("add", 2) == 4
        assert counter.alive


def test_an_object_that_cannot_be_made() -> None:
    with pytest.raises(BadModelError, match="below zero"):
        child.Remote("counting", Counter, -1)


def test_an_object_that_crashes() -> None:
    with child.Remote("counting", Counter, 1) as counter:
        with pytest.raises(ChildDiedError, match="counting: the process crashed with SIGSEGV"):
            counter.call("crash")
        with pytest.raises(ChildDiedError, match="counting: the process crashed"):
            counter.call("add", 1)
        assert not counter.alive


def test_an_object_that_died_is_started_anew() -> None:
    with child.Standing(lambda: child.Remote("counting", Counter, 5)) as standing:
        assert not standing.renew()
        with pytest.raises(ChildDiedError):
            standing.remote.call("crash")
        assert standing.renew()
        assert standing.remote.call("add", 1) == 6


def stdout_is_heard() -> bool:
    sys.stdout.write("from the child\n")
    return True


def test_children_write_where_the_parent_writes(capfd: pytest.CaptureFixture[str]) -> None:
    assert child.call("writing", stdout_is_heard)
    assert capfd.readouterr().out == "from the child\n"
