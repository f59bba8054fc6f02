"""Whether a replica fits a node: now, and were the node empty and well. Each answer says what hinders it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from skerry.api import labels
from skerry.api.edgedeployment import Placement
from skerry.api.edgemodel import Variant
from skerry.api.pods import Toleration
from skerry.api.quantities import DISK, MEMORY, Amounts, figure, word
from skerry.api.types import Metric
from skerry.planning.nodes import NodeAccelerator, NodeState, Taint

_MIB: Final = 1 << 20
_EVICTING: Final = "NoExecute"
_REPELLING: Final = frozenset({"NoSchedule", _EVICTING})
_PASSING: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_CORDON: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Aspect(Enum):
    """What a reason speaks of."""

    SCOPE = "the user's choice of nodes"
    PROFILE = "what is known of the node"
    ACCELERATOR = "the accelerator"
    MACHINE = "architecture and CPU features"
    STATE = "the node's state"
    DEVICE = "devices that are free and healthy"
    RESOURCE = "other resources"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a replica from a node.

    Attributes:
        aspect: What it speaks of.
        what: The kind of trouble, without figures.
        there: What the node has, with figures.
        needed: What is needed; empty where that is clear.
        lasting: Whether it would be so were the node empty and well, too.
    """

    aspect: Aspect
    what: str
    there: str
    needed: str = ""
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.there}, {self.needed} needed" if self.needed else self.there


@dataclass(frozen=True, slots=True)
class Fit:
    """What keeps a replica from a node."""

    node: str
    reasons: tuple[Reason, ...]

    @property
    def now(self) -> bool:
        """Whether a replica can be placed now."""
        return not self.reasons

    @property
    def ever(self) -> bool:
        """Whether one could be placed were the node empty and well."""
        return not any(reason.lasting for reason in self.reasons)


@dataclass(frozen=True)
class Need:
    """What a replica of a variant needs of a node.

    Attributes:
        accelerator: The accelerator that the variant is for.
        requests: What its pod asks for; the device is added, one unless the accelerator's resource is among them.
        architecture: Architecture of the node; empty: any.
        cpu_features: CPU features that the node must have.
        model_memory: Bytes of memory that the model took when it was measured; no smaller node can ever run it.
        size: Bytes of the variant's files: the least that they take of the node's disk, and of a device's own memory.
        node_selector: Labels that the node must have.
        tolerations: Taints that do not matter.
    """

    accelerator: str
    requests: Amounts = field(default_factory=dict)
    architecture: str = ""
    cpu_features: frozenset[str] = frozenset()
    model_memory: int = 0
    size: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Toleration] = ()

    def devices(self, accelerator: NodeAccelerator) -> int:
        """Return how many devices of a node's accelerator a replica takes."""
        return 0 if self.accelerator == labels.CPU else self.requests.get(accelerator.resource, 1)

    def takes(self, accelerator: NodeAccelerator) -> dict[str, int]:
        """Return what a replica takes of each resource of a node that has the accelerator."""
        return {**self.requests, **({accelerator.resource: self.devices(accelerator)} if accelerator.resource else {})}

    def __str__(self) -> str:
        named = any("/" in name for name in self.requests)
        words = [] if named or self.accelerator == labels.CPU else ["1 device"]
        words += [
            f"{figure(name, many)} {word(name)}" for name, many in sorted(self.requests.items()) if name != "pods"
        ]
        if self.model_memory > self.requests.get(MEMORY, 0):
            words.append(f"{figure(MEMORY, self.model_memory)} memory in all for the model")
        words += [f"architecture {self.architecture}"] if self.architecture else []
        words += [f"CPU features {', '.join(sorted(self.cpu_features))}"] if self.cpu_features else []
        return ", ".join(words)


