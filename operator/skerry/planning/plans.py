"""What the placement planner is asked, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from skerry.api import labels
from skerry.api.edgedeployment import Fallback, Placement
from skerry.api.edgemodel import Variant
from skerry.api.quantities import Amounts
from skerry.api.reasons import DeploymentReason
from skerry.planning.fit import Fit, Need, need_of
from skerry.planning.nodes import Placed

SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Wish:
    """What a deployment wants.

    Attributes:
        key: Its namespace and name; decides among nodes that are equally good, so that not all deployments choose one.
        placement: What the user wrote.
        variants: The model's variants in their order; those that are not published are passed over.
        requests: What one pod asks for of each resource (`nodes.pod_requests`), without the device.
    """

    key: str
    placement: Placement
    variants: Sequence[Variant]
    requests: Amounts


@dataclass(frozen=True)
class Settling:
    """When a replica may move to a better accelerator.

    Attributes:
        settle_seconds: For how long the better one must have been free.
        free_seconds: For how long each accelerator has been free on each node (see `nodes.free_since`).
        rolling: Whether the current plan is still being rolled out; then nothing moves that need not.
    """

    settle_seconds: float = SETTLE_SECONDS
    free_seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rolling: bool = False

    def remaining(self, node: str, accelerator: str) -> float:
        """Return for how many seconds an accelerator must stay free on a node until a replica may move to it."""
        return max(0.0, self.settle_seconds - self.free_seconds.get((node, accelerator), 0.0))


@dataclass(frozen=True)
class Option:
    """An accelerator that a deployment may use: its place in the order of preference, 0 the best, and its variant."""

    rank: int
    variant: Variant
    need: Need

    @property
    def accelerator(self) -> str:
        """Name of the accelerator."""
        return self.variant.accelerator

    @property
    def artifact(self) -> str:
        """The published variant."""
        return self.variant.artifact or ""


@dataclass(frozen=True)
class Group:
    """Replicas that are alike: one Deployment or DaemonSet.

    Attributes:
        accelerator: The accelerator.
        artifact: The variant, pinned by digest.
        resource: Extended resource that each pod asks for; empty for the CPU.
        devices: How many of that resource each pod asks for.
        replicas_on: How many replicas each node has, by the nodes' names in their order.
    """

    accelerator: str
    artifact: str
    resource: str
    devices: int
    replicas_on: Mapping[str, int]

    @property
    def replicas(self) -> int:
        """How many replicas there are."""
        return sum(self.replicas_on.values())

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that have some."""
        return tuple(self.replicas_on)


@dataclass(frozen=True)
class Leaving:
    """A replica that does not stay where it is, and why."""

    replica: Placed
    why: str


@dataclass(frozen=True)
class Refusal:
    """Why replicas find no place on an accelerator: each node that was looked at, and what it lacks."""

    need: Need
    fits: tuple[Fit, ...]


@dataclass(frozen=True)
class Plan:
    """Where replicas belong.

    Attributes:
        groups: Replicas that have a place, the most preferred accelerator first.
        wanted: How many replicas there should be.
        reason: Why some wait; None when none does.
        message: The same in a sentence or two for people, and what is not as it could be; less than 1000 characters.
        refusals: For replicas that wait: all nodes and what keeps the replicas from them, by accelerator.
        leaving: Replicas that do not stay where they are, by their names.
        look_again_seconds: When a better accelerator will have been free for long enough; None: nothing to wait for.
    """

    groups: tuple[Group, ...] = ()
    wanted: int = 0
    reason: DeploymentReason | None = None
    message: str = ""
    refusals: tuple[Refusal, ...] = ()
    leaving: tuple[Leaving, ...] = ()
    look_again_seconds: float | None = None

    @cached_property
    def placed(self) -> int:
        """How many replicas have a place."""
        return sum(group.replicas for group in self.groups)

    @property
    def waiting(self) -> int:
        """How many replicas find no place."""
        return self.wanted - self.placed


def options(wish: Wish) -> list[Option]:
    """Return the accelerators that a deployment may use, the most preferred first.

    In the user's order, else the model's. With `fallback: Allow` the CPU is the last resort also where the user's order
    does not name it.
    """
    placement = wish.placement
    published = {variant.accelerator: variant for variant in wish.variants if variant.artifact}
    order = list(dict.fromkeys(placement.accelerators)) or list(published)
    if placement.fallback is Fallback.ALLOW and labels.CPU not in order:
        order.append(labels.CPU)
    return [
        Option(rank, published[name], need_of(published[name], placement, wish.requests))
        for rank, name in enumerate(name for name in order if name in published)
    ]
