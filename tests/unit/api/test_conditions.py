"""Conditions follow the Kubernetes API conventions."""

from datetime import UTC, datetime, timedelta

from skerry.api.conditions import MESSAGE_LIMIT, find, merged

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def test_transition_time_moves_only_when_the_status_flips() -> None:
    first = merged((), "Ready", status=False, reason="Optimizing", message="a", generation=1, now=NOON)
    same = merged(first, "Ready", status=False, reason="GatesFailed", message="b", generation=2, now=LATER)
    flipped = merged(same, "Ready", status=True, reason="Optimized", message="c", generation=2, now=LATER)

    assert same[0].last_transition_time == NOON.replace(microsecond=0)
    assert (same[0].reason, same[0].message, same[0].observed_generation) == ("GatesFailed", "b", 2)
    assert flipped[0].last_transition_time == LATER.replace(microsecond=0)


def test_conditions_keep_their_order_and_their_neighbours() -> None:
    first = merged((), "Ready", status=False, reason="A", message="", generation=1, now=NOON)
    both = merged(first, "Optimized", status=None, reason="B", message="", generation=1, now=NOON)
    changed = merged(both, "Ready", status=True, reason="C", message="", generation=1, now=LATER)

    assert [condition.type for condition in changed] == ["Ready", "Optimized"]
    assert find(changed, "Optimized") == both[1]
    assert both[1].status == "Unknown"
    assert changed[0].status == "True"
    assert find(changed, "Absent") is None


def test_a_long_message_is_cut_to_what_the_schema_admits() -> None:
    (condition,) = merged((), "Ready", status=False, reason="A", message="x" * 9000, generation=1, now=NOON)

    assert len(condition.message) == MESSAGE_LIMIT
    assert condition.message.endswith("…")


def test_times_are_written_to_the_second_in_utc() -> None:
    (condition,) = merged((), "Ready", status=True, reason="A", message="", generation=1, now=NOON)

    assert condition.wire()["lastTransitionTime"] == "2026-11-21T12:00:00Z"
