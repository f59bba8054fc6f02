"""NodeProfile: the labels of its Node."""

import logging
from typing import Final

from skerry.accelerators.catalogue import Catalogue
from skerry.api import labels
from skerry.api.meta import FIELD_MANAGER
from skerry.kube.gateway import Document
from skerry.kube.resources import EDGE_DEPLOYMENTS, NODE_PROFILES, NODES
from skerry.reconcile import pernode
from skerry.reconcile.base import Context, Key, gone
from skerry.reconcile.site import told_by_labels

_LOG: Final = logging.getLogger(__name__)
_PREFIXES: Final = (labels.NODE_ACCELERATOR_PREFIX, labels.NODE_CPU_PREFIX)


def wanted_labels(known: Catalogue, profile: Document) -> dict[str, str]:
    """Return the labels that a profile gives its Node: for accelerators of which at least one can be used."""
    status = profile.get("status", {})
    wanted: dict[str, str] = {}
    for accelerator in status.get("accelerators", []):
        if count := accelerator.get("count", 1):
            wanted[labels.node_accelerator(accelerator["name"])] = "true"
            wanted[labels.node_accelerator_count(accelerator["name"])] = str(count)
    features = status.get("cpu", {}).get("features", [])
    for feature in features:
        wanted[labels.node_cpu_feature(feature)] = "true"
    tiers = known[labels.CPU].tiers if labels.CPU in known else {}
    if tier := next((name for name, feature in tiers.items() if feature in features), ""):
        wanted[labels.NODE_CPU_TIER] = tier
    return wanted


def _foreign(node: Document) -> set[str]:
    """Return the labels with our prefixes that someone else wrote."""
    ours: set[str] = set()
    for entry in node["metadata"].get("managedFields", []):
        if entry.get("manager") == FIELD_MANAGER:
            written = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
            ours.update(name.removeprefix("f:") for name in written)
    return {name for name in node["metadata"].get("labels", {}) if name.startswith(_PREFIXES)} - ours


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring a Node's labels up to date.

    Server-side apply removes what this manager set before and no longer sets, and nothing else: labels of others stay,
    also those under names that we would use. A profile without status (a probe that has just started) changes nothing.
    """
    gateway = context.gateway
    node = await gateway.get(NODES, None, key.name)
    if node is None or gone(node):
        return None
    if any(name.startswith(labels.NODE_RUNS_PREFIX) for name in node["metadata"].get("labels", {})) and (
        change := pernode.unused(node, await gateway.list(EDGE_DEPLOYMENTS))
    ):
        await gateway.merge(NODES, node, change)
    profile = await gateway.get(NODE_PROFILES, None, key.name)
    if profile is not None and not profile.get("status"):
        return None
    if profile is None and (seconds := context.site.waits_for_profile(key.name, context.now())) is not None:
        return seconds
    wanted: dict[str, str] = {}
    for accelerator in told_by_labels(context.catalogue, node):
        wanted[labels.node_accelerator(accelerator.name)] = "true"
        wanted[labels.node_accelerator_count(accelerator.name)] = str(accelerator.healthy)
    if profile is not None and not gone(profile):
        wanted |= wanted_labels(context.catalogue, profile)
    found = node["metadata"].get("labels", {})
    foreign = _foreign(node)
    for name in sorted(foreign & wanted.keys()):
        if found[name] != wanted[name]:
            _LOG.warning("node %s: label %s=%s is someone else's and stays", key.name, name, found[name])
        del wanted[name]
    ours = {name for name in found if name.startswith(_PREFIXES)} - foreign
    if ours == wanted.keys() and all(found[name] == value for name, value in wanted.items()):
        return None
    await gateway.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": key.name, "labels": wanted}})
    return None
