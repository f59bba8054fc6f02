"""Processes in a worker behave as those beside the search: answers, errors, deaths, and no orphan."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import skerry
from skerry.optimizer import child
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, ChildDiedError, DeadlineError, OptimizationError, OutOfMemoryError
from skerry.optimizer.worker import InWorker, listening

CODE = Path(skerry.__file__).parents[1]
SECONDS = 30.0
WORKER = """
import sys
from pathlib import Path
from skerry.optimizer.worker import Worker
Worker(Path(sys.argv[1]), "x", prefix="tests.").serve()
"""

Start = Callable[[], "subprocess.Popen[bytes]"]


def doubled(samples: Samples) -> Samples:
    return Samples({name: 2 * array for name, array in samples.arrays.items()}, labels=samples.labels)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def refuse() -> None:
    message = "the data is bad"
    raise BadDataError(message)


def sleep() -> None:
    time.sleep(600)


def babble() -> object:
    """Answer with something that cannot cross."""
    return object()


class Teller:
    """Something that lives on between calls."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    def tell(self, count: int) -> str:
        return count * self._greeting

    def process(self) -> int:
        return os.getpid()

    def die(self) -> None:
        die(signal.SIGSEGV)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start workers, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": f"{CODE}:{Path.cwd()}"}
        started.append(subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], env=environment))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait(SECONDS)


@pytest.fixture
def place(tmp_path: Path, start: Start) -> InWorker:
    start()
    return InWorker(tmp_path, "x", SECONDS)


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_values_go_there_and_back(place: InWorker) -> None:
    found = child.call("doubling", doubled, Samples({"x": np.ones((3, 2))}, labels=np.arange(3)), place=place)
    assert found.arrays["x"].tolist() == [[2.0, 2.0]] * 3


def test_an_object_lives_on_and_ends_with_the_context(place: InWorker) -> None:
    with child.Remote("telling", Teller, "ab", place=place) as teller:
        assert teller.call("tell", 2) == "abab"
        process = teller.call("process")
        assert process != os.getpid()
        assert teller.alive
    assert not alive(process)


def test_errors_and_deaths_are_told(place: InWorker) -> None:
    with pytest.raises(BadDataError, match="the data is bad"):
        child.call("refusing", refuse, place=place)
    with pytest.raises(ChildDiedError, match="dying: the process crashed with SIGSEGV"):
        child.call("dying", die, signal.SIGSEGV, place=place)
    with pytest.raises(OutOfMemoryError, match="dying: the process was killed"):
        child.call("dying", die, signal.SIGKILL, place=place)
    with child.Remote("telling", Teller, "a", place=place) as teller:
        with pytest.raises(ChildDiedError, match="SIGSEGV"):
            teller.call("die")
        assert not teller.alive
        with pytest.raises(OptimizationError):
            teller.call("tell", 1)


def test_what_hangs_is_stopped(place: InWorker) -> None:
    with pytest.raises(DeadlineError, match="sleeping: no end after 0 minutes"):
        child.call("sleeping", sleep, place=place, seconds=0.5)
    assert child.call("doubling", doubled, Samples({"x": np.ones(1)}), place=place)


def test_what_hangs_beside_the_search_is_stopped() -> None:
    with pytest.raises(DeadlineError, match="sleeping: no end"):
        child.call("sleeping", sleep, seconds=0.5)


def test_several_at_once(place: InWorker) -> None:
    with child.Remote("one", Teller, "a", place=place) as one, child.Remote("two", Teller, "b", place=place) as two:
        assert [one.call("tell", 2), two.call("tell", 3), one.call("tell", 1)] == ["aa", "bbb", "a"]


def test_an_answer_that_cannot_cross_ends_the_process(place: InWorker) -> None:
    with pytest.raises(ChildDiedError, match="babbling: the process ended"):
        child.call("babbling", babble, place=place)


def test_only_what_begins_with_the_prefix_is_started(place: InWorker) -> None:
    with pytest.raises(OptimizationError, match="leaving: the worker that it ran in ended"):
        child.call("leaving", os.getcwd, place=place)


def test_a_worker_that_comes_late_is_waited_for(tmp_path: Path, start: Start) -> None:
    (tmp_path / "x.sock").touch()  # what an earlier one left behind
    start()
    assert child.call("doubling", doubled, Samples({"x": np.ones(1)}), place=InWorker(tmp_path, "x", SECONDS))


def test_a_socket_without_a_worker_is_none(tmp_path: Path, start: Start) -> None:
    start()
    assert child.call("doubling", doubled, Samples({"x": np.ones(1)}), place=InWorker(tmp_path, "x", SECONDS))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "y.sock"))
    assert listening(tmp_path) == ["x"]


def test_a_worker_that_never_comes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptimizationError, match="the worker with the tools of x does not answer"):
        child.call("doubling", doubled, Samples({"x": np.ones(1)}), place=InWorker(tmp_path, "x", 0.1))


def test_when_the_search_is_gone_its_processes_end(tmp_path: Path, start: Start) -> None:
    start()
    searching = (
        "import sys; from pathlib import Path; from skerry.optimizer import child;"
        "from skerry.optimizer.worker import InWorker; from tests.unit.optimizer.test_worker import Teller;"
        "teller = child.Remote('x', Teller, 'a', place=InWorker(Path(sys.argv[1]), 'x'));"
        "print(teller.call('process'), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{CODE}:{Path.cwd()}"}
    command = [sys.executable, "-c", searching, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as search:
        assert search.stdout is not None
        process = int(search.stdout.readline())
        search.kill()
    until(lambda: not alive(process))


def test_when_the_worker_is_gone_that_is_told(tmp_path: Path, start: Start) -> None:
    worker = start()
    with child.Remote("telling", Teller, "a", place=InWorker(tmp_path, "x", SECONDS)) as teller:
        process = teller.call("process")
        worker.kill()
        worker.wait(SECONDS)
        with pytest.raises(OutOfMemoryError, match="telling: the worker that it ran in ended"):
            teller.call("tell", 1)
    until(lambda: not alive(process))
