"""The watchdog: kopf's watchers can die while the process lives and its health endpoint stays green.

A watcher ends for good when listing fails for longer than the backoffs, or when it meets one WATCH error other than 410
(seen on kopf 1.44). So the liveness probe compares the watchers that there should be with the tasks that live.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "watcher for "


def living(tasks: Iterable[asyncio.Task[object]]) -> list[str]:
    """Return the names of kopf's watcher tasks that are not done."""
    return [task.get_name() for task in tasks if task.get_name().startswith(PREFIX) and not task.done()]


def missing(expected: Iterable[str], tasks: Iterable[asyncio.Task[object]]) -> list[str]:
    """Return the plural names of resources that no living watcher watches.

    Args:
        expected: Resources as `plural.version.group`, or `plural.version` of the core group.
        tasks: All tasks of the event loop.
    """
    names = living(tasks)
    return [resource for resource in expected if not any(name.startswith(f"{PREFIX}{resource}@") for name in names)]
