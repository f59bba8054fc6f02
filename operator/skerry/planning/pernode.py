"""Placement of one replica on each node that matches, on the best accelerator that the node has."""

from collections.abc import Sequence

from skerry.api.edgedeployment import Fallback
from skerry.planning.board import Board, Seat
from skerry.planning.fit import compatible, fits, in_scope
from skerry.planning.nodes import NodeState, Placed
from skerry.planning.plans import Option, Settling, Wish
from skerry.planning.replicas import Seating
from skerry.planning.staying import stay


def _best(board: Board, node: str, usable: Sequence[Option]) -> Seat | None:
    """Return a seat for a new replica on the best accelerator that has room."""
    return next((board.seat(option, node) for option in usable if board.fits(option, node)), None)


def _improved(board: Board, seat: Seat, better: Sequence[Option], settling: Settling, seating: Seating) -> Seat:
    """Return the seat on a better accelerator of the node that has been free for long enough, else the one it has."""
    node = board.nodes[seat.node]
    for option in () if settling.rolling else better:
        if fits(option.need, node, board.free_without(seat)):
            seconds = settling.remaining(seat.node, option.accelerator)
            if seconds <= 0:
                seating.leaves(seat, f"{option.accelerator} on node {seat.node} is preferred and free")
                return board.seat(option, seat.node)
            seating.soonest(seconds)
    return seat


def _one(seats: Sequence[Seat], seating: Seating, board: Board) -> Seat | None:
    """Keep the best of a node's replicas."""
    for seat in seats[1:]:
        board.remove(seat)
        seating.leaves(seat, f"node {seat.node} needs one replica only")
    return seats[0] if seats else None


def _usable(choices: Sequence[Option], node: NodeState) -> list[Option]:
    return [option for option in choices if next(compatible(option.need, node), None) is None]


def seat_per_node(
    wish: Wish, board: Board, choices: Sequence[Option], placed: Sequence[Placed], settling: Settling
) -> Seating:
    """Seat one replica on each node that the user means and that can run one of the variants.

    With `fallback: Deny` it waits while the best accelerator of its node is taken. One on a node that is cut off stays:
    nowhere else would it be of use.
    """
    seats, leaving = stay(board, choices, placed)
    seating = Seating([], 0, leaving)
    by_node: dict[str, list[Seat]] = {}
    for seat in seats:
        by_node.setdefault(seat.node, []).append(seat)
    refused: dict[int, tuple[Option, list[str]]] = {}
    deny = wish.placement.fallback is Fallback.DENY
    for name, node in board.nodes.items():
        usable = _usable(choices, node)
        allowed = usable[:1] if deny else usable
        kept = _one(by_node.get(name, ()), seating, board)
        new: Seat | None
        if kept is not None:
            better = [option for option in allowed if option.rank < kept.option.rank]
            new = _improved(board, kept, better, settling, seating)
        elif any(next(in_scope(option.need, node), None) is not None for option in choices[:1]):
            continue
        elif not allowed:
            seating.passed_over += 1
            continue
        else:
            new = _best(board, name, allowed)
        seating.wanted += 1
        if new is not None:
            seating.seats.append(new)
            for option in usable[:1]:
                seating.notes_behind(new, option)
            continue
        for option in allowed:
            refused.setdefault(option.rank, (option, []))[1].append(name)
    seating.refused = [(option, names) for _, (option, names) in sorted(refused.items())]
    return seating
