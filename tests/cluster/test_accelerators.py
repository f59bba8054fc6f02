"""Accelerators on the real cluster: boards in the nodes' file systems, real kubelet, scheduler and device plugin.

There is no accelerator in these machines. What a board's kernel would show is a tree of files, its device file is one
of a number that no pod may open unless it was granted (10:229), and the CPU's plugins stand in as executing device.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster
from tests.support import models
from tests.support.board import Board, pci_folder
from tests.support.installation import SYSTEM, Document, condition, eventually, install, push
from tests.support.workspace import QUICK, Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

ROOT = "/opt/skerry-board"
GROUP = 105
LONG = 300
RSS_LIMIT = 40 * 2**20
STAND_IN = "mknod -m 660 {path} c 10 229 && chgrp {group} {path}"


def npu(device: str = "643e") -> Board:
    """Return a board with a neural processor."""
    address = "0000:00:0b.0"
    board = Board().pci(address, f"8086:{device}", "120000", "intel_vpu")
    return board.class_device("accel", "accel0", pci_folder(address), group=GROUP)


def hailo() -> Board:
    """Return a board with a Hailo-8."""
    address = "0001:01:00.0"
    board = Board().pci(address, "1e60:2864", "0b4000", "hailo")
    return board.class_device("hailo_chardev", "hailo0", board_location=address, group=GROUP)


def coral() -> Board:
    """Return a board with a Coral Edge TPU whose driver is missing."""
    return Board().pci("0000:02:00.0", "1ac1:089a", "0880ff")


def entry(name: str, device: str, number: str) -> Document:
    """Return an entry for the neural processor's board that knows it better than the built-in one."""
    driver = {"deviceClass": "accel", "drivers": ["intel_vpu"]}
    return {
        "name": name,
        "description": "A neural processor whose work the CPU does.",
        "match": [{"pci": {"vendor": "8086", "devices": [number]}, "device": driver}],
        "drivers": ["intel_vpu"],
        "files": [{"deviceClass": "accel"}],
        "devices": {"OpenVINO": device},
        "frameworks": [{"name": "OpenVINO", "reason": "a test", "source": "a test"}],
        "candidates": QUICK,
    }


def on(cluster: Cluster, node: str, script: str) -> str:
    return cluster.engine.run("exec", node, "sh", "-c", script)


def plug(cluster: Cluster, node: str, board: Board, folder: Path, *devices: str) -> None:
    """Put a board into a node: the files first, then what makes the probe see them, all at once."""
    root = board.file("sys/board", "").write(folder / f"{node}-{time.monotonic_ns()}")
    on(cluster, node, f"rm -rf {ROOT}.new; mkdir -p {ROOT}.new")
    cluster.engine.run("cp", f"{root}/.", f"{node}:{ROOT}.new")
    for path in devices:
        on(cluster, node, f"mkdir -p {Path(path).parent}; test -e {path} || " + STAND_IN.format(path=path, group=GROUP))
    # The probe's mount stays on the folder: what is in it is exchanged.
    on(cluster, node, f"mkdir -p {ROOT}/sys; rm -rf {ROOT}/sys/*; cp -a {ROOT}.new/sys/. {ROOT}/sys/")


def unplug(cluster: Cluster, node: str, *devices: str) -> None:
    """Take a board's devices away."""
    on(cluster, node, f"rm -rf {ROOT}/sys/* {' '.join(devices)}")


ACCEL = "/dev/accel/accel0"


