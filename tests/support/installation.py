"""Skerry installed on the development cluster, and its registry filled by tests."""

import base64
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, parts
from devcluster.errors import CommandError
from skerry.store.image import Layer, push_image
from skerry.store.references import Reference
from skerry.store.settings import Credentials, Login, StoreSettings

ROOT = Path(__file__).parents[2]
SYSTEM = "skerry-system"
REGISTRY = f"registry.{SYSTEM}:5000"
Document = dict[str, Any]


def install(cluster: Cluster, *more: str, tools: Mapping[str, Sequence[str]] | None = None) -> None:
    """Install Skerry, or bring it to this checkout's state.

    Args:
        cluster: The cluster.
        more: More words for Helm.
        tools: Images beside the essential ones, each with the nodes that get it; none: all.
    """
    images = cluster.images()
    cluster.load(images.values())
    for name, nodes in (tools or {}).items():
        images |= cluster.images(name)
        cluster.load([images[name]], nodes)
    values = [word for name, image in images.items() for word in ("--set", f"images.{name}={image}")]
    chart = ROOT / "charts" / "skerry"
    command = ("upgrade", "--install", "skerry", chart, "--namespace", SYSTEM, "--create-namespace")
    cluster.helm(*command, *values, *more, "--wait", "--timeout", "300s")


def eventually(look: Callable[[], object], what: str, seconds: float = 180.0) -> Any:
    """Return what `look` returns once that is true; a failing command counts as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            last = look()
        except CommandError as error:
            last = None
            told = str(error)
        else:
            told = ""
        if last:
            return last
        if time.monotonic() > deadline:
            pytest.fail(f"not after {seconds} s: {what} {told}")
        time.sleep(0.5)


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str, service: str, port: int) -> Iterator[int]:
    """Reach a Service on a free local port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        local: int = free.getsockname()[1]
    command = [str(parts.kubectl()), "--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
    command += ["port-forward", f"service/{service}", f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), timeout=1):
            return True
        return False

    try:
        eventually(answers, f"port-forward to {namespace}/{service}", 30)
        yield local
    finally:
        process.terminate()
        process.wait()


def push(cluster: Cluster, files: Mapping[str, Path], work: Path) -> None:
    """Push files to the embedded registry, each as `REPOSITORY:TAG`."""
    secret = cluster.get("secret", "registry-push", "--namespace", SYSTEM)[0]
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    login = next(iter(config["auths"].values()))
    with forwarded(cluster, SYSTEM, "registry", 5000) as port:
        host = f"localhost:{port}"
        credentials = Credentials({host: Login(login["username"], login["password"])})
        push_to(host, files, StoreSettings(insecure=frozenset({host})), credentials, work)


def push_to(
    host: str, files: Mapping[str, Path], settings: StoreSettings, credentials: Credentials, work: Path
) -> None:
    """Push files to a registry, each as `REPOSITORY:TAG`."""
    for name, path in files.items():
        push_image(
            [Layer({path.name: path})],
            Reference.parse(f"{host}/{name}"),
            artifact_type="application/vnd.skerry.source.v1",
            annotations={},
            settings=settings,
            credentials=credentials,
            work=work,
        )


def condition(document: Document, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; empty where there is none."""
    for item in document.get("status", {}).get("conditions", []):
        if item["type"] == kind:
            return item["status"], item.get("reason", ""), item.get("message", "")
    return "", "", ""


def apply(cluster: Cluster, *documents: Document) -> None:
    """Apply objects."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", text=json.dumps(listed))
