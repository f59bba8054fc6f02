"""Placement of a number of replicas, spread over nodes and topology values."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skerry.api.edgedeployment import Fallback
from skerry.planning.board import Board, Pool, Seat
from skerry.planning.fit import fits
from skerry.planning.nodes import Placed
from skerry.planning.plans import Leaving, Option, Settling, Wish
from skerry.planning.staying import stay


@dataclass
class Seating:
    """What a mode of placement has found.

    Attributes:
        seats: Replicas that have a place.
        wanted: How many there should be.
        leaving: Replicas that do not stay where they are.
        refused: For those that wait: the accelerators that they could have been placed on, each with the nodes that
            were looked at; None: all.
        passed_over: How many nodes the user means that can run none of the variants.
        behind: How many replicas are on an accelerator while another one is preferred, by the names of both.
        look_again_seconds: When a better accelerator will have been free for long enough.
    """

    seats: list[Seat]
    wanted: int
    leaving: list[Leaving]
    refused: list[tuple[Option, list[str] | None]] = field(default_factory=list)
    passed_over: int = 0
    behind: Counter[tuple[str, str]] = field(default_factory=Counter)
    look_again_seconds: float | None = None

    def leaves(self, seat: Seat, why: str) -> None:
        """Note that the replica of a seat does not stay there."""
        if seat.replica is not None:
            self.leaving.append(Leaving(seat.replica, why))

    def notes_behind(self, seat: Seat, best: Option) -> None:
        """Note a replica that is not on the best accelerator that it could be on."""
        if seat.option.rank > best.rank:
            self.behind[seat.option.accelerator, best.accelerator] += 1

    def soonest(self, seconds: float) -> None:
        """Note that there may be something to do after so many seconds."""
        known = self.look_again_seconds
        self.look_again_seconds = seconds if known is None else min(known, seconds)


def _thinned(board: Board, seats: Sequence[Seat], wanted: int) -> tuple[list[Seat], list[Leaving]]:
    """Choose the replicas that stay when there are more than wanted; what is left stays spread.

    Those on nodes that are cut off go first, then those on the least preferred accelerators.
    """
    groups: dict[tuple[bool, int], list[Seat]] = {}
    for seat in seats:
        board.remove(seat)
        groups.setdefault((not board.nodes[seat.node].ready, seat.option.rank), []).append(seat)
    kept: list[Seat] = []
    for _, group in sorted(groups.items(), key=lambda item: item[0]):
        stock: dict[str, list[Seat]] = {}
        for seat in reversed(group):  # those that are as wanted come first in a group, and are taken off the end
            stock.setdefault(seat.node, []).append(seat)
        pool = Pool(board, stock, lambda node, stock=stock: bool(stock[node]))  # type: ignore[misc]
        while len(kept) < wanted and (node := pool.best()) is not None:
            kept.append(stock[node].pop())
            board.put(kept[-1])
    stays = {id(seat) for seat in kept}
    why = f"{wanted} replicas are wanted, there are more"
    return kept, [Leaving(seat.replica, why) for seat in seats if id(seat) not in stays and seat.replica is not None]


class _Replicas:
    """Places replicas on the accelerators that are allowed, the most preferred first."""

    def __init__(self, wish: Wish, board: Board, choices: Sequence[Option], settling: Settling) -> None:
        self._board = board
        self._settling = settling
        self._eligible: dict[int, list[str]] = {}
        self._pools: dict[int, Pool] = {}
        self.allowed: list[Option] = []
        for option in choices:
            if names := board.eligible(option):
                self._eligible[option.rank] = names
                self.allowed.append(option)
                if wish.placement.fallback is Fallback.DENY:
                    break

    def fill(self, seating: Seating) -> None:
        """Seat new replicas until there are as many as wanted, or no room is left."""
        self._pools.clear()
        while len(seating.seats) < seating.wanted and (new := self._place()) is not None:
            seating.seats.append(new)

    def _place(self) -> Seat | None:
        """Seat a new replica; None when there is no room."""
        for option in self.allowed:
            if option.rank not in self._pools:
                self._pools[option.rank] = self._pool(option, self._eligible[option.rank])
            node = self._pools[option.rank].best()
            if node is not None:
                return self._put(self._board.seat(option, node))
        return None

    def _pool(self, option: Option, nodes: Iterable[str]) -> Pool:
        return Pool(self._board, nodes, lambda node: self._board.fits(option, node))

    def _put(self, seat: Seat) -> Seat:
        self._board.put(seat)
        return seat

    def rescue(self, seating: Seating) -> None:
        """Give replicas on nodes that are cut off a place elsewhere; where there is none, they stay."""
        for index, seat in enumerate(seating.seats):
            if seat.replica is None or self._board.nodes[seat.node].ready:
                continue
            better = self._place()
            if better is None:
                return
            self._board.remove(seat)
            seating.seats[index] = better
            seating.leaves(seat, f"node {seat.node} is not ready")

    def improve(self, seating: Seating) -> None:
        """Move replicas to better accelerators that have been free for long enough, those on the worst ones first."""
        if self._settling.rolling:
            return
        for option in self.allowed:
            victims = [
                (-seat.option.rank, index)
                for index, seat in enumerate(seating.seats)
                if seat.replica is not None and seat.option.rank > option.rank
            ]
            if not victims:
                continue
            remaining = {
                node: self._settling.remaining(node, option.accelerator) for node in self._eligible[option.rank]
            }
            pool = self._pool(option, (node for node, seconds in remaining.items() if seconds <= 0))
            for _, index in sorted(victims):
                self._move(seating, index, option, pool)
            staying = {seat.node: seat for seat in seating.seats if seat.option.rank > option.rank}
            for node, seconds in remaining.items():
                if staying and seconds > 0 and self._could(option, node, staying.get(node)):
                    seating.soonest(seconds)

    def _move(self, seating: Seating, index: int, option: Option, pool: Pool) -> None:
        old = seating.seats[index]
        self._board.remove(old)
        pool.returned(old.node)
        node = pool.best()
        if node is None:
            self._board.put(old)
            return
        seating.seats[index] = self._put(self._board.seat(option, node))
        seating.leaves(old, f"{option.accelerator} on node {node} is preferred and free")

    def _could(self, option: Option, node: str, seat: Seat | None) -> bool:
        """Tell whether a replica could move to a node, its own old place there given up if it has one."""
        free = self._board.free(node) if seat is None else self._board.free_without(seat)
        return fits(option.need, self._board.nodes[node], free)


def seat_replicas(
    wish: Wish, board: Board, choices: Sequence[Option], placed: Sequence[Placed], settling: Settling
) -> Seating:
    """Seat as many replicas as are wanted, or as find room, moving as few as possible."""
    wanted = wish.placement.replicas
    seats, leaving = stay(board, choices, placed)
    if len(seats) > wanted:
        seats, surplus = _thinned(board, seats, wanted)
        leaving += surplus
    seating = Seating(seats, wanted, leaving)
    replicas = _Replicas(wish, board, choices, settling)
    replicas.fill(seating)
    replicas.rescue(seating)
    replicas.improve(seating)
    replicas.fill(seating)
    for seat in seating.seats if replicas.allowed else ():
        seating.notes_behind(seat, replicas.allowed[0])
    if len(seating.seats) < wanted:
        seating.refused = [(option, None) for option in replicas.allowed or choices]
    return seating


def counted(seats: Iterable[Seat]) -> dict[str, int]:
    """Return how many seats each node has, in the order of the nodes' names."""
    return dict(sorted(Counter(seat.node for seat in seats).items()))
