"""The watchdog: kopf's watchers can die while the process lives and its health endpoint stays green.

A watcher ends for good when listing fails for longer than the backoffs, or when it meets one WATCH error other than 410
(seen on kopf 1.44). So the liveness probe compares the watchers that there should be with the tasks that live.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

PREFIX: Final = "watcher for "
EVERYWHERE: Final = "None"


def living(tasks: Iterable[asyncio.Task[object]]) -> set[str]:
    """Return the names of kopf's watcher tasks that are not done."""
    return {task.get_name() for task in tasks if task.get_name().startswith(PREFIX) and not task.done()}


def expected(watched: Mapping[str, bool], namespaces: Iterable[str]) -> list[str]:
    """Return the names of the watchers that there should be, as `resource@namespace`.

    kopf has one for each resource and namespace, and one at "None" for what has no namespace or is watched in all.

    Args:
        watched: Resources as `plural.version.group`, or `plural.version` of the core group, and whether each has
            namespaces.
        namespaces: The namespaces that are watched; none: all.
    """
    where = list(dict.fromkeys(namespaces)) or [EVERYWHERE]
    return [
        f"{resource}@{namespace}"
        for resource, namespaced in watched.items()
        for namespace in (where if namespaced else [EVERYWHERE])
    ]


def missing(names: Iterable[str], tasks: Iterable[asyncio.Task[object]]) -> list[str]:
    """Return which of the watchers that there should be do not live.

    Args:
        names: What `expected` returns.
        tasks: All tasks of the event loop.
    """
    found = living(tasks)
    return [name for name in names if f"{PREFIX}{name}" not in found]
