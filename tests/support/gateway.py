"""A fake API server: an in-memory gateway for tests of reconcilers' logic. It stands in for the real one only here.

It keeps what the reconcilers rely on: uids, generations, resource versions, owner references and label selectors.
It does not validate, default, or merge lists by key.
"""

import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

from skerry.kube.errors import ConflictError, NotFoundError
from skerry.kube.resources import Resource, resource_of

Document = dict[str, Any]


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return copy.deepcopy(new)


def _labels_of(field: Any) -> list[str]:
    return [name.removeprefix("f:") for name in field["fieldsV1"]["f:metadata"]["f:labels"]]


class FakeGateway:
    """Objects in a dictionary, and a list of what was written."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], Document] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.events: list[tuple[str, str]] = []
        self.logs: dict[str, str] = {}
        self.answers: dict[str, bytes] = {}
        self._numbers = itertools.count(1)

    def put(self, document: Document) -> Document:
        """Have an object there, as if someone else had made it."""
        resource = resource_of(document)
        made = copy.deepcopy(document)
        metadata = made["metadata"]
        number = next(self._numbers)
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", f"2026-11-21T00:{number // 60:02d}:{number % 60:02d}Z")
        metadata["resourceVersion"] = str(number)
        self.objects[resource.plural, metadata.get("namespace"), metadata["name"]] = made
        return copy.deepcopy(made)

    def one(self, resource: Resource, namespace: str | None, name: str) -> Document:
        """Return an object that must be there."""
        return copy.deepcopy(self.objects[resource.plural, namespace, name])

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        return copy.deepcopy(self.objects.get((resource.plural, namespace, name)))

    async def list(self, resource: Resource, namespace: str | None = None, selector: str = "") -> list[Document]:
        wanted = dict(term.split("=", 1) for term in selector.split(",") if term)
        return [
            copy.deepcopy(document)
            for (plural, there, _), document in self.objects.items()
            if plural == resource.plural
            and namespace in {None, there}
            and wanted.items() <= document["metadata"].get("labels", {}).items()
        ]

    async def each(
        self, resource: Resource, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[Document]:
        for document in await self.list(resource, namespace, selector):
            yield document

    async def apply(self, document: Document) -> Document:
        resource = resource_of(document)
        metadata = document["metadata"]
        old = self.objects.get((resource.plural, metadata.get("namespace"), metadata["name"]), {})
        self.writes.append(("apply", resource.plural, metadata["name"]))
        merged = _merged(old, document)
        if resource.plural == "nodes":
            written: Document = {f"f:{name}": {} for name in metadata["labels"]}
            before = {name for field in old["metadata"].get("managedFields", []) for name in _labels_of(field)}
            kept = {name: value for name, value in old["metadata"].get("labels", {}).items() if name not in before}
            merged["metadata"]["labels"] = {**kept, **metadata["labels"]}
            merged["metadata"]["managedFields"] = [
                {"manager": "skerry", "fieldsV1": {"f:metadata": {"f:labels": written}}}
            ]
        return self.put(merged)

    async def merge(self, resource: Resource, document: Document, change: Document) -> None:
        metadata = document["metadata"]
        self.writes.append(("merge", resource.plural, metadata["name"]))
        self.put(_patched(self.one(resource, metadata.get("namespace"), metadata["name"]), change))

    async def replace_status(self, resource: Resource, document: Document, status: Document) -> None:
        metadata = document["metadata"]
        key = (resource.plural, metadata.get("namespace"), metadata["name"])
        if key not in self.objects:
            raise NotFoundError(metadata["name"])
        if self.objects[key]["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise ConflictError(metadata["name"])
        self.writes.append(("status", resource.plural, metadata["name"]))
        self.put({**self.objects[key], "status": status})

    async def delete(self, resource: Resource, document: Document) -> None:
        metadata = document["metadata"]
        self.writes.append(("delete", resource.plural, metadata["name"]))
        self.objects.pop((resource.plural, metadata.get("namespace"), metadata["name"]), None)

    async def log(self, namespace: str, pod: str, *, tail_lines: int | None, limit_bytes: int) -> str:
        del namespace, tail_lines
        return self.logs.get(pod, "")[:limit_bytes]

    async def pod_get(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        del namespace, port, path
        if pod not in self.answers:
            raise NotFoundError(pod)
        return self.answers[pod]

    async def event(self, about: Document, *, kind: str, reason: str, action: str, note: str) -> None:
        del action, note
        self.events.append((f"{about['kind']}/{about['metadata']['name']}", f"{kind} {reason}"))

    async def server_version(self) -> tuple[int, int]:
        return (1, 36)


def _patched(old: Any, change: Any) -> Any:
    """Return a document with a JSON merge patch applied (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    kept = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = _patched(kept.get(name), value)
    return kept