@pytest.fixture(scope="module")
def space(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Skerry on nodes with three different boards."""
    work = tmp_path_factory.mktemp("boards")
    files = {"models/good:1": models.classifier(work / "good.onnx"), "data/good:1": models.samples(work / "data.npz")}
    push(skerry, files, work)
    control, worker, other = skerry.nodes
    extra = [entry("test-npu", "CPU", "643e"), entry("test-liar", "AUTO", "b03e")]
    values = work / "values.yaml"
    chosen = {"accelerators": {"extra": extra}, "probe": {"hostFolders": {"sys": f"{ROOT}/sys"}}}
    values.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    plug(skerry, worker, npu(), work, ACCEL)
    plug(skerry, other, hailo(), work, "/dev/hailo0")
    plug(skerry, control, coral(), work)
    with workspace(skerry, "skerry-accelerators") as space:
        try:
            install(skerry, "--values", str(values))
            yield space
        finally:
            for node in skerry.nodes:
                unplug(skerry, node, ACCEL, "/dev/hailo0")
            install(skerry)


def accelerators(cluster: Cluster, node: str) -> dict[str, Document]:
    profile = cluster.get("nodeprofile", node)[0]
    return {found["name"]: found for found in profile.get("status", {}).get("accelerators", [])}


def test_each_node_tells_its_accelerators_and_is_labelled(space: Workspace) -> None:
    cluster = space.cluster
    control, worker, other = cluster.nodes
    eventually(lambda: "test-npu" in accelerators(cluster, worker), "the neural processor is told")

    found = accelerators(cluster, worker)["test-npu"]
    assert (found["count"], found["resourceName"], found["offeredBy"]) == (1, "skerry.dev/test-npu", "Skerry")
    (device,) = found["devices"]
    assert (device["id"], device["hardwareId"], device["driver"]) == ("0000:00:0b.0", "8086:643e", "intel_vpu")
    assert device["groups"] == [GROUP]
    assert accelerators(cluster, other)["hailo-8"]["count"] == 1
    (broken,) = accelerators(cluster, control)["coral-pcie"]["devices"]
    assert broken["health"] == "Unhealthy"
    assert "driver" in broken["message"]

    def labels(node: str) -> dict[str, str]:
        found: dict[str, str] = cluster.get("node", node)[0]["metadata"]["labels"]
        return {name: value for name, value in found.items() if name.startswith("skerry.dev/accelerator.")}

    eventually(lambda: labels(worker).get("skerry.dev/accelerator.test-npu.count") == "1", "the node is labelled")
    assert labels(other)["skerry.dev/accelerator.hailo-8"] == "true"
    assert "skerry.dev/accelerator.test-npu" not in labels(other)


def allocatable(cluster: Cluster, node: str) -> int:
    return int(cluster.get("node", node)[0]["status"]["allocatable"].get("skerry.dev/test-npu", "0"))


def pods(space: Workspace, name: str) -> list[Document]:
    found = space.listed("pods", f"skerry.dev/deployment={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def placed(space: Workspace, name: str) -> dict[str, int]:
    status = space.get("edgedeployment", name).get("status", {})
    return {item["accelerator"]: item["readyReplicas"] for item in status.get("placements", [])}


def test_a_replica_gets_the_device_and_nothing_else_does(space: Workspace) -> None:
    cluster = space.cluster
    eventually(lambda: allocatable(cluster, cluster.nodes[1]) == 1, "the kubelet counts the device")
    deployment = edge_deployment("npu", "npu")
    # The CPU does the work of both, so that the objective's figures would be a toss-up.
    deployment["spec"]["placement"]["accelerators"] = ["test-npu", "cpu"]
    space.apply(edge_model("npu", accelerators=["test-npu", "cpu"]), deployment)

    space.until("edgemodel", "npu", "Optimized", seconds=LONG)
    # It may have begun on the CPU, whose variant was there first.
    eventually(lambda: placed(space, "npu") == {"test-npu": 1}, "it runs on the neural processor", LONG)
    served = space.until("edgedeployment", "npu", "Serving")

    assert condition(served, "AccelerationVerified")[0] == "True"
    (pod,) = pods(space, "npu")
    assert pod["spec"]["nodeName"] == cluster.nodes[1]
    assert pod["spec"]["securityContext"]["supplementalGroups"] == [GROUP]
    opened = "open('/dev/accel/accel0', 'r+b', buffering=0); print('opened')"
    python = ("--", "/opt/skerry/bin/python", "-c", opened)
    assert "opened" in cluster.kubectl("exec", "--namespace", space.namespace, pod["metadata"]["name"], *python)
    assert space.ask("npu", "npu") == (2, models.CLASSES)


def scale(space: Workspace, name: str, **placement: Any) -> None:
    patch = json.dumps({"spec": {"placement": placement}})
    space.kubectl("patch", "edgedeployment", name, "--type=merge", "--patch", patch)


def test_with_deny_a_second_replica_waits_and_with_allow_it_runs_on_the_cpu(space: Workspace) -> None:
    scale(space, "npu", replicas=2)
    found = space.until("edgedeployment", "npu", "NoSpareAccelerator")
    assert condition(found, "Ready")[2].startswith("1 of 2 pods serve; 1 of 2 replicas finds no place")
    assert len(pods(space, "npu")) == 1, "nothing is made that cannot run"

    scale(space, "npu", fallback="Allow")
    eventually(lambda: placed(space, "npu") == {"test-npu": 1, "cpu": 1}, "the second one runs on the CPU", LONG)
    space.until("edgedeployment", "npu", "Serving")


def test_a_device_that_is_added_is_used_after_a_while(space: Workspace, tmp_path: Path) -> None:
    plug(space.cluster, space.cluster.nodes[2], npu(), tmp_path, ACCEL)

    eventually(lambda: placed(space, "npu") == {"test-npu": 2}, "both run on a neural processor", LONG)

    assert {pod["spec"]["nodeName"] for pod in pods(space, "npu")} == {*space.cluster.nodes[1:]}


def test_a_device_that_is_gone_moves_its_replica(space: Workspace) -> None:
    cluster = space.cluster
    unplug(cluster, cluster.nodes[2], ACCEL)

    eventually(lambda: "test-npu" not in accelerators(cluster, cluster.nodes[2]), "the probe tells that it is gone", 20)
    eventually(lambda: placed(space, "npu") == {"test-npu": 1, "cpu": 1}, "one runs on the CPU again", LONG)
    space.until("edgedeployment", "npu", "Serving")


def test_a_replica_that_executes_elsewhere_takes_no_traffic(space: Workspace, tmp_path: Path) -> None:
    plug(space.cluster, space.cluster.nodes[2], npu("b03e"), tmp_path, ACCEL)
    space.apply(edge_model("liar", accelerators=["test-liar"]), edge_deployment("liar", "liar"))

    space.until("edgemodel", "liar", "Optimized", seconds=LONG)
    found = space.until("edgedeployment", "liar", "AccelerationNotVerified")

    assert "executes on CPU" in condition(found, "Ready")[2]
    assert condition(found, "AccelerationVerified")[0] == "False"
    endpoints = space.get("endpoints", "liar")
    assert not any(subset.get("addresses") for subset in endpoints.get("subsets") or [])


def test_a_probe_that_serves_devices_is_small(space: Workspace) -> None:
    cluster = space.cluster
    listed = cluster.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/component=probe")
    name = next(pod["metadata"]["name"] for pod in listed if pod["spec"]["nodeName"] == cluster.nodes[1])
    status = cluster.kubectl(
        *("exec", "--namespace", SYSTEM, name, "--", "/opt/skerry/bin/python", "-c"),
        "print(open('/proc/1/status').read())",
    )
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    assert resident <= RSS_LIMIT
