"""The labels of Nodes, against a fake API server."""

from typing import Any

import pytest

from skerry.kube.resources import (
    NODE_PROFILES,
    NODES,
)
from skerry.reconcile import nodes
from skerry.reconcile.base import Context, Key, present
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.conftest import Clock


async def test_nodes_get_labels_and_lose_only_ours(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    gateway.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {}}})
    key = Key("NodeProfile", None, "node-1")

    await nodes.reconcile(context, key)

    assert gateway.one(NODES, None, "node-1")["metadata"]["labels"] == {
        "skerry.dev/accelerator.cpu": "true",
        "skerry.dev/accelerator.cpu.count": "1",
        "skerry.dev/cpu.avx2": "true",
        "skerry.dev/cpu.avx512_vnni": "true",
        "skerry.dev/cpu.tier": "avx512-vnni",
    }
    gateway.writes.clear()
    await nodes.reconcile(context, key)
    assert gateway.writes == []

    gateway.put({**profile, "status": {}})
    await nodes.reconcile(context, key)
    assert gateway.writes == [], "a probe that has just started removes nothing"


async def test_a_label_that_someone_else_wrote_stays_theirs(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    del profile
    labels = {"skerry.dev/accelerator.cpu": "false", "site": "a"}
    gateway.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": labels}})

    await nodes.reconcile(context, Key("NodeProfile", None, "node-1"))

    found = gateway.one(NODES, None, "node-1")["metadata"]["labels"]
    assert found["skerry.dev/accelerator.cpu"] == "false"
    assert found["skerry.dev/accelerator.cpu.count"] == "1"
    assert found["site"] == "a"


async def test_an_accelerator_that_only_labels_tell_of(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    del profile
    node = gateway.one(NODES, None, "node-1")
    node["metadata"]["labels"]["nvidia.com/gpu.present"] = "true"
    node["status"]["allocatable"]["nvidia.com/gpu"] = "2"
    gateway.put(node)

    await nodes.reconcile(context, Key("NodeProfile", None, "node-1"))

    found = gateway.one(NODES, None, "node-1")["metadata"]["labels"]
    assert found["skerry.dev/accelerator.nvidia-gpu"] == "true"
    assert found["skerry.dev/accelerator.nvidia-gpu.count"] == "2"
    seen = await context.site.look(gateway, context.catalogue, context.now)
    assert seen.nodes["node-1"].accelerators["nvidia-gpu"].resource == "nvidia.com/gpu"


async def test_a_profile_that_is_gone_for_a_moment_changes_nothing(
    gateway: FakeGateway, context: Context, clock: Clock, profile: dict[str, Any]
) -> None:
    key = Key("NodeProfile", None, "node-1")
    assert await present(context) == {"cpu"}
    await nodes.reconcile(context, key)
    labelled = gateway.one(NODES, None, "node-1")["metadata"]["labels"]
    await gateway.delete(NODE_PROFILES, profile)

    clock.advance(170)
    assert await nodes.reconcile(context, key) == pytest.approx(10)
    assert await present(context) == {"cpu"}
    assert gateway.one(NODES, None, "node-1")["metadata"]["labels"] == labelled

    clock.advance(10)
    assert await nodes.reconcile(context, key) is None
    assert await present(context) == frozenset()
    assert "skerry.dev/accelerator.cpu" not in gateway.one(NODES, None, "node-1")["metadata"]["labels"]


async def test_a_profile_of_another_version_stops_nobody(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    gateway.put({**profile, "metadata": {"name": "newer"}, "status": {"accelerators": "in other words"}})
    assert await present(context) == {"cpu"}


async def test_a_profile_whose_node_is_gone_labels_nothing(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    await gateway.delete(NODES, gateway.one(NODES, None, "node-1"))
    gateway.writes.clear()

    await nodes.reconcile(context, Key("NodeProfile", None, profile["metadata"]["name"]))

    assert gateway.writes == []
