"""What matters of a node to placement: what it has, what is taken, and whether it can be used now."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from skerry.api import labels
from skerry.api.meta import GROUP
from skerry.api.nodeprofile import Accelerator, DeviceHealth, NodeProfileStatus, OfferedBy
from skerry.api.quantities import CPU, MEMORY, PODS, Amounts, added, amounts

Document = Mapping[str, Any]
ARCHITECTURE_LABEL: Final = "kubernetes.io/arch"
_FINISHED: Final = frozenset({"Succeeded", "Failed"})
_QUARTERS: Final = 4


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node, in the words of Kubernetes."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class NodeAccelerator:
    """An accelerator that a node has, working or not.

    Attributes:
        name: Name in the catalogue.
        resource: Extended resource that a pod asks for; empty for the CPU, and where nobody offers it.
        offered_by: Whose device plugin offers that resource.
        healthy: How many devices can be used.
        total: How many devices there are.
        memory_bytes: Memory of its own of the smallest usable device; 0 where it has none or none is told.
        trouble: Why the first device that cannot be used cannot be used.
    """

    name: str
    resource: str = ""
    offered_by: OfferedBy = OfferedBy.NOBODY
    healthy: int = 1
    total: int = 1
    memory_bytes: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class NodeState:
    """A node as placement sees it.

    Attributes:
        name: Its name.
        labels: Its labels.
        architecture: Architecture, as Kubernetes names it.
        allocatable: What pods can have of each resource in all.
        taken: What the pods on it have, whoever they belong to.
        taints: Its taints.
        ready: Whether its kubelet says that it is ready.
        cordoned: Whether it is marked as unschedulable.
        profiled: Whether a probe has told what it has; else accelerators and features are not known.
        accelerators: Accelerators by name.
        features: CPU features.
        free: What is left of each resource; below 0 where more is taken than there is.
        load: In how many quarters, 0 to 4, the busier one of CPU and memory is taken.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""
    allocatable: Amounts = field(default_factory=dict)
    taken: Amounts = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    cordoned: bool = False
    profiled: bool = True
    accelerators: Mapping[str, NodeAccelerator] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    free: Amounts = field(init=False)
    load: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", added(self.allocatable, {name: -many for name, many in self.taken.items()}))
        object.__setattr__(self, "load", max(self._quarters(CPU), self._quarters(MEMORY)))

    def _quarters(self, resource: str) -> int:
        there = self.allocatable.get(resource, 0)
        return min(_QUARTERS, _QUARTERS * self.taken.get(resource, 0) // there) if there > 0 else 0

    def devices(self, accelerator: NodeAccelerator) -> int:
        """Return how many devices of an accelerator pods can have in all.

        The kubelet tells of a device that is gone later than the probe. A vendor's plugin may share one device among
        several pods, so that its own count is the one that holds while any device works.
        """
        offered = self.allocatable.get(accelerator.resource, 0) if accelerator.resource else 0
        match accelerator.offered_by:
            case OfferedBy.VENDOR:
                return offered if accelerator.healthy else 0
            case OfferedBy.SKERRY:
                return min(offered, accelerator.healthy)
            case _:
                return 0

    def spare_devices(self, accelerator: NodeAccelerator, free: Amounts | None = None) -> int:
        """Return how many devices of an accelerator are left, given what is free of each resource.

        Pods that got a device from Skerry's plugin before the vendor's was installed keep it, and count.
        """
        left = self.free if free is None else free
        names = {accelerator.resource, f"{GROUP}/{accelerator.name}"}
        taken = sum(self.allocatable.get(name, 0) - left.get(name, 0) for name in names)
        return self.devices(accelerator) - taken


@dataclass(frozen=True)
class Placed:
    """A replica that has a node now: a pod that is neither finished nor being deleted.

    Attributes:
        name: Name of the pod.
        node: Name of its node.
        accelerator: Accelerator that it was placed on.
        artifact: The variant that it runs, pinned by digest.
        resource: Extended resource by which it got its device; empty for the CPU.
        requests: What it takes of each resource of the node.
        device_healthy: What the kubelet says of its device; None where it says nothing, or does not know.
    """

    name: str
    node: str
    accelerator: str
    artifact: str
    resource: str = ""
    requests: Amounts = field(default_factory=dict)
    device_healthy: bool | None = None


def _container(container: Document) -> dict[str, int]:
    """Return what a container asks for; a limit without a request counts as both, as the API server has it."""
    wanted = container.get("resources") or {}
    return amounts({**(wanted.get("limits") or {}), **(wanted.get("requests") or {})})


def _larger(one: Amounts, other: Amounts) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one.keys() | other.keys()}


def pod_requests(spec: Document) -> dict[str, int]:
    """Return what a pod takes of a node, as the scheduler counts it (Kubernetes documentation, "Sidecar Containers").

    Containers and sidecars run together, each init container beside the sidecars that started before it; what the pod
    itself asks for replaces the sum; the runtime's overhead comes on top. Every pod takes one of the node's `pods`.
    """
    running: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or []:
        wanted = _container(container)
        if container.get("restartPolicy") == "Always":
            running = added(running, wanted)
            peak = _larger(peak, running)
        else:
            peak = _larger(peak, added(running, wanted))
    for container in spec.get("containers") or []:
        running = added(running, _container(container))
    total = _larger(running, peak) | _container(spec)
    return added(total, amounts(spec.get("overhead") or {})) | {PODS: 1}


