"""Which devices a pod that wants several gets: those that sit together."""

import re
from collections.abc import Iterable

_SEPARATORS = re.compile(r"[:.-]")


def _closeness(one: str, other: str) -> int:
    """Return how many leading parts two ids share.

    Ids tell the place: functions of one PCI card share all but the last part (0000:01:00.0 and 0000:01:00.1), USB
    devices behind one hub all but the port (2-3.1 and 2-3.2).
    """
    shared = 0
    for left, right in zip(_SEPARATORS.split(one), _SEPARATORS.split(other), strict=False):
        if left != right:
            break
        shared += 1
    return shared


def preferred(available: Iterable[str], must_include: Iterable[str], size: int) -> list[str]:
    """Return up to `size` ids, sorted: those that must be included, and of the available ones those closest together.

    Of several such sets it is the one that leaves the fewest neighbours behind, so that pairs stay whole for whoever
    wants two.
    """
    must = sorted(set(must_include))
    free = sorted(set(available) - set(must))
    if must:
        return sorted(_grown(must, free, size))
    if size <= 0 or not free:
        return []
    sets = [_grown([seed], [key for key in free if key != seed], size) for seed in free]
    best = min(sets, key=lambda chosen: (-_inner(chosen), _outer(chosen, free)))
    return sorted(best)


def _grown(chosen: list[str], free: list[str], size: int) -> list[str]:
    grown, rest = list(chosen), list(free)
    while rest and len(grown) < size:
        best = max(rest, key=lambda key: sum(_closeness(key, other) for other in grown))
        grown.append(best)
        rest.remove(best)
    return grown


def _inner(chosen: list[str]) -> int:
    return sum(_closeness(one, other) for index, one in enumerate(chosen) for other in chosen[index + 1 :])


def _outer(chosen: list[str], free: list[str]) -> int:
    return sum(_closeness(one, other) for one in chosen for other in free if other not in chosen)
