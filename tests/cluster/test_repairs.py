"""What people and nodes do to a deployment that serves, and how it comes back, on the real cluster."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster import Cluster
from tests.support import models
from tests.support.installation import SYSTEM, condition, eventually, push
from tests.support.workspace import Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

LONG = 300.0


@pytest.fixture(scope="module")
def space(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A model that is served by two replicas, and another deployment of it that runs on each node."""
    work = tmp_path_factory.mktemp("repairs")
    files = {"models/good:1": models.classifier(work / "good.onnx"), "data/good:1": models.samples(work / "data.npz")}
    push(skerry, files, work)
    with workspace(skerry, "skerry-repairs") as space:
        each = edge_deployment("each", "good")
        each["spec"]["placement"] = {"mode": "PerNode"}
        space.apply(edge_model("good"), edge_deployment("front", "good", replicas=2), each)
        space.until("edgedeployment", "front", "Serving", seconds=LONG)
        space.until("edgedeployment", "each", "Serving", seconds=LONG)
        yield space


def patch(space: Workspace, kind: str, name: str, change: Any, how: str = "merge") -> None:
    space.kubectl("patch", kind, name, f"--type={how}", "--patch", json.dumps(change))


def of_deployment(space: Workspace) -> dict[str, Any]:
    spec: dict[str, Any] = space.get("deployment", "front-cpu")["spec"]
    return spec


def test_what_is_added_by_hand_is_taken_away(space: Workspace) -> None:
    port = space.get("service", "front")["spec"]["ports"][0]["port"]
    patch(space, "service", "front", [{"op": "replace", "path": "/spec/ports/0/port", "value": 9999}], "json")
    patch(space, "service", "front", {"spec": {"selector": {"extra": "x"}}})
    patch(space, "deployment", "front-cpu", {"spec": {"paused": True}})

    def ports() -> list[int]:
        return [each["port"] for each in space.get("service", "front")["spec"]["ports"]]

    eventually(lambda: ports() == [port], "the port is the one that the status tells")
    eventually(lambda: "extra" not in space.get("service", "front")["spec"]["selector"], "the selector finds the pods")
    eventually(lambda: not of_deployment(space).get("paused"), "the Deployment goes on")

    sidecar = {"name": "sidecar", "image": "nobody/has:this"}
    patch(space, "deployment", "front-cpu", {"spec": {"template": {"spec": {"containers": [sidecar]}}}}, "strategic")

    def containers() -> list[str]:
        return [each["name"] for each in of_deployment(space)["template"]["spec"]["containers"]]

    eventually(lambda: containers() == ["server"], "the container that nobody asked for is gone")
    space.until("edgedeployment", "front", "Serving", seconds=LONG)
    assert space.ask("front", "good") == (2, models.CLASSES)


def test_what_the_api_server_refuses_is_told_and_what_serves_goes_on(space: Workspace) -> None:
    patch(space, "edgedeployment", "front", {"spec": {"placement": {"nodeSelector": {"bad key!": "x"}}}})
    found = space.until("edgedeployment", "front", "DoesNotFit")
    assert "3 nodes: without label bad key!=x" in condition(found, "Ready")[2]
    patch(space, "edgedeployment", "front", {"spec": {"placement": {"nodeSelector": None}}})
    space.until("edgedeployment", "front", "Serving")

    space.apply(edge_model("refused", optimization={"labels": {"bad key!": "x"}}))
    found = space.until("edgemodel", "refused", "Refused")
    assert "bad key!" in condition(found, "Ready")[2]
    space.kubectl("delete", "edgemodel", "refused")
    assert space.ask("front", "good") == (2, models.CLASSES)


def test_why_no_pod_can_be_made_is_told(space: Workspace) -> None:
    lost = edge_deployment("lost", "good")
    lost["spec"]["placement"]["priorityClassName"] = "nobody-has-it"
    space.apply(lost)

    def told() -> str:
        return condition(space.get("edgedeployment", "lost"), "Ready")[2]

    eventually(lambda: "no PriorityClass with name nobody-has-it was found" in told(), "the missing class is told")
    space.kubectl("delete", "edgedeployment", "lost")


def lonely(cluster: Cluster) -> str:
    """Return a worker that does not keep the registry's volume."""
    pods = cluster.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/component=registry")
    return next(node for node in cluster.nodes[1:] if node != pods[0]["spec"]["nodeName"])


def ready_on(space: Workspace, name: str) -> list[str]:
    found = space.get("edgedeployment", name).get("status", {}).get("placements", [])
    return sorted(node for placement in found for node in placement["nodes"])


def test_a_node_whose_profile_is_deleted_goes_on(space: Workspace) -> None:
    node = space.cluster.nodes[1]
    before = space.get("edgedeployment", "each")["status"]["revision"], ready_on(space, "each")
    pods = {pod["metadata"]["uid"] for pod in space.listed("pods", "skerry.dev/deployment=each")}
    space.cluster.kubectl("delete", "nodeprofile", node)

    def back() -> bool:
        return bool(space.cluster.get("nodeprofile", node)[0].get("status"))

    eventually(back, "the probe tells again", LONG)
    after = space.get("edgedeployment", "each")["status"]["revision"], ready_on(space, "each")
    assert after == before
    assert {pod["metadata"]["uid"] for pod in space.listed("pods", "skerry.dev/deployment=each")} == pods


def test_a_node_that_is_cut_off_is_replaced_and_comes_back(space: Workspace) -> None:
    cluster = space.cluster
    cut = lonely(cluster)
    others = sorted(set(cluster.nodes) - {cut})
    cluster.cut(cut)
    try:
        eventually(lambda: set(ready_on(space, "front")) <= set(others), "no replica is counted on the node", LONG)
        space.until("edgedeployment", "front", "Serving", seconds=LONG)
        assert len(ready_on(space, "front")) > 0
        assert space.ask("front", "good") == (2, models.CLASSES)
    finally:
        cluster.restore(cut)
    eventually(lambda: cut in ready_on(space, "each"), "the one on the node serves again", LONG)
    space.until("edgedeployment", "each", "Serving", seconds=LONG)


def test_a_node_that_joins_gets_one_as_well(space: Workspace) -> None:
    cluster = space.cluster
    node = lonely(cluster)
    cluster.kubectl("delete", "node", node)
    eventually(lambda: node not in ready_on(space, "each"), "the node is gone", LONG)
    space.until("edgedeployment", "each", "Serving", seconds=LONG)

    cluster.engine.run("exec", node, "systemctl", "restart", "kubelet")
    eventually(lambda: node in ready_on(space, "each"), "it serves on the node that joined", LONG)
    space.until("edgedeployment", "each", "Serving", seconds=LONG)
