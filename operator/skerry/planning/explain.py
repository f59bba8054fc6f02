"""Why replicas find no place, in one message that stays short however many nodes there are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from skerry.planning.fit import Aspect, Fit, Need

LIMIT: Final = 999
"""Most characters of a message: an event's note may have 1024."""
NAMED: Final = 10
_NEEDS: Final = 300
_COUNTED: Final = frozenset({Aspect.ACCELERATOR, Aspect.SCOPE, Aspect.PROFILE})


def cut(text: str, limit: int) -> str:
    """Return the text, or as much of it as may be, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _nodes(many: int, *, more: bool = False) -> str:
    return f"{many}{' more' if more else ''} node{'' if many == 1 else 's'}"


def _groups(fits: Iterable[Fit]) -> list[tuple[str, list[Fit]]]:
    """Return nodes with equal reasons together, first those that would do were they empty and well."""
    found: dict[str, list[Fit]] = {}
    for fit in fits:
        found.setdefault(" and ".join(reason.there for reason in fit.reasons) or "fits", []).append(fit)

    def rank(group: tuple[str, list[Fit]]) -> tuple[bool, int, int, str]:
        first = group[1][0]
        return not first.ever, len(first.reasons), -len(group[1]), min(fit.node for fit in group[1])

    return sorted(found.items(), key=rank)


def _counts(fits: Sequence[Fit]) -> str:
    counts = Counter(fit.reasons[0].what if fit.reasons else "fits" for fit in fits)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(what if len(ordered) == 1 else f"{what} ({many})" for what, many in ordered)


def _told(groups: Sequence[tuple[str, list[Fit]]], others: Sequence[Fit], named: int) -> str:
    """Return the message with at most so many nodes by name."""
    parts: list[str] = []
    rest: list[Fit] = []
    for text, fits in groups:
        if named == 0:
            rest += fits
            continue
        names = sorted(fit.node for fit in fits)
        shown = names[:named]
        named -= len(shown)
        more = f" and {_nodes(len(names) - len(shown), more=True)}" if len(names) > len(shown) else ""
        parts.append(f"{', '.join(shown)}{more}: {text}")
    if rest:
        parts.append(f"{_nodes(len(rest), more=bool(parts))}: {_counts(rest)}")
    if others:
        parts.append(f"{_nodes(len(others))}: {_counts(others)}")
    return "; ".join(parts) or "there are no nodes"


def told(need: Need, fits: Iterable[Fit], limit: int = LIMIT) -> str:
    """Return what a replica needs and what each node has that was looked at, equal nodes together.

    At most ten nodes are named; the others, and those that are out of the question, are counted.
    """
    start = f"a replica on {need.accelerator} needs {cut(str(need), min(_NEEDS, limit // 2))}; "
    looked: list[Fit] = []
    others: list[Fit] = []
    for fit in fits:
        outside = bool(fit.reasons) and fit.reasons[0].aspect in _COUNTED
        (others if outside else looked).append(fit)
    groups = _groups(looked)
    for named in range(NAMED, -1, -1):
        text = start + _told(groups, others, named)
        if len(text) <= limit:
            return text
    return cut(text, limit)