def need_of(variant: Variant, placement: Placement, requests: Amounts) -> Need:
    """Return what a replica of a variant needs.

    Args:
        variant: The variant, with what it requires and its measured figures.
        placement: The user's selector and tolerations.
        requests: What its pod asks for, without the device.
    """
    memory = next((item.value for item in variant.metrics if item.name is Metric.MODEL_MEMORY), "0")
    requires = variant.requires
    return Need(
        accelerator=variant.accelerator,
        requests=requests,
        architecture=requires.architecture if requires else "",
        cpu_features=frozenset(requires.cpu_features) if requires else frozenset(),
        model_memory=max(0, int(float(memory) * _MIB)),
        size=variant.size_bytes or 0,
        node_selector=placement.node_selector or {},
        tolerations=tuple(placement.tolerations or ()),
    )


def tolerated(taint: Taint, tolerations: Sequence[Toleration]) -> bool:
    """Tell whether a taint does not matter, by the rules of Kubernetes."""
    return any(
        toleration.effect in {None, "", taint.effect}
        and (toleration.key == taint.key or (not toleration.key and toleration.operator == "Exists"))
        and (toleration.operator == "Exists" or (toleration.value or "") == taint.value)
        for toleration in tolerations
    )


def _passing(taint: Taint) -> bool:
    """Tell whether a taint says something of the node's state, which passes, and not of what the node is for."""
    return taint.key.startswith(_PASSING)


def in_scope(need: Need, node: NodeState, *, staying: bool = False) -> Iterator[Reason]:
    """Yield what makes a node none of those that the user means: the selector and lasting taints.

    Args:
        need: What is needed.
        node: The node.
        staying: Whether the replica is there already; then only taints matter that would evict it.
    """
    for key, value in need.node_selector.items():
        if node.labels.get(key) != value:
            has = f"label {key} is {node.labels[key]}" if key in node.labels else f"no label {key}"
            yield Reason(Aspect.SCOPE, f"without label {key}={value}", has, f"{key}={value}", lasting=True)
    kept_off = labels.node_accelerator(need.accelerator)
    if node.labels.get(kept_off, "true") != "true":
        text = f"kept off by label {kept_off}={node.labels[kept_off]}"
        yield Reason(Aspect.SCOPE, text, text, lasting=True)
    effects = {_EVICTING} if staying else _REPELLING
    for taint in node.taints:
        if taint.effect in effects and not _passing(taint) and not tolerated(taint, need.tolerations):
            text = f"taint {taint.key}{'=' if taint.value else ''}{taint.value}:{taint.effect} is not tolerated"
            yield Reason(Aspect.SCOPE, "tainted", text, lasting=True)


def compatible(need: Need, node: NodeState) -> Iterator[Reason]:
    """Yield what keeps the variant from a machine for good: no such accelerator, another architecture, features."""
    if not node.profiled:
        yield Reason(Aspect.PROFILE, "no NodeProfile yet", "no NodeProfile yet")
        return
    if need.accelerator not in node.accelerators:
        yield Reason(Aspect.ACCELERATOR, f"no {need.accelerator}", f"no {need.accelerator}", lasting=True)
    if need.architecture and node.architecture != need.architecture:
        there = f"architecture {node.architecture or 'unknown'}"
        yield Reason(Aspect.MACHINE, "another architecture", there, need.architecture, lasting=True)
    if not need.cpu_features <= node.features:
        missing = ", ".join(sorted(need.cpu_features - node.features))
        yield Reason(Aspect.MACHINE, "CPU features missing", f"no CPU features {missing}", lasting=True)


def _state(need: Need, node: NodeState) -> Iterator[Reason]:
    if not node.ready:
        yield Reason(Aspect.STATE, "not ready", "the node is not ready")
        return
    if node.cordoned and not tolerated(_CORDON, need.tolerations):
        yield Reason(Aspect.STATE, "cordoned", "the node is cordoned")
    for taint in node.taints:
        repels = taint.effect in _REPELLING and _passing(taint) and not tolerated(taint, need.tolerations)
        if repels and (taint.key != _CORDON.key or not node.cordoned):
            yield Reason(Aspect.STATE, "tainted for now", f"taint {taint.key}:{taint.effect}")


