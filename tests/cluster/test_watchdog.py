"""The watchdog: a watcher of kopf's that died makes the operator's liveness probe fail.

This runs the operator in the test's own process, on a namespace of its own; it also fails when a new kopf names its
tasks differently, which would blind the watchdog.
"""

import asyncio
import json
import socket
from collections.abc import Callable

import httpx
import kopf
import pytest

from devcluster import Cluster
from skerry.controllers import watchdog
from skerry.controllers.metrics import Metrics
from skerry.controllers.operator import WATCHED, Operator
from skerry.controllers.settings import Settings
from skerry.manifests.settings import InstallationSettings, RegistrySettings

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-watchdog"
DEADLINE_SECONDS = 60.0


async def until(look: Callable[[], "asyncio.Future[bool]"], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.2)


async def test_a_dead_watcher_fails_the_liveness_probe(skerry: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    skerry.kubectl("apply", "--server-side", "--filename", "-", text=json.dumps(namespace))
    monkeypatch.setenv("KUBECONFIG", str(skerry.kubeconfig))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    registry_settings = RegistrySettings(push="registry.skerry-system.svc:5000", pull="localhost:30500")
    installation = InstallationSettings(optimizer_image="none", server_image="none", registry=registry_settings)
    settings = Settings(installation=installation, namespace=NAMESPACE, watch=(NAMESPACE,))
    registry = kopf.OperatorRegistry()
    Operator(settings, Metrics()).register(registry)
    stop = asyncio.Event()
    running = asyncio.create_task(
        kopf.operator(
            registry=registry,
            standalone=True,
            namespaces=[NAMESPACE],
            liveness_endpoint=f"http://127.0.0.1:{port}/healthz",
            stop_flag=stop,
        )
    )

    async def answers(status: int) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == status
        except httpx.TransportError:
            return False

    try:
        await until(lambda: asyncio.ensure_future(answers(200)), "the operator is alive")
        watchers = watchdog.expected(WATCHED, (NAMESPACE,))
        assert watchdog.missing(watchers, asyncio.all_tasks()) == []
        victim = next(
            task for task in asyncio.all_tasks() if task.get_name().startswith(f"{watchdog.PREFIX}edgemodels.")
        )
        victim.cancel()
        await until(lambda: asyncio.ensure_future(answers(500)), "the probe fails")
        assert watchdog.missing(watchers, asyncio.all_tasks()) == [f"edgemodels.v1alpha1.skerry.dev@{NAMESPACE}"]
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
        skerry.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
