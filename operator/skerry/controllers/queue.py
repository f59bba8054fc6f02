"""A queue of keys: each is in it once, is worked on by one worker at a time, and comes back later when that is wanted.

kopf's own change detection keeps annotations and finalizers on objects and orders handlers by object; Skerry's
reconcilers are level-triggered over several objects, so that all a watch event says is "look at this key again". Events
that come while a key waits cost nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from skerry.kube.errors import ApiError, ConflictError, GoneError
from skerry.reconcile.base import Key

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 120.0
_LOG: Final = logging.getLogger(__name__)

Reconcile = Callable[[Key], Awaitable[float | None]]
Observe = Callable[[Key, float, str], None]


class WorkQueue:
    """Keys that wait for their reconciler."""

    def __init__(
        self,
        reconcile: Reconcile,
        *,
        observe: Observe = lambda *_: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reconcile = reconcile
        self._observe = observe
        self._jitter = jitter
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Have a key looked at soon."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key looked at after some time; the last wish counts."""
        self._cancel(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def work(self) -> None:
        """Work on keys for ever."""
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            self._cancel(key)
            try:
                await self._once(key)
            finally:
                self._active.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _once(self, key: Key) -> None:
        started = time.monotonic()
        outcome = "ok"
        try:
            after = await self._reconcile(key)
            self._failures.pop(key, None)
            if after is not None:
                self.add_after(key, after * (0.9 + 0.2 * self._jitter()))
        except ConflictError:
            outcome = "conflict"
            self.add_after(key, FIRST_PAUSE * self._jitter())
        except GoneError:
            outcome = "gone"  # deleting goes on without us, and ends with an event
        except ApiError as error:
            outcome = "error"
            _LOG.warning("%s %s/%s: %s", key.kind, key.namespace, key.name, error)
            self._back_off(key)
        except Exception:  # noqa: BLE001 - one object's defect must not stop the others
            outcome = "error"
            _LOG.exception("%s %s/%s could not be reconciled", key.kind, key.namespace, key.name)
            self._back_off(key)
        self._observe(key, time.monotonic() - started, outcome)

    def _back_off(self, key: Key) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(FIRST_PAUSE * 2.0 ** min(failures, 16), LONGEST_PAUSE)
        self.add_after(key, pause * (0.5 + self._jitter()))
