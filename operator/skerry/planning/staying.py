"""Which replicas stay where they are, and why the others do not."""

from collections.abc import Sequence
from typing import Final

from skerry.api import labels
from skerry.planning.board import Board, Seat
from skerry.planning.fit import compatible, hindrances, in_scope
from skerry.planning.nodes import NodeState, Placed
from skerry.planning.plans import Leaving, Option

_HEALTH: Final = {True: 0, None: 1, False: 2}


def _as_wanted(option: Option, replica: Placed) -> bool:
    """Tell whether the pod that is there is the one that is wanted, so that no new one need be made."""
    wanted = dict(option.need.requests)
    if replica.resource:
        wanted.setdefault(replica.resource, 1)
    return replica.artifact == option.artifact and replica.requests == wanted


def _lost(board: Board, option: Option, replica: Placed, node: NodeState) -> str:
    """Return how a pod that is as it is wanted has lost what it needs; empty when it has not.

    A pod that runs keeps its device while the kubelet restarts or a vendor's plugin takes over, although nothing can
    be allocated then: what the probe sees counts as well. While no probe has told anything, nothing has been lost.
    """
    if not node.profiled:
        return ""
    reason = next(compatible(option.need, node), None)
    if reason is not None:
        return str(reason)
    if option.accelerator == labels.CPU or replica.device_healthy:
        return ""
    accelerator = node.accelerators[option.accelerator]
    usable = max(node.devices(accelerator), accelerator.healthy)
    spare = node.spare_devices(accelerator, board.free(replica.node)) + usable - node.devices(accelerator)
    if spare >= replica.requests.get(replica.resource, 1):
        return ""
    trouble = f" ({accelerator.trouble})" if accelerator.trouble else ""
    return f"{usable} of {accelerator.total} {option.accelerator} can be used{trouble}"


def _gone(board: Board, option: Option | None, replica: Placed) -> str:
    """Return why a replica cannot stay; empty when it can."""
    if option is None:
        return f"the deployment is not to run on {replica.accelerator}"
    node = board.nodes.get(replica.node)
    if node is None:
        return f"node {replica.node} is gone"
    as_wanted = _as_wanted(option, replica)
    if replica.device_healthy is False:
        return f"its device on node {node.name} is not healthy"
    if as_wanted:
        reason = next(in_scope(option.need, node, staying=True), None)
        why = str(reason) if reason is not None else _lost(board, option, replica, node)
    else:
        hindrance = next(hindrances(option.need, node, board.free(node.name)), None)
        why = str(hindrance) if hindrance is not None else ""
    return f"node {node.name}: {why}" if why else ""


def _seat(board: Board, option: Option, replica: Placed) -> Seat:
    if _as_wanted(option, replica):
        return Seat(option, replica.node, replica.resource, replica.requests, replica)
    new = board.seat(option, replica.node)
    return Seat(option, new.node, new.resource, new.takes, replica)


def stay(board: Board, choices: Sequence[Option], placed: Sequence[Placed]) -> tuple[list[Seat], list[Leaving]]:
    """Seat the replicas that can stay where they are; return the seats, and the others with the reason.

    Where not all can, those on preferred accelerators and on devices that the kubelet calls healthy come first.
    """
    known = {option.accelerator: option for option in choices}

    def order(replica: Placed) -> tuple[int, int, bool, str]:
        option = known.get(replica.accelerator)
        if option is None:
            return len(known), 0, False, replica.name
        return option.rank, _HEALTH[replica.device_healthy], not _as_wanted(option, replica), replica.name

    seats: list[Seat] = []
    leaving: list[Leaving] = []
    for replica in sorted(placed, key=order):
        option = known.get(replica.accelerator)
        why = _gone(board, option, replica)
        if option is None or why:
            leaving.append(Leaving(replica, why))
        else:
            seats.append(_seat(board, option, replica))
            board.put(seats[-1])
    return seats, leaving
