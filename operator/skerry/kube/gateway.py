"""What reconcilers can ask of the API server."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from skerry.kube.resources import Resource

Document = dict[str, Any]


class Gateway(Protocol):
    """The API server, as far as Skerry needs it. Every method may raise `skerry.kube.errors.ApiError`."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        """Return an object, or None when there is none."""
        ...

    async def list(self, resource: Resource, namespace: str | None = None, selector: str = "") -> list[Document]:
        """Return the objects that a label selector fits."""
        ...

    def each(self, resource: Resource, namespace: str | None = None, selector: str = "") -> AsyncIterator[Document]:
        """Yield the objects that a label selector fits, without holding more than a page of them: for large lists."""
        ...

    async def apply(self, document: Document) -> Document:
        """Make an object as it is described, by server-side apply as the manager `skerry`."""
        ...

    async def merge(self, resource: Resource, document: Document, change: Document) -> None:
        """Change a few fields of an object by a JSON merge patch, for what server-side apply must not send again."""
        ...

    async def replace_status(self, resource: Resource, document: Document, status: Document) -> None:
        """Write the status of an object as it was read; ConflictError when someone wrote it since."""
        ...

    async def delete(self, resource: Resource, document: Document) -> None:
        """Delete an object and, in the background, what it owns; nothing when it is gone or another has its name."""
        ...

    async def log(self, namespace: str, pod: str, *, tail_lines: int | None, limit_bytes: int) -> str:
        """Return the end of a pod's log; empty when there is none yet."""
        ...

    async def pod_get(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """Return what a pod answers to a GET, through the API server's proxy."""
        ...

    async def event(self, about: Document, *, kind: str, reason: str, action: str, note: str) -> None:
        """Record an event about an object; failures are not errors."""
        ...

    async def server_version(self) -> tuple[int, int]:
        """Return the API server's version as (1, 36)."""
        ...
