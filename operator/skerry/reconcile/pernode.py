"""Labels by which a DaemonSet finds the nodes that the plan chose: its pods go where these are, and nowhere else.

A list of nodes in the pods' template would restart them all whenever a node joins.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from skerry.api import labels
from skerry.kube.gateway import Document, Gateway
from skerry.kube.resources import NODES
from skerry.manifests import serving
from skerry.planning.nodes import NodeState
from skerry.planning.plans import Plan

_DIGITS: Final = 10


def label_of(namespace: str, name: str) -> str:
    """Return the label of the nodes of a deployment that runs on each node."""
    return labels.NODE_RUNS_PREFIX + sha256(f"{namespace}/{name}".encode()).hexdigest()[:_DIGITS]


async def mark(gateway: Gateway, document: Document, decided: Plan, nodes: Mapping[str, NodeState]) -> None:
    """Have each node say which of the deployment's groups runs on it."""
    metadata = document["metadata"]
    label = label_of(metadata["namespace"], metadata["name"])
    wanted = {
        node: serving.group_word(group.accelerator, group.resource) for group in decided.groups for node in group.nodes
    }
    for name, state in nodes.items():
        value = wanted.get(name)
        if state.labels.get(label) != value:
            node = {"metadata": {"name": name}}
            await gateway.merge(NODES, node, {"metadata": {"labels": {label: value}}})


def unused(node: Document, deployments: list[Document]) -> Document:
    """Return a merge patch that takes a node's labels of deployments away that are no more, or run otherwise now."""
    known = {
        label_of(each["metadata"]["namespace"], each["metadata"]["name"])
        for each in deployments
        if each["spec"].get("placement", {}).get("mode") == "PerNode"
    }
    found = node["metadata"].get("labels", {})
    lost = [name for name in found if name.startswith(labels.NODE_RUNS_PREFIX) and name not in known]
    return {"metadata": {"labels": dict.fromkeys(lost)}} if lost else {}
