"""What the operator holds of the cluster while it looks at it."""

import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.kube.resources import PODS, Resource
from skerry.reconcile.base import Context
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.conftest import node

MANY = 50


class Pod(dict[str, Any]):
    """A pod that tells whether it is still held."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


async def test_pods_are_counted_one_by_one_and_not_kept(
    gateway: FakeGateway, context: Context, profile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del profile
    gateway.put(node("node-2"))
    held: weakref.WeakSet[Pod] = weakref.WeakSet()
    most = 0
    original = gateway.each

    async def each(
        resource: Resource, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        nonlocal most
        if resource is not PODS:
            async for document in original(resource, namespace, selector):
                yield document
            return
        for number in range(MANY):
            containers = [{"resources": {"requests": {"cpu": "10m"}}}]
            pod = Pod(metadata={"name": f"p{number}"}, spec={"nodeName": "node-1", "containers": containers})
            held.add(pod)
            most = max(most, len(held))
            yield pod
            del pod

    monkeypatch.setattr(gateway, "each", each)
    seen = await context.site.look(gateway, context.catalogue, context.now)

    assert seen.nodes["node-1"].taken == {"cpu": MANY * 10, "pods": MANY}
    assert seen.nodes["node-2"].taken == {}
    assert most <= 2
