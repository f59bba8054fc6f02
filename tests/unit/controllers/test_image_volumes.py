"""Variants are mounted as image volumes only where the API server and every kubelet can."""

from typing import Any, Literal

import pytest

from skerry.controllers.metrics import Metrics
from skerry.controllers.operator import Operator
from skerry.controllers.settings import Settings
from skerry.kube.resources import EDGE_DEPLOYMENTS
from skerry.manifests.settings import InstallationSettings, RegistrySettings
from skerry.planning.imagevolumes import too_old
from skerry.reconcile.base import Context, Key
from tests.support.gateway import FakeGateway

SERVED = Key("EdgeDeployment", "a", "front")


def node(kubelet: str, name: str = "nuc") -> dict[str, Any]:
    status = {"nodeInfo": {"kubeletVersion": kubelet}} if kubelet else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def started(volumes: Literal["Auto", "Always", "Never"], *, mounts: bool) -> Operator:
    """Return an operator after its start, that knows one EdgeDeployment."""
    registry = RegistrySettings(push="registry:5000", pull="localhost:30500")
    installation = InstallationSettings(
        optimizer_image="none", server_image="none", registry=registry, image_volumes=volumes
    )
    operator = Operator(Settings(installation=installation, namespace="skerry-system"), Metrics())
    operator._context = Context(FakeGateway(), installation, "skerry-system", image_volumes=mounts)  # noqa: SLF001
    operator._seen[EDGE_DEPLOYMENTS.kind].add(SERVED)  # noqa: SLF001
    return operator


def mounts(operator: Operator) -> bool:
    assert operator._context is not None  # noqa: SLF001
    return operator._context.image_volumes  # noqa: SLF001


@pytest.mark.parametrize(
    ("kubelet", "expected"),
    [("v1.34.9", True), ("v1.35.0-rc.1", False), ("v1.36.2+k3s1", False), ("v2.0.0", False), ("", False), ("x", True)],
)
def test_a_kubelet_is_known_by_its_version(kubelet: str, expected: bool) -> None:  # noqa: FBT001
    assert too_old(node(kubelet)) is expected


async def test_at_the_start_the_oldest_kubelet_counts() -> None:
    gateway, operator = FakeGateway(), started("Auto", mounts=False)
    gateway.put(node("v1.36.0", "new"))
    assert await operator._supports_image_volumes(gateway)  # noqa: SLF001

    gateway.put(node("v1.34.0", "old"))
    assert not await operator._supports_image_volumes(gateway)  # noqa: SLF001


async def test_an_old_api_server_cannot_whatever_the_nodes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async def old() -> tuple[int, int]:
        return (1, 34)

    gateway = FakeGateway()
    monkeypatch.setattr(gateway, "server_version", old)
    gateway.put(node("v1.36.0"))
    assert not await started("Auto", mounts=False)._supports_image_volumes(gateway)  # noqa: SLF001


async def test_an_older_node_that_joins_ends_image_volumes_and_no_node_brings_them_back() -> None:
    operator = started("Auto", mounts=True)
    await operator._node(event={"type": "ADDED", "object": node("v1.36.0", "new")})  # noqa: SLF001
    assert mounts(operator)

    await operator._node(event={"type": "ADDED", "object": node("v1.34.0", "old")})  # noqa: SLF001
    assert not mounts(operator)
    assert SERVED in operator.queue._waiting  # noqa: SLF001

    await operator._node(event={"type": "DELETED", "object": node("v1.34.0", "old")})  # noqa: SLF001
    assert not mounts(operator)


async def test_an_older_node_that_leaves_or_image_volumes_that_are_asked_for_change_nothing() -> None:
    operator = started("Auto", mounts=True)
    await operator._node(event={"type": "DELETED", "object": node("v1.34.0")})  # noqa: SLF001
    assert mounts(operator)

    operator = started("Always", mounts=True)
    await operator._node(event={"type": "ADDED", "object": node("v1.34.0")})  # noqa: SLF001
    assert mounts(operator)
