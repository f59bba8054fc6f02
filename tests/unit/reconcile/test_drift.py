"""What the API server writes otherwise is no difference; what others add to an object is taken away."""

from typing import Any

import pytest

from skerry.reconcile.base import ensure
from skerry.reconcile.drift import additions, equal
from tests.support.gateway import FakeGateway


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (
            {"limits": {"cpu": "0.5", "memory": "1024Mi", "a.b/c": "1"}},
            {"limits": {"cpu": "500m", "memory": "1Gi", "a.b/c": 1}},
        ),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}),
        ({"a": 1}, {"a": 1, "defaulted": True}),
    ],
)
def test_what_the_api_server_writes_otherwise_is_equal(wanted: Any, found: Any) -> None:
    assert equal(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "2Gi"}}),
        ({"value": "1000m"}, {"value": "1"}),
        ({"args": ["a"]}, {"args": ["a", "b"]}),
    ],
)
def test_what_means_something_else_is_not(wanted: Any, found: Any) -> None:
    assert not equal(wanted, found)


def service(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "front", "namespace": "vision"}
    wanted = {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": wanted}


def workload(**more: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "server", "image": "a"}], "nodeSelector": {"x": "y"}, **more.pop("pod", {})}
    metadata = {"name": "front", "namespace": "vision"}
    spec = {"replicas": 1, "template": {"spec": pod}, **more}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (service(), service(selector={"app": "a", "extra": "x"})),
        (service(), service(ports=[{"name": "http", "port": 9999}])),
        (workload(), workload(paused=True)),
        (workload(), workload(pod={"containers": [{"name": "server", "image": "a"}, {"name": "evil", "image": "e"}]})),
        (workload(), workload(pod={"initContainers": [{"name": "evil", "image": "e"}]})),
        (workload(), workload(pod={"nodeSelector": {"x": "y", "no": "where"}})),
    ],
)
async def test_what_others_added_is_taken_away(
    gateway: FakeGateway, wanted: dict[str, Any], found: dict[str, Any]
) -> None:
    gateway.put(found)
    made = await ensure(gateway, wanted)
    assert made["spec"] == wanted["spec"]


def test_what_is_harmless_stays() -> None:
    found = service(ports=[{"name": "http", "port": 8080, "nodePort": 30000}], clusterIP="10.0.0.1")
    assert additions(service(), found) == {}
    scaled = workload(pod={"containers": [{"name": "server", "image": "a", "terminationMessagePath": "/dev/x"}]})
    assert additions(workload(), scaled) == {}
