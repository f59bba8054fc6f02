"""Which devices go together."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.probe.plugin.choose import preferred

PAIRS = ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0000:02:00.1"]
IDS = st.sampled_from([*PAIRS, "0000:03:00.0", "0000:03:01.0", "1-2", "1-2.1", "1-2.2", "2-1", "renderD128", "accel0"])


def test_two_come_from_one_card_and_four_from_two() -> None:
    assert preferred([*PAIRS[1:], "0000:03:00.0"], [], 2) == PAIRS[2:]
    assert preferred([*PAIRS, "0000:05:00.0"], [], 4) == PAIRS


def test_two_that_share_a_bus_go_before_two_that_share_nothing() -> None:
    assert preferred(["0000:01:00.0", "0000:03:00.0", "0000:03:01.0"], [], 2) == ["0000:03:00.0", "0000:03:01.0"]


def test_two_that_share_a_card_go_before_two_that_share_a_bus() -> None:
    bus, card = ["0000:03:00.0", "0000:03:01.0"], ["0000:05:00.0", "0000:05:00.1"]

    assert preferred([*bus, *card, "0000:05:01.0"], [], 2) == card


def test_sticks_behind_one_hub_go_together() -> None:
    assert preferred(["1-1", "2-3.1", "2-3.2", "3-1"], [], 2) == ["2-3.1", "2-3.2"]


def test_one_comes_from_where_no_pair_is_broken() -> None:
    assert preferred([*PAIRS[:3], "1-2"], [], 1) == ["1-2"]
    assert preferred(PAIRS[:3], [], 1) == ["0000:02:00.0"]


def test_what_must_be_included_draws_its_neighbour() -> None:
    assert preferred(PAIRS, ["0000:02:00.1"], 2) == PAIRS[2:]


@given(st.sets(IDS), st.sets(IDS, max_size=3), st.integers(0, 8))
def test_it_is_what_was_asked_for_as_far_as_there_is_enough(free: set[str], must: set[str], size: int) -> None:
    chosen = preferred(free, must, size)

    assert must <= set(chosen) <= free | must
    assert len(chosen) == len(set(chosen)) == max(len(must), min(size, len(free | must)))
    assert chosen == preferred(sorted(free, reverse=True), must, size)
