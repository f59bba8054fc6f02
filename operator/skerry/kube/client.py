"""The gateway over the official client's asynchronous REST layer.

Only its transport, authentication and configuration are used: its model classes would cost more memory than the whole
operator may have.
"""

import json
import logging
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from skerry.api.meta import FIELD_MANAGER
from skerry.kube.errors import ApiError, GoneError, NotFoundError, UnavailableError, error_for
from skerry.kube.gateway import Document
from skerry.kube.resources import EVENTS, PODS, Resource, resource_of

_LOG: Final = logging.getLogger(__name__)
TIMEOUT_SECONDS: Final = 30
POD_SECONDS: Final = 3
POD_BYTES: Final = 1 << 20
PAGE: Final = 200
NOTE_LIMIT: Final = 1024
_JSON: Final = {"Accept": "application/json"}
_APPLY: Final = {**_JSON, "Content-Type": "application/apply-patch+yaml"}


class Client:
    """A gateway to a real API server."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @staticmethod
    async def connect() -> "Client":
        """Connect with the pod's service account, else with the kubeconfig of the environment."""
        configuration = Configuration()
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            # The library reads KUBECONFIG when it is imported, which is too early for whoever sets it later.
            await load_kube_config(config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration)
        return Client(ApiClient(configuration))

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
        seconds: float = TIMEOUT_SECONDS,
        limit: int | None = None,
    ) -> bytes:
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=query or [],
                header_params=dict(headers or _JSON),
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=seconds)
            data: bytes = await (response.read() if limit is None else _beginning(response.response, limit)) or b""
        except ApiException as error:
            raise error_for(int(error.status or 0), f"{method} {path}: {error.status} {_told(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"{method} {path}: {error!r}"
            raise UnavailableError(message) from error
        if response.status >= 400:  # noqa: PLR2004 - the start of HTTP's errors
            raise error_for(response.status, f"{method} {path}: {response.status} {_message(data)}")
        return data

    async def _json(self, method: str, path: str, **arguments: Any) -> Document:
        found: Document = json.loads(await self._call(method, path, **arguments))
        return found

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        """Return an object, or None."""
        try:
            return await self._json("GET", resource.path(namespace, name))
        except NotFoundError:
            return None

    async def list(self, resource: Resource, namespace: str | None = None, selector: str = "") -> list[Document]:
        """Return all objects that fit."""
        return [item async for item in self.each(resource, namespace, selector)]

    async def each(
        self, resource: Resource, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[Document]:
        """Yield all objects that fit; each is let go of before the next, and a page before the next is read.

        Raises:
            UnavailableError: The list took so long that the API server no longer knows it; trying again helps.
        """
        token = ""
        while True:
            query = [("limit", str(PAGE))]
            query += [("labelSelector", selector)] if selector else []
            query += [("continue", token)] if token else []
            try:
                page = await self._json("GET", resource.path(namespace), query=query)
            except GoneError as error:
                # The token expired while the page before was read: nothing is being deleted.
                raise UnavailableError(str(error)) from error
            token = page["metadata"].get("continue", "")
            items = page["items"]
            items.reverse()
            while items:
                yield {"apiVersion": resource.api_version, "kind": resource.kind, **items.pop()}
            if not token:
                return

    async def apply(self, document: Document) -> Document:
        """Server-side apply, taking over the fields that are described."""
        resource, metadata = resource_of(document), document["metadata"]
        return await self._json(
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"]),
            query=[("fieldManager", FIELD_MANAGER), ("force", "true")],
            headers=_APPLY,
            body=document,
        )

    async def merge(self, resource: Resource, document: Document, change: Document) -> None:
        """Change a few fields of an object."""
        metadata = document["metadata"]
        await self._call(
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"]),
            query=[("fieldManager", FIELD_MANAGER)],
            headers={**_JSON, "Content-Type": "application/merge-patch+json"},
            body=change,
        )

    async def replace_status(self, resource: Resource, document: Document, status: Document) -> None:
        """Write a status over the version that was read."""
        metadata = document["metadata"]
        await self._call(
            "PUT",
            resource.path(metadata.get("namespace"), metadata["name"], "status"),
            query=[("fieldManager", FIELD_MANAGER)],
            headers={**_JSON, "Content-Type": "application/json"},
            body={**document, "status": status},
        )

    async def delete(self, resource: Resource, document: Document) -> None:
        """Delete an object, the very one that was read."""
        metadata = document["metadata"]
        try:
            await self._call(
                "DELETE",
                resource.path(metadata.get("namespace"), metadata["name"]),
                headers={**_JSON, "Content-Type": "application/json"},
                body={
                    "kind": "DeleteOptions",
                    "apiVersion": "v1",
                    "propagationPolicy": "Background",
                    "preconditions": {"uid": metadata["uid"]},
                },
            )
        except NotFoundError:
            return

    async def log(self, namespace: str, pod: str, *, tail_lines: int | None, limit_bytes: int) -> str:
        """Return the end of a pod's log."""
        query = [("limitBytes", str(limit_bytes))]
        query += [("tailLines", str(tail_lines))] if tail_lines is not None else []
        try:
            data = await self._call("GET", PODS.path(namespace, pod, "log"), query=query, headers={"Accept": "*/*"})
        except UnavailableError:
            raise
        except ApiError:
            return ""  # the container has not started, or the pod is gone
        return data.decode("utf-8", errors="replace")

    async def pod_get(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """GET through the API server's pod proxy; a pod is not waited for long, nor read for ever."""
        return await self._call(
            "GET",
            PODS.path(namespace, f"{pod}:{port}", f"proxy{path}"),
            headers={"Accept": "*/*"},
            seconds=POD_SECONDS,
            limit=POD_BYTES,
        )

    async def event(self, about: Document, *, kind: str, reason: str, action: str, note: str) -> None:
        """Record an event; one that cannot be recorded is no reason to fail."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        document = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"generateName": f"{metadata['name'][:200]}-", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "skerry.dev/operator",
            "reportingInstance": FIELD_MANAGER,
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note[:NOTE_LIMIT],
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
            },
        }
        try:
            await self._call(
                "POST",
                EVENTS.path(namespace),
                headers={**_JSON, "Content-Type": "application/json"},
                body=document,
            )
        except GoneError:
            return
        except ApiError as error:
            _LOG.warning("an event could not be recorded: %s", error)

    async def server_version(self) -> tuple[int, int]:
        """Return the API server's version."""
        found = await self._json("GET", "/version")
        numbers = [int(re.sub(r"\D.*", "", str(found[key])) or 0) for key in ("major", "minor")]
        return numbers[0], numbers[1]


async def _beginning(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return an answer that is not longer than that.

    Raises:
        UnavailableError: It is.
    """
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > limit:
            response.close()
            message = f"GET {response.url.path}: the answer is longer than {limit} bytes"
            raise UnavailableError(message)
    return bytes(found)


def _told(error: ApiException) -> str:
    body = error.body
    return _message(body.encode() if isinstance(body, str) else body or b"")


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data).get("message", ""))
    except (ValueError, AttributeError):
        return data[:200].decode("utf-8", errors="replace")
