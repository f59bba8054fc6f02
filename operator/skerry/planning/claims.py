"""Devices that are given by Dynamic Resource Allocation (`resource.k8s.io/v1`), counted like extended resources."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skerry.api.labels import resource_of_class
from skerry.api.nodeprofile import OfferedBy
from skerry.planning.nodes import NodeAccelerator, NodeState

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Offer:
    """What DRA drivers offer.

    Attributes:
        devices: How many devices each node has, by the names of node and driver.
        taken: How many of them claims have been given, whoever made these.
        classes: Names of the device classes that there are.
    """

    devices: Mapping[tuple[str, str], int]
    taken: Mapping[tuple[str, str], int]
    classes: frozenset[str]


def offer(classes: Iterable[Document], slices: Iterable[Document], claims: Iterable[Document]) -> Offer:
    """Return what is offered, from DeviceClasses, ResourceSlices and ResourceClaims as the API server has them.

    Only devices of a single node count; of a pool that is being published anew only the newest generation does.
    """
    listed = [each["spec"] for each in slices if each["spec"].get("nodeName")]
    newest: dict[tuple[str, str], int] = {}
    for spec in listed:
        pool = spec["driver"], spec["pool"]["name"]
        newest[pool] = max(newest.get(pool, 0), spec["pool"]["generation"])
    devices: Counter[tuple[str, str]] = Counter()
    nodes: dict[tuple[str, str], str] = {}
    for spec in listed:
        pool = spec["driver"], spec["pool"]["name"]
        if spec["pool"]["generation"] == newest[pool]:
            devices[spec["nodeName"], spec["driver"]] += len(spec.get("devices") or [])
            nodes[pool] = spec["nodeName"]
    given = {
        (result["driver"], result["pool"], result["device"])
        for claim in claims
        for result in _results(claim)
        if (result["driver"], result["pool"]) in nodes
    }
    taken = Counter((nodes[driver, pool], driver) for driver, pool, _ in given)
    return Offer(devices, taken, frozenset(each["metadata"]["name"] for each in classes))


def _results(claim: Document) -> list[Document]:
    allocation = claim.get("status", {}).get("allocation") or {}
    found: list[Document] = (allocation.get("devices") or {}).get("results") or []
    return found


def with_claims(state: NodeState, accelerator: NodeAccelerator, classes: Iterable[str], offered: Offer) -> NodeState:
    """Return a node's state whose accelerator is asked for by a claim, where a class's driver offers it on the node.

    A vendor's device plugin goes first: drivers that have both offer a device in one way at a time. A class is taken to
    be of the driver of its own name, as the vendors' are.
    """
    if accelerator.offered_by is OfferedBy.VENDOR:
        return state
    name = next((name for name in classes if name in offered.classes and offered.devices.get((state.name, name))), None)
    if name is None:
        return state
    resource, there = resource_of_class(name), offered.devices[state.name, name]
    asked = replace(accelerator, resource=resource, offered_by=OfferedBy.VENDOR)
    return replace(
        state,
        allocatable={**state.allocatable, resource: there},
        taken={**state.taken, resource: offered.taken.get((state.name, name), 0)},
        accelerators={**state.accelerators, accelerator.name: asked},
    )
