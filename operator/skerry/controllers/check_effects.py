"""`python -m skerry.controllers.check_effects`: what `helm test` runs in pods to see that what is in force has effect.

Policies are tried with the very accounts that they are about, the registry with a push, a node with a pull from its
own localhost. Standard library only, and no client of Skerry's: each pod does a handful of requests.
"""

import base64
import hashlib
import http.client
import io
import json
import os
import ssl
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 60
POLL_SECONDS = 1
GREETING = "pulled by the node from the embedded registry"
TEST_IMAGE = "skerry-test/volume"
Answer = tuple[int, dict[str, str], Any]


class CheckError(Exception):
    """Something of the installation is not as it should be."""


def expect(holds: object, what: str, found: object = "") -> None:
    """Print what holds; raise where it does not."""
    if not holds:
        message = f"NOT: {what}; found: {found}"
        raise CheckError(message)
    sys.stdout.write(f"ok: {what}\n")


def eventually(look: Callable[[], str], what: str) -> None:
    """Wait until a look finds nothing wrong."""
    deadline = time.monotonic() + SECONDS
    while (wrong := look()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    expect(not wrong, what, wrong)


def kubernetes(method: str, path: str, body: Any = None, kind: str = "application/apply-patch+yaml") -> Answer:
    """Ask the API server as the pod's own service account."""
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    token = (ACCOUNT / "token").read_text(encoding="ascii").strip()
    return exchange(connection, method, path, {"Authorization": f"Bearer {token}", "Content-Type": kind}, body)


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: Any
) -> Answer:
    """Send a request and return status, headers and what was answered."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    finally:
        connection.close()
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    return response.status, {name.lower(): value for name, value in response.getheaders()}, found


class Registry:
    """One listener of the embedded registry."""

    def __init__(self, address: str, login: str = "") -> None:
        self.address = address
        self.headers = {"Authorization": f"Basic {login}"} if login else {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request."""
        host, _, port = self.address.rpartition(":")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
        return exchange(connection, method, path, {**self.headers, **given}, body)

    def push(self, blob: bytes) -> str:
        """Push a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        status, headers, found = self.ask("POST", f"/v2/{TEST_IMAGE}/blobs/uploads/")
        expect(status == http.HTTPStatus.ACCEPTED, "an upload can begin with the password", found)
        place = headers["location"].split(self.address, 1)[-1]
        place += f"{'&' if '?' in place else '?'}digest={digest}"
        status, _, found = self.ask("PUT", place, blob, Content_Type="application/octet-stream")
        expect(status == http.HTTPStatus.CREATED, "an upload can end", found)
        return digest


def image_of(registry: Registry) -> bytes:
    """Push a layer with one file and a config, and return the manifest."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("greeting")
        member.size, member.mode = len(GREETING), 0o444
        archive.addfile(member, io.BytesIO(GREETING.encode()))
    layer = stream.getvalue()
    digest = registry.push(layer)
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest]}})
    kinds = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kinds}.manifest.v1+json",
        "config": {
            "mediaType": f"{kinds}.config.v1+json",
            "digest": registry.push(config.encode()),
            "size": len(config),
        },
        "layers": [{"mediaType": f"{kinds}.layer.v1.tar", "digest": digest, "size": len(layer)}],
    }
    return json.dumps(manifest).encode()


def check_registry(write: str, read: str) -> None:
    """The embedded registry takes pushes with the password only, and shows them to everyone who may not write."""
    auths = json.loads(Path("/credentials/.dockerconfigjson").read_text(encoding="utf-8"))["auths"]
    login = base64.b64encode("{username}:{password}".format(**auths[write]).encode()).decode()
    stranger, owner, reader = Registry(write), Registry(write, login), Registry(read)
    status = stranger.ask("GET", "/v2/")[0]
    expect(status == http.HTTPStatus.UNAUTHORIZED, f"{write} asks for the password", status)
    status = owner.ask("GET", "/v2/")[0]
    expect(status == http.HTTPStatus.OK, f"{write} takes the password of the Secret", status)
    manifest = image_of(owner)
    kind = json.loads(manifest)["mediaType"]
    status, _, found = owner.ask("PUT", f"/v2/{TEST_IMAGE}/manifests/1", manifest, Content_Type=kind)
    expect(status == http.HTTPStatus.CREATED, "an image can be pushed", found)
    status, headers, found = reader.ask("GET", f"/v2/{TEST_IMAGE}/manifests/1", Accept=kind)
    expect(status == http.HTTPStatus.OK, f"{read} shows at once what was pushed", found)
    digest = headers["docker-content-digest"]
    for method, path in (
        ("POST", f"/v2/{TEST_IMAGE}/blobs/uploads/"),
        ("PUT", f"/v2/{TEST_IMAGE}/manifests/2"),
        ("DELETE", f"/v2/{TEST_IMAGE}/manifests/{digest}"),
    ):
        status = reader.ask(method, path, manifest, Content_Type=kind)[0]
        expect(status == http.HTTPStatus.METHOD_NOT_ALLOWED, f"{read} refuses {method} {path}", status)