def device_healthy(pod: Document, resource: str) -> bool | None:
    """Return what the kubelet says of a pod's devices of a resource; None where it says nothing or does not know."""
    said = {
        device.get("health")
        for container in pod.get("status", {}).get("containerStatuses") or []
        for allocated in container.get("allocatedResourcesStatus") or []
        if allocated.get("name") == resource
        for device in allocated.get("resources") or []
    }
    if DeviceHealth.UNHEALTHY in said:
        return False
    return True if said == {DeviceHealth.HEALTHY} else None


def placed(pod: Document, accelerator: str, artifact: str, resource: str = "") -> Placed | None:
    """Return a deployment's pod as a replica that has its place, or None for one that has none or is on its way out."""
    node = pod["spec"].get("nodeName", "")
    over = pod.get("status", {}).get("phase") in _FINISHED or "deletionTimestamp" in pod["metadata"]
    if not node or over:
        return None
    return Placed(
        name=pod["metadata"]["name"],
        node=node,
        accelerator=accelerator,
        artifact=artifact,
        resource=resource,
        requests=pod_requests(pod["spec"]),
        device_healthy=device_healthy(pod, resource) if resource else None,
    )


def _accelerator(found: Accelerator) -> NodeAccelerator:
    healthy = [device for device in found.devices if device.health is DeviceHealth.HEALTHY]
    broken = [device for device in found.devices if device.health is not DeviceHealth.HEALTHY]
    return NodeAccelerator(
        name=found.name,
        resource=found.resource_name,
        offered_by=found.offered_by,
        healthy=found.count,
        total=max(found.count, len(found.devices)),
        memory_bytes=min((device.memory_bytes for device in healthy if device.memory_bytes), default=0),
        trouble=next((device.message for device in broken if device.message), ""),
    )


def count_pod(taken: dict[str, dict[str, int]], pod: Document) -> None:
    """Add what a pod takes to what is taken of each node, so that no pod need be kept.

    Pods that have finished take nothing; those that are being deleted do until they are gone.
    """
    where = pod["spec"].get("nodeName")
    if where and pod.get("status", {}).get("phase") not in _FINISHED:
        taken[where] = added(taken.get(where, {}), pod_requests(pod["spec"]))


def profile_statuses(profiles: Iterable[Document]) -> dict[str, NodeProfileStatus]:
    """Return what the probes tell, by the names of the nodes; one that has just started tells nothing yet.

    Nor does one that a probe of another version wrote in words that are not known here: it must not stop all others.
    """
    found = {}
    for profile in profiles:
        if profile.get("status"):
            with suppress(ValidationError):
                found[profile["metadata"]["name"]] = NodeProfileStatus.model_validate(profile["status"])
    return found


def node_state(
    node: Document, profiles: Mapping[str, NodeProfileStatus], taken: Mapping[str, Amounts]
) -> NodeState | None:
    """Return a node's state; None when it is being deleted.

    Args:
        node: The Node, as the API server has it.
        profiles: What the probes tell, by the names of the nodes.
        taken: What the pods take, by the names of the nodes.
    """
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    if "deletionTimestamp" in metadata:
        return None
    profile = profiles.get(metadata["name"])
    found = metadata.get("labels") or {}
    architecture = found.get(ARCHITECTURE_LABEL) or status.get("nodeInfo", {}).get("architecture", "")
    conditions = status.get("conditions") or []
    return NodeState(
        name=metadata["name"],
        labels=found,
        architecture=architecture or (profile.machine.architecture if profile else ""),
        allocatable=amounts(status.get("allocatable") or {}),
        taken=taken.get(metadata["name"], {}),
        taints=tuple(
            Taint(taint["key"], taint.get("value") or "", taint["effect"]) for taint in spec.get("taints") or []
        ),
        ready=any(item["type"] == "Ready" and item["status"] == "True" for item in conditions),
        cordoned=bool(spec.get("unschedulable")),
        profiled=profile is not None,
        accelerators={item.name: _accelerator(item) for item in profile.accelerators} if profile else {},
        features=frozenset(profile.cpu.features) if profile else frozenset(),
    )


Since = Mapping[tuple[str, str], datetime]
"""Since when there has been something free of an accelerator on a node, by the names of node and accelerator."""


def free_since(before: Since, nodes: Iterable[NodeState], now: datetime) -> dict[tuple[str, str], datetime]:
    """Return since when each node has had each accelerator free: since before if it was, else since now.

    The CPU counts as free while its node is ready, a device while it is healthy and no pod has it as well.
    """
    return {
        (node.name, name): before.get((node.name, name), now)
        for node in nodes
        if node.ready and not node.cordoned
        for name, accelerator in node.accelerators.items()
        if name == labels.CPU or node.spare_devices(accelerator) > 0
    }
