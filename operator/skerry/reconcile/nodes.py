"""NodeProfile: the labels of its Node."""

from skerry.api import labels
from skerry.kube.gateway import Document
from skerry.kube.resources import NODE_PROFILES, NODES
from skerry.reconcile.base import Context, Key, gone


def wanted_labels(profile: Document) -> dict[str, str]:
    """Return the labels that a profile gives its Node."""
    status = profile.get("status", {})
    wanted: dict[str, str] = {}
    for accelerator in status.get("accelerators", []):
        wanted[labels.node_accelerator(accelerator["name"])] = "true"
        wanted[labels.node_accelerator_count(accelerator["name"])] = str(accelerator.get("count", 1))
    for feature in status.get("cpu", {}).get("features", []):
        wanted[labels.node_cpu_feature(feature)] = "true"
    return wanted


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring a Node's labels up to date.

    Server-side apply removes what this manager set before and no longer sets, and nothing else: labels of others stay.
    A profile without status (a probe that has just started) changes nothing.
    """
    gateway = context.gateway
    node = await gateway.get(NODES, None, key.name)
    if node is None or gone(node):
        return None
    profile = await gateway.get(NODE_PROFILES, None, key.name)
    if profile is not None and not profile.get("status"):
        return None
    wanted = {} if profile is None or gone(profile) else wanted_labels(profile)
    found = node["metadata"].get("labels", {})
    ours = {name for name in found if name.startswith((labels.NODE_ACCELERATOR_PREFIX, labels.NODE_CPU_PREFIX))}
    if ours == wanted.keys() and all(found[name] == value for name, value in wanted.items()):
        return None
    await gateway.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": key.name, "labels": wanted}})
    return None
