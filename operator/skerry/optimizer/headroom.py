"""How much memory this container may still take, before something is loaded that can be done without."""

import contextlib
from pathlib import Path

_KIB = 1024
_ROOT = Path("/")
# Version 2 of control groups, then version 1: limit, usage, and the key of file pages that can be dropped at once.
_GROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes(root: Path = _ROOT) -> int | None:
    """Return the bytes that are free, by the machine and by the container's limit; None where nothing tells."""
    found = [_of_machine(root), *(_of_group(root / group, *names) for group, *names in _GROUPS)]
    return min((free for free in found if free is not None), default=None)


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return _KIB * _table(root / "proc/meminfo")["MemAvailable:"]
    return None


def _of_group(group: Path, limit: str, usage: str, droppable: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
        return max(most - used + _table(group / "memory.stat").get(droppable, 0), 0)
    return None


def _table(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines that begin with a name and a number."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
