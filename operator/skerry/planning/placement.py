"""The placement planner: which replicas of a deployment belong on which accelerator of which node, and why not more."""

from collections.abc import Iterable, Sequence

from skerry.api.edgedeployment import Fallback, PlacementMode
from skerry.api.reasons import DeploymentReason
from skerry.planning.board import Board, Seat
from skerry.planning.explain import LIMIT, cut, told
from skerry.planning.fit import Aspect, Fit, check
from skerry.planning.nodes import NodeState, Placed
from skerry.planning.pernode import seat_per_node
from skerry.planning.plans import Group, Leaving, Option, Plan, Refusal, Settling, Wish, options
from skerry.planning.replicas import Seating, counted, seat_replicas

_PASSING = frozenset({Aspect.DEVICE, Aspect.STATE})


def plan(
    wish: Wish,
    nodes: Iterable[NodeState],
    placed: Iterable[Placed] = (),
    settling: Settling | None = None,
) -> Plan:
    """Return where a deployment's replicas belong.

    With `fallback: Deny` new replicas are placed on the most preferred accelerator only that a node of the user's
    choice has and can run the variant on; with Allow the later ones are used when it is full, the CPU last. A replica
    that serves stays where it is as long as it can: it leaves a node that is cut off when there is a place elsewhere,
    and a later accelerator when a better one has been free for long enough, one for one. So a device that is added
    never leaves a deployment with fewer replicas than it had.

    Args:
        wish: What the deployment wants.
        nodes: The nodes; what the deployment's own pods take is part of what is taken.
        placed: Its pods that have a node and are not on their way out.
        settling: When replicas may move to better accelerators; default: once one has been free for a minute.
    """
    present = sorted(placed, key=lambda replica: replica.name)
    choices = options(wish)
    if not choices:
        return _without_variant(wish, present)
    board = Board(wish, nodes, present)
    per_node = wish.placement.mode is PlacementMode.PER_NODE
    seating = (seat_per_node if per_node else seat_replicas)(wish, board, choices, present, settling or Settling())
    refusals = tuple(_refusal(board, option, names) for option, names in seating.refused)
    if per_node and not seating.wanted:
        refusals = tuple(_refusal(board, option, None) for option in choices)
    reason = _reason(board, choices, refusals) if refusals else None
    return Plan(
        groups=_groups(seating.seats),
        wanted=seating.wanted,
        reason=reason,
        message=_message(wish, choices, seating, refusals),
        refusals=refusals,
        leaving=tuple(sorted(seating.leaving, key=lambda leaving: leaving.replica.name)),
        look_again_seconds=seating.look_again_seconds,
    )


def _without_variant(wish: Wish, placed: Sequence[Placed]) -> Plan:
    """Return the plan for a model that has no variant which the deployment may use."""
    published = [variant.accelerator for variant in wish.variants if variant.artifact]
    wanted = 0 if wish.placement.mode is PlacementMode.PER_NODE else wish.placement.replicas
    if published:
        reason = DeploymentReason.WAITING_FOR_ACCELERATOR
        asked = ", ".join(wish.placement.accelerators)
        message = f"the model has variants for {', '.join(published)}, placement.accelerators wants {asked}"
    else:
        reason, message = DeploymentReason.WAITING_FOR_MODEL, "the model has no variant yet"
    leaving = tuple(Leaving(replica, "there is no variant to run") for replica in placed)
    return Plan(wanted=wanted, reason=reason, message=cut(message, LIMIT), leaving=leaving)


def _groups(seats: Sequence[Seat]) -> tuple[Group, ...]:
    alike: dict[tuple[int, str, int], list[Seat]] = {}
    for seat in seats:
        key = seat.option.rank, seat.resource, seat.takes.get(seat.resource, 0)
        alike.setdefault(key, []).append(seat)
    return tuple(
        Group(members[0].option.accelerator, members[0].option.artifact, resource, devices, counted(members))
        for (_, resource, devices), members in sorted(alike.items(), key=lambda item: item[0])
    )


def _refusal(board: Board, option: Option, names: Sequence[str] | None) -> Refusal:
    looked = board.nodes if names is None else names
    return Refusal(option.need, tuple(check(option.need, board.nodes[name], board.free(name)) for name in looked))


def _would_do(fit: Fit) -> bool:
    """Tell whether nothing but a device or the node's state is in the way, and that may change."""
    return all(reason.aspect in _PASSING and not reason.lasting for reason in fit.reasons)


def _reason(board: Board, choices: Sequence[Option], refusals: Sequence[Refusal]) -> DeploymentReason:
    if any(_would_do(fit) for refusal in refusals for fit in refusal.fits):
        return DeploymentReason.NO_SPARE_ACCELERATOR
    known = any(option.accelerator in node.accelerators for option in choices for node in board.nodes.values())
    return DeploymentReason.DOES_NOT_FIT if known else DeploymentReason.WAITING_FOR_ACCELERATOR


def _message(wish: Wish, choices: Sequence[Option], seating: Seating, refusals: Sequence[Refusal]) -> str:
    """Return what people should know: what waits and why, and what is not as it could be."""
    waiting = seating.wanted - len(seating.seats)
    notes = _notes(wish, choices, seating, refusals)
    start = ""
    if waiting:
        start = f"{waiting} of {seating.wanted} replicas find{'s' if waiting == 1 else ''} no place: "
    elif refusals:
        start = "no node can run a replica: "
    room = (LIMIT - len(start) - len(notes)) // max(1, len(refusals))
    # With more accelerators than a message has room for, the first ones tell enough.
    reasons = " | ".join(told(refusal.need, refusal.fits, max(160, room) - 3) for refusal in refusals)
    return cut(start + cut(reasons, LIMIT - len(start) - len(notes)) + notes, LIMIT)


def _notes(wish: Wish, choices: Sequence[Option], seating: Seating, refusals: Sequence[Refusal]) -> str:
    notes = [f"{many} on {on} until {best} is free" for (on, best), many in sorted(seating.behind.items())]
    deny = wish.placement.fallback is Fallback.DENY
    ranks = {option.accelerator: option.rank for option in choices}
    tried = max((ranks[refusal.need.accelerator] for refusal in refusals), default=len(choices))
    later = [option.accelerator for option in choices if option.rank > tried]
    if deny and later and seating.wanted:
        notes.append(f"placement.fallback is Deny; Allow would also use {', '.join(later)}")
    if seating.passed_over:
        notes.append(f"nodes that match but can run no variant: {seating.passed_over}")
    text = "; ".join(notes)
    return cut(f". {text[0].upper()}{text[1:]}" if text and refusals else text, 300)