def _device(need: Need, node: NodeState, free: Amounts) -> Iterator[Reason]:
    accelerator = node.accelerators.get(need.accelerator)
    if accelerator is None or need.accelerator == labels.CPU:
        return
    wanted = need.devices(accelerator)
    if not accelerator.resource:
        there = f"nobody's device plugin offers its {need.accelerator}"
        yield Reason(Aspect.DEVICE, "no device plugin", there)
        return
    usable, total = node.devices(accelerator), accelerator.total
    most = max(total, node.allocatable.get(accelerator.resource, 0))
    if wanted > usable:
        trouble = f" ({accelerator.trouble})" if accelerator.trouble else ""
        there = f"{usable} of {most} {accelerator.resource} can be used{trouble}"
        what = "too few devices" if wanted > most else "no healthy device"
        yield Reason(Aspect.DEVICE, what, there, str(wanted), lasting=wanted > most)
    elif wanted > (spare := node.spare_devices(accelerator, free)):
        there = f"{max(0, spare)} of {usable} {accelerator.resource} free"
        yield Reason(Aspect.DEVICE, "no free device", there, str(wanted))
    if 0 < accelerator.memory_bytes < need.size:
        there = f"{figure(MEMORY, accelerator.memory_bytes)} device memory"
        needed = figure(MEMORY, need.size)
        yield Reason(Aspect.RESOURCE, "too little device memory", there, needed, lasting=True)


def _short(resource: str, wanted: int, there: int, free: int) -> Reason:
    """Return the reason that a node has too little of a resource, in figures that differ where the amounts do."""
    lasting = wanted > there
    exact = figure(resource, wanted) == figure(resource, there if lasting else free)
    name = word(resource)
    has = figure(resource, there, exact=exact)
    if not lasting:
        has = f"{figure(resource, max(0, free), exact=exact)} of {has}"
    there_is = f"{has} {name} in all" if lasting else f"{has} {name} free"
    needed = figure(resource, wanted, exact=exact)
    return Reason(Aspect.RESOURCE, f"too little {name}", there_is, needed, lasting=lasting)


def _resources(need: Need, node: NodeState, free: Amounts) -> Iterator[Reason]:
    accelerator = node.accelerators.get(need.accelerator)
    device = accelerator.resource if accelerator else ""
    for resource, wanted in need.requests.items():
        if wanted > 0 and resource != device and wanted > (left := free.get(resource, 0)):
            yield _short(resource, wanted, node.allocatable.get(resource, 0), left)
    for resource, wanted in ((MEMORY, need.model_memory), (DISK, need.size)):
        there = node.allocatable.get(resource)
        # What was asked for has been looked at above, and a node that does not tell of a resource may have it.
        if there is not None and wanted > there >= need.requests.get(resource, 0):
            yield _short(resource, wanted, there, there)


def hindrances(need: Need, node: NodeState, free: Amounts | None = None) -> Iterator[Reason]:
    """Yield what keeps a replica from a node, what lasts first; nothing when it fits now.

    Args:
        need: What is needed.
        node: The node.
        free: What is left of each resource, where that is not what the node's state says.
    """
    left = node.free if free is None else free
    yield from in_scope(need, node)
    yield from compatible(need, node)
    yield from _state(need, node)
    yield from _device(need, node, left)
    yield from _resources(need, node, left)


def fits(need: Need, node: NodeState, free: Amounts | None = None) -> bool:
    """Tell whether a replica can be placed on a node now."""
    return next(hindrances(need, node, free), None) is None


def check(need: Need, node: NodeState, free: Amounts | None = None) -> Fit:
    """Return all that keeps a replica from a node. Of a node without the accelerator nothing else is told."""
    reasons = []
    for reason in hindrances(need, node, free):
        reasons.append(reason)
        if reason.aspect in {Aspect.SCOPE, Aspect.PROFILE, Aspect.ACCELERATOR}:
            break
    return Fit(node.name, tuple(reasons))
