"""What of a Node and of a NodeProfile decisions are made by: most of what is written to them changes none.

A kubelet writes its Node every few minutes, and a probe writes free memory and temperature up to once a minute.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

Document = Mapping[str, Any]


def of_node(node: Document) -> list[object]:
    """Return all of a Node that placement looks at."""
    spec, status = node.get("spec", {}), node.get("status", {})
    ready = [item["status"] for item in status.get("conditions", []) if item["type"] == "Ready"]
    return [
        node["metadata"].get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        ready,
    ]


def of_profile(profile: Document) -> list[object]:
    """Return all of a NodeProfile that placement, optimization and the labels of its Node look at."""
    status = profile.get("status") or {}
    return [
        "deletionTimestamp" in profile["metadata"],
        bool(status),
        status.get("machine", {}).get("architecture"),
        status.get("cpu", {}).get("features"),
        status.get("accelerators"),
    ]


class Interest:
    """Tells whether what matters of an object has changed since it was last seen; keeps one number an object."""

    def __init__(self, matters: Callable[[Document], object]) -> None:
        self._matters = matters
        self._seen: dict[str, int] = {}

    def changed(self, document: Document, *, deleted: bool) -> bool:
        """Take an object as it is now, or was when it was deleted."""
        name = document["metadata"]["name"]
        if deleted:
            return self._seen.pop(name, None) is not None
        seen = hash(json.dumps(self._matters(document), sort_keys=True))
        if self._seen.get(name) == seen:
            return False
        self._seen[name] = seen
        return True