def check_volume() -> None:
    """The image that was pushed is mounted here: the node pulled it by its own localhost."""
    found = Path("/volume/greeting").read_text(encoding="utf-8")
    expect(found == GREETING, "this node pulls from the embedded registry without any configuration", found)


def profile_of(node: str) -> tuple[str, dict[str, Any]]:
    """Return the path to apply a NodeProfile to, without effect, and the object."""
    path = f"/apis/skerry.dev/v1alpha1/nodeprofiles/{node}?fieldManager=helm-test&force=true&dryRun=All"
    return path, {"apiVersion": "skerry.dev/v1alpha1", "kind": "NodeProfile", "metadata": {"name": node}}


def check_probe() -> None:
    """The probe's account may write the NodeProfile of its own node, and nobody else's."""
    node = os.environ["NODE_NAME"]
    status, _, found = kubernetes("PATCH", *profile_of(node))
    expect(status in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}, "a probe may write its own NodeProfile", found)

    def wrong() -> str:
        status, _, found = kubernetes("PATCH", *profile_of("some-other-node"))
        told = "must not write the NodeProfile of some-other-node" in str(found)
        return "" if status == http.HTTPStatus.FORBIDDEN and told else str(found)

    eventually(wrong, "a probe may not write the NodeProfile of another node")


def check_operator(namespace: str) -> None:
    """The operator's account may write its own labels and Secrets, and no others; nor may it touch others' pods.

    This very pod is one that is not the operator's to touch.
    """
    query = "fieldManager=helm-test&force=true&dryRun=All"
    node = f"/api/v1/nodes/{os.environ['NODE_NAME']}"
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    pod = f"/api/v1/namespaces/{namespace}/pods/{os.environ['POD_NAME']}"

    def labelled(label: str) -> tuple[str, dict[str, Any]]:
        metadata = {"name": os.environ["NODE_NAME"], "labels": {label: "true"}}
        return f"{node}?{query}", {"apiVersion": "v1", "kind": "Node", "metadata": metadata}

    def secret(name: str, **labels: str) -> tuple[str, dict[str, Any]]:
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}}
        return f"{secrets}/{name}?{query}", document

    ours = {"app.kubernetes.io/managed-by": "skerry"}
    for what, (path, document) in (
        ("its own labels on Nodes", labelled("skerry.dev/helm-test")),
        ("the Secrets of its Jobs", secret("helm-test-push", **ours)),
    ):
        status, _, found = kubernetes("PATCH", path, document)
        expect(status in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}, f"the operator may write {what}", found)
    cordon = {"apiVersion": "v1", "kind": "Node", "spec": {"unschedulable": True}}
    cordon["metadata"] = {"name": os.environ["NODE_NAME"]}
    annotated: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod"}
    annotated["metadata"] = {"name": os.environ["POD_NAME"], "annotations": {"example.com/helm-test": "true"}}
    refused: list[tuple[str, str, tuple[str, dict[str, Any] | None]]] = [
        ("write other labels on Nodes", "PATCH", labelled("example.com/helm-test")),
        ("write anything else of Nodes", "PATCH", (f"{node}?{query}", cordon)),
        ("write Secrets that are not its own", "PATCH", secret("helm-test-push")),
        ("write Secrets of other names", "PATCH", secret("helm-test", **ours)),
        ("write pods of others", "PATCH", (f"{pod}?{query}", annotated)),
        ("delete pods of others", "DELETE", (f"{pod}?dryRun=All", None)),
    ]
    for what, method, request in refused:

        def wrong(method: str = method, request: tuple[str, dict[str, Any] | None] = request) -> str:
            status, _, found = kubernetes(method, *request)
            told = "the operator may" in str(found)
            return "" if status == http.HTTPStatus.FORBIDDEN and told else str(found)

        eventually(wrong, f"the operator may not {what}")


def main(arguments: list[str]) -> int:
    """Run what is named: each word is a check, with its arguments after commas."""
    checks: dict[str, Callable[..., None]] = {
        "registry": check_registry,
        "volume": check_volume,
        "probe": check_probe,
        "operator": check_operator,
    }
    try:
        for argument in arguments:
            name, *words = argument.split(",")
            checks[name](*words)
    except (CheckError, OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
