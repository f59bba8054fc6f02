"""The work queue: each key once, one worker a key, later when that is wanted."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

import pytest

from skerry.controllers.queue import WorkQueue
from skerry.kube.errors import ConflictError, GoneError, UnavailableError
from skerry.reconcile.base import Key

ONE = Key("EdgeModel", "a", "one")
TWO = Key("EdgeModel", "a", "two")
DEADLINE = 10.0


class Reconciler:
    """Counts its calls, and answers what it is told."""

    def __init__(self) -> None:
        self.calls: dict[Key, int] = defaultdict(int)
        self.answers: dict[Key, list[float | Exception | None]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.active = 0
        self.most = 0

    async def __call__(self, key: Key) -> float | None:
        self.calls[key] += 1
        self.active += 1
        self.most = max(self.most, self.active)
        await self.gate.wait()
        self.active -= 1
        answers = self.answers.get(key, [])
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def until(look: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while not look():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.005)


@pytest.fixture
async def reconciler() -> Reconciler:
    return Reconciler()


def working(queue: WorkQueue, workers: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(queue.work()) for _ in range(workers)]


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_key_waits_once_however_often_it_is_added(reconciler: Reconciler) -> None:
    queue = WorkQueue(reconciler, jitter=lambda: 0.0)
    for _ in range(100):
        queue.add(ONE)
    queue.add(TWO)
    assert len(queue) == 2

    tasks = working(queue, 2)
    await until(lambda: reconciler.calls[TWO] == 1 and len(queue) == 0, "both done")
    await stop(tasks)

    assert reconciler.calls == {ONE: 1, TWO: 1}


async def test_a_key_added_while_it_is_worked_on_is_looked_at_again_but_never_twice_at_once(
    reconciler: Reconciler,
) -> None:
    queue = WorkQueue(reconciler, jitter=lambda: 0.0)
    reconciler.gate.clear()
    queue.add(ONE)
    tasks = working(queue, 3)
    await until(lambda: reconciler.active == 1, "under way")

    for _ in range(10):
        queue.add(ONE)
    reconciler.gate.set()
    await until(lambda: reconciler.calls[ONE] == 2, "looked at again")
    await stop(tasks)

    assert reconciler.most == 1


async def test_a_key_comes_back_when_its_reconciler_says_so(reconciler: Reconciler) -> None:
    queue = WorkQueue(reconciler, jitter=lambda: 0.0)
    reconciler.answers[ONE] = [0.01, 0.01, None]
    queue.add(ONE)
    tasks = working(queue, 1)
    await until(lambda: reconciler.calls[ONE] == 3, "three times")
    await stop(tasks)


@pytest.mark.parametrize("error", [ConflictError("x"), UnavailableError("x"), RuntimeError("a defect")])
async def test_an_error_is_tried_again_and_stops_nothing_else(reconciler: Reconciler, error: Exception) -> None:
    outcomes: list[str] = []
    queue = WorkQueue(reconciler, observe=lambda _key, _seconds, outcome: outcomes.append(outcome), jitter=lambda: 0.0)
    reconciler.answers[ONE] = [error, None]
    queue.add(ONE)
    queue.add(TWO)
    tasks = working(queue, 1)
    await until(lambda: reconciler.calls == {ONE: 2, TWO: 1}, "tried again")
    await until(lambda: len(outcomes) == 3, "observed")
    await stop(tasks)

    assert outcomes.count("ok") == 2


async def test_what_is_being_deleted_is_not_tried_again(reconciler: Reconciler) -> None:
    outcomes: list[str] = []
    queue = WorkQueue(reconciler, observe=lambda _key, _seconds, outcome: outcomes.append(outcome), jitter=lambda: 0.0)
    reconciler.answers[ONE] = [GoneError("x")]
    queue.add(ONE)
    tasks = working(queue, 1)
    await until(lambda: outcomes == ["gone"], "observed")
    queue.add(TWO)
    await until(lambda: reconciler.calls[TWO] == 1, "the next")
    await stop(tasks)

    assert reconciler.calls[ONE] == 1
