"""Publishing the profile of this node with the pod's own token."""

import base64
import http.client
import json
import ssl
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


class Publisher:
    """Writes one NodeProfile."""

    def __init__(self, host: str, port: int, account: Path = ACCOUNT) -> None:
        self._host, self._port, self._account = host, port, account

    def publish(self, node: str, status: dict[str, Any]) -> None:
        """Make the NodeProfile of the node if need be, and write its status.

        Raises:
            PublishError: The server refused, or the token is not of this node.
        """
        # Tokens are short-lived: the file is read each time.
        token = (self._account / "token").read_text(encoding="ascii").strip()
        bound = node_of(token)
        if bound["name"] != node:
            message = f"this pod's token is of node {bound['name']!r}, but NODE_NAME says {node!r}"
            raise PublishError(message)
        identity: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "NodeProfile", "metadata": {"name": node}}
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": bound["uid"]}
        document = {**identity, "metadata": {"name": node, "ownerReferences": [owner]}}
        self._apply(token, f"/apis/{API_VERSION}/nodeprofiles/{node}", document)
        self._apply(token, f"/apis/{API_VERSION}/nodeprofiles/{node}/status", {**identity, "status": status})

    def _apply(self, token: str, path: str, document: dict[str, Any]) -> None:
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/apply-patch+yaml",
            "Accept": "application/json",
        }
        try:
            connection.request(
                "PATCH", f"{path}?fieldManager={MANAGER}&force=true", json.dumps(document).encode(), headers
            )
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            message = f"the API server at {self._host}:{self._port} cannot be reached: {error!r}"
            raise PublishError(message) from error
        finally:
            connection.close()
        if response.status >= _OK:
            message = f"the API server answered {response.status} to {path}: {body[:500].decode(errors='replace')}"
            raise PublishError(message)
