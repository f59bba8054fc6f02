"""Publishing the profile of this node with the pod's own token."""

import base64
import http.client
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

API_VERSION = "skerry.dev/v1alpha1"
MANAGER = "skerry-probe"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS = 20
_OK = 300


class PublishError(Exception):
    """The API server did not take the profile; the message says why."""


def node_of(token: str) -> dict[str, str]:
    """Return `name` and `uid` of the node that a pod's token is bound to; the API server verifies the token, not we.

    Raises:
        PublishError: The token names no node.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        node = claims["kubernetes.io"]["node"]
        return {"name": str(node["name"]), "uid": str(node["uid"])}
    except (IndexError, KeyError, ValueError, TypeError) as error:
        message = "the service account's token names no node: Kubernetes 1.32 or later is needed"
        raise PublishError(message) from error


def status_of(found: dict[str, Any], previous: dict[str, Any], now: str) -> dict[str, Any]:
    """Return the whole status: what was found, with the times of the previous status where nothing changed since."""
    same = all(previous.get(name) == value for name, value in found.items())
    ready: dict[str, Any] = next((each for each in previous.get("conditions", []) if each.get("type") == "Ready"), {})
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Probed",
        "message": "",
        "lastTransitionTime": ready["lastTransitionTime"] if ready.get("status") == "True" else now,
    }
    return {"conditions": [condition], "observedAt": previous["observedAt"] if same else now, **found}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Publisher:
    """Writes one NodeProfile."""

    def __init__(self, host: str, port: int, account: Path = ACCOUNT, now: Callable[[], str] = _now) -> None:
        self._host, self._port, self._account, self._now = host, port, account, now

    def publish(self, node: str, found: dict[str, Any]) -> None:
        """Make the NodeProfile of the node if need be, and write what was found where it says something else.

        Raises:
            PublishError: The server refused, or the token is not of this node.
        """
        # Tokens are short-lived: the file is read each time.
        token = self._token()
        bound = node_of(token)
        if bound["name"] != node:
            message = f"this pod's token is of node {bound['name']!r}, but NODE_NAME says {node!r}"
            raise PublishError(message)
        identity: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "NodeProfile", "metadata": {"name": node}}
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": bound["uid"]}
        document = {**identity, "metadata": {"name": node, "ownerReferences": [owner]}}
        # The answer tells the status as well: the right to read is not needed.
        previous = self._apply(token, f"/apis/{API_VERSION}/nodeprofiles/{node}", document).get("status", {})
        status = status_of(found, previous, self._now())
        if status != previous:
            self._apply(token, f"/apis/{API_VERSION}/nodeprofiles/{node}/status", {**identity, "status": status})

    def _token(self) -> str:
        try:
            return (self._account / "token").read_text(encoding="ascii").strip()
        except OSError as error:
            message = f"the pod has no service account token: {error}"
            raise PublishError(message) from error

    def _apply(self, token: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/apply-patch+yaml",
            "Accept": "application/json",
        }
        try:
            context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
            try:
                connection.request(
                    "PATCH", f"{path}?fieldManager={MANAGER}&force=true", json.dumps(document).encode(), headers
                )
                response = connection.getresponse()
                body = response.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            message = f"the API server at {self._host}:{self._port} cannot be reached: {error!r}"
            raise PublishError(message) from error
        if response.status >= _OK:
            message = f"the API server answered {response.status} to {path}: {body[:500].decode(errors='replace')}"
            raise PublishError(message)
        try:
            answer: dict[str, Any] = json.loads(body)
        except ValueError as error:
            message = f"the API server at {self._host}:{self._port} answered something that is not JSON"
            raise PublishError(message) from error
        return answer
