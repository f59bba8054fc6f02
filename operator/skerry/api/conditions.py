"""How conditions are written: one place, with the clock as an argument."""

from collections.abc import Iterable
from datetime import datetime

from skerry.api.meta import Condition

MESSAGE_LIMIT = 4096


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == kind), None)


def merged(
    conditions: Iterable[Condition],
    kind: str,
    *,
    status: bool | None,
    reason: str,
    message: str,
    generation: int | None,
    now: datetime,
) -> tuple[Condition, ...]:
    """Return the conditions with one set anew, in a stable order.

    `status` None means Unknown. `last_transition_time` moves only when the status flips, as the API conventions
    ask, so that an unchanged state gives an unchanged object.
    """
    word = "Unknown" if status is None else str(status)
    existing = tuple(conditions)
    before = find(existing, kind)
    flipped = before is None or before.status != word
    fresh = Condition(
        type=kind,
        status=word,
        reason=reason,
        message=message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…",
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0) if before is None or flipped else before.last_transition_time,
    )
    if before is None:
        return (*existing, fresh)
    return tuple(fresh if condition.type == kind else condition for condition in existing)
