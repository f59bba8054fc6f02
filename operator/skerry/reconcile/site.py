"""What the cluster has and what is taken of it: seen once for all deployments that look within a moment."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from skerry.accelerators.catalogue import Catalogue
from skerry.api.nodeprofile import NodeProfileStatus, OfferedBy
from skerry.kube.errors import NotFoundError
from skerry.kube.gateway import Document, Gateway
from skerry.kube.resources import DEVICE_CLASSES, NODE_PROFILES, NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from skerry.planning.claims import Offer, offer, with_claims
from skerry.planning.nodes import NodeAccelerator, NodeState, count_pod, free_since, node_state, profile_statuses

Profiles = dict[str, NodeProfileStatus]
"""What the probes tell, by the names of the nodes."""
FRESH: Final = timedelta(seconds=2)
GRACE: Final = timedelta(minutes=3)
"""Longer than a probe takes to see that its profile is gone."""


@dataclass(frozen=True)
class Seen:
    """The nodes at a moment.

    Attributes:
        nodes: All of them, by name.
        free_seconds: For how long each accelerator has been free on each node.
        groups: Groups of the device files of each accelerator, by the names of node and accelerator.
    """

    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    free_seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    groups: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)


class Site:
    """Looks at the nodes, at most once within FRESH, and remembers since when accelerators have been free.

    What it remembers is lost with the process: after a restart replicas wait a little longer before they move.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._seen = Seen()
        self._at: datetime | None = None
        self._since: dict[tuple[str, str], datetime] = {}
        self._profiles: dict[str, tuple[NodeProfileStatus, datetime]] = {}

    async def look(self, gateway: Gateway, known: Catalogue, now: Callable[[], datetime]) -> Seen:
        """Return the nodes as they are, or were a moment ago."""
        async with self._lock:
            if self._at is None or not timedelta(0) <= now() - self._at < FRESH:
                told = self._remembered(profile_statuses(await gateway.list(NODE_PROFILES)), now())
                states = await _states(gateway, known, told)
                at = now()
                self._since = free_since(self._since, states, at)
                seconds = {key: (at - since).total_seconds() for key, since in self._since.items()}
                self._seen, self._at = Seen({state.name: state for state in states}, seconds, _groups(told)), at
            return self._seen

    def _remembered(self, found: Profiles, at: datetime) -> Profiles:
        """Return the profiles, and for a while those that were there before: a probe that lives writes its own anew."""
        self._profiles |= {name: (profile, at) for name, profile in found.items()}
        self._profiles = {name: kept for name, kept in self._profiles.items() if at - kept[1] < GRACE}
        return {name: profile for name, (profile, _) in self._profiles.items()}

    def waits_for_profile(self, node: str, at: datetime) -> float | None:
        """Return for how many seconds more a node's profile that is gone counts; None when it does not."""
        if node not in self._profiles:
            return None
        left = (self._profiles[node][1] + GRACE - at).total_seconds()
        return left if left > 0 else None

    def forget(self) -> None:
        """Have the next look be a fresh one: what was seen has just been changed."""
        self._at = None


def told_by_labels(known: Catalogue, node: Document) -> list[NodeAccelerator]:
    """Return accelerators that others' labels tell of: Node Feature Discovery's, a vendor's, the site's own.

    There are as many as a vendor's device plugin offers; without one nothing can be allocated.
    """
    found = node["metadata"].get("labels", {})
    offered = node.get("status", {}).get("allocatable", {})
    told = []
    for entry in known.values():
        if any(match.node_labels and match.node_labels.items() <= found.items() for match in entry.match):
            resource = next((name for name in entry.vendor_resources if name in offered), "")
            count = int(offered.get(resource, 1))
            by = OfferedBy.VENDOR if resource else OfferedBy.NOBODY
            told.append(NodeAccelerator(entry.name, resource, by, healthy=count, total=count))
    return told


async def _states(gateway: Gateway, known: Catalogue, told: Profiles) -> list[NodeState]:
    """Read what may be many one by one: of a pod only what it takes is kept, of a Node only its state."""
    taken: dict[str, dict[str, int]] = {}
    async for pod in gateway.each(PODS):
        count_pod(taken, pod)
    offered = await _offered(gateway, known)
    return [
        _claimed(_completed(state, node, known), known, offered)
        async for node in gateway.each(NODES)
        if (state := node_state(node, told, taken)) is not None
    ]


def _completed(state: NodeState, node: Document, known: Catalogue) -> NodeState:
    """Add what only labels tell of; what the probe sees counts first."""
    more = {each.name: each for each in told_by_labels(known, node) if each.name not in state.accelerators}
    return replace(state, accelerators={**state.accelerators, **more}) if more else state


async def _offered(gateway: Gateway, known: Catalogue) -> Offer:
    """Return what DRA drivers offer of what the catalogue knows; nothing on clusters without `resource.k8s.io/v1`."""
    wanted = {name for entry in known.values() for name in entry.device_classes}
    try:
        classes = await gateway.list(DEVICE_CLASSES) if wanted else []
    except NotFoundError:
        classes = []
    classes = [each for each in classes if each["metadata"]["name"] in wanted]
    if not classes:
        return offer((), (), ())
    return offer(classes, await gateway.list(RESOURCE_SLICES), await gateway.list(RESOURCE_CLAIMS))


def _claimed(state: NodeState, known: Catalogue, offered: Offer) -> NodeState:
    """Have devices claimed where that is how they are offered."""
    for accelerator in state.accelerators.values() if offered.classes else ():
        entry = known.get(accelerator.name)
        state = with_claims(state, accelerator, entry.device_classes if entry else (), offered)
    return state


def _groups(told: Profiles) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return the groups of device files; not root's, in which no pod of ours may be."""
    found: dict[tuple[str, str], set[int]] = {}
    for node, profile in told.items():
        for accelerator in profile.accelerators:
            for device in accelerator.devices:
                found.setdefault((node, accelerator.name), set()).update(filter(None, device.groups))
    return {key: tuple(sorted(groups)) for key, groups in found.items()}
