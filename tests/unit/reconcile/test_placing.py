"""Where replicas go when devices come, go and are taken, against a fake API server."""

import dataclasses
import json
from typing import Any

import pytest

from skerry.accelerators.catalogue import catalogue, checked
from skerry.api.reasons import ConditionType
from skerry.kube.resources import CLAIM_TEMPLATES, DAEMON_SETS, DEPLOYMENTS, EDGE_DEPLOYMENTS, NODES, PODS
from skerry.reconcile import deployments, nodes
from skerry.reconcile.base import Context, Key
from skerry.reconcile.placing import DELETION_COST
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.conftest import Clock, node, skerry_object

NPU = "skerry.dev/test-npu"
ENTRY = {
    "name": "test-npu",
    "description": "A stand-in.",
    "match": [{"pci": {"vendor": "1234"}}],
    "pod": {"runtimeClassName": "npu", "supplementalGroups": [44], "env": {"NPU": "1"}},
    "deviceClasses": ["npu.example.com"],
    "devices": {"OpenVINO": "NPU"},
    "frameworks": [{"name": "OpenVINO", "reason": "a test", "source": "a test"}],
}


def profile(name: str, devices: int, total: int | None = None) -> dict[str, Any]:
    found: list[dict[str, Any]] = [{"name": "cpu", "count": 1}]
    if total or devices:
        states = ["Healthy"] * devices + ["Unhealthy"] * ((total or devices) - devices)
        listed = [{"id": f"npu{number}", "health": health} for number, health in enumerate(states)]
        found.append(
            {"name": "test-npu", "count": devices, "resourceName": NPU, "offeredBy": "Skerry", "devices": listed}
        )
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "NodeProfile",
        "metadata": {"name": name},
        "status": {
            "probeVersion": "1",
            "observedAt": "2026-11-21T00:00:00Z",
            "machine": {"architecture": "amd64"},
            "cpu": {"cores": 4, "features": ["avx2"]},
            "memoryBytes": 16 << 30,
            "accelerators": found,
        },
    }


def artifact(accelerator: str) -> str:
    return f"oci://localhost:30500/models/vision/digits-{accelerator}@sha256:" + "1" * 64


class Site:
    """A cluster of nodes with and without NPUs, whose own controllers the test plays."""

    def __init__(self, gateway: FakeGateway, context: Context, clock: Clock) -> None:
        self.gateway, self.context, self.clock = gateway, context, clock
        variants = [
            {"accelerator": name, "optimizationJobName": f"digits-{name}", "artifact": artifact(name)}
            for name in ("test-npu", "cpu")
        ]
        gateway.put(
            skerry_object("EdgeModel", "digits", {"source": {"uri": "oci://r/m:1"}}, status={"variants": variants})
        )

    def node(self, name: str, devices: int = 0, *, total: int | None = None) -> None:
        offered = {NPU: str(devices)} if total or devices else {}
        self.gateway.put(node(name, **offered))
        self.gateway.put(profile(name, devices, total))

    async def deploy(self, **placement: Any) -> None:
        if placement:
            made = skerry_object("EdgeDeployment", "front", {"modelName": "digits", "placement": placement})
            made["metadata"]["uid"] = "the-same"
            before = await self.gateway.get(EDGE_DEPLOYMENTS, "vision", "front")
            self.gateway.put(made if before is None else {**before, "spec": made["spec"]})
        self.clock.advance(5)
        await deployments.reconcile(self.context, Key("EdgeDeployment", "vision", "front"))

    def serve(self, accelerator: str, *names: str, device: str | None = None, daemons: bool = False) -> None:
        """Have pods of a group run on these nodes."""
        name = f"front-{accelerator}"
        workload = self.gateway.one(DAEMON_SETS if daemons else DEPLOYMENTS, "vision", name)
        generation = workload["metadata"]["generation"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), workload["spec"].get("replicas"))
        counts |= dict.fromkeys(("desiredNumberScheduled", "updatedNumberScheduled", "numberReady"), len(names))
        self.gateway.put({**workload, "status": {"observedGeneration": generation, **counts}})
        template = workload["spec"]["template"]
        expected = "CPU" if accelerator == "cpu" else "NPU"
        for number, where in enumerate(names):
            owner = {"kind": "DaemonSet" if daemons else "ReplicaSet", "name": name, "uid": "o"}
            metadata = {"name": f"{name}-{number}", "namespace": "vision", **template["metadata"]}
            metadata["ownerReferences"] = [owner]
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            spec = {**template["spec"], "nodeName": where}
            self.gateway.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
            facts = {"skerry": {"executionDevice": device or expected, "expectedDevice": expected}}
            self.gateway.answers[metadata["name"]] = json.dumps(facts).encode()

    def replicas(self) -> dict[str, int]:
        return {
            name.removeprefix("front-"): found["spec"]["replicas"]
            for (plural, _, name), found in self.gateway.objects.items()
            if plural == "deployments"
        }

    def ready(self) -> tuple[str, str, str]:
        conditions = self.gateway.one(EDGE_DEPLOYMENTS, "vision", "front")["status"]["conditions"]
        found = next(item for item in conditions if item["type"] == ConditionType.READY)
        return found["status"], found["reason"], found["message"]


@pytest.fixture
def site(gateway: FakeGateway, context: Context, clock: Clock) -> Site:
    known = {**catalogue(), **checked([ENTRY])}
    return Site(gateway, dataclasses.replace(context, catalogue=known), clock)


async def test_a_pod_asks_for_the_device_and_gets_what_it_needs(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1)

    made = site.gateway.one(DEPLOYMENTS, "vision", "front-test-npu")["spec"]["template"]
    pod, (container,) = made["spec"], made["spec"]["containers"]
    assert made["metadata"]["annotations"]["skerry.dev/artifact"] == artifact("test-npu")
    assert container["resources"]["limits"][NPU] == container["resources"]["requests"][NPU] == "1"
    assert {"name": "NPU", "value": "1"} in container["env"]
    assert container["args"][-2:] == ["--fallback", "Deny"]
    assert pod["runtimeClassName"] == "npu"
    assert pod["securityContext"]["supplementalGroups"] == [44]
    assert pod["nodeSelector"]["skerry.dev/accelerator.test-npu"] == "true"


async def test_where_the_vendor_has_a_dra_driver_the_device_is_claimed(site: Site) -> None:
    dra = {"apiVersion": "resource.k8s.io/v1"}
    pool = {"name": "one", "generation": 1, "resourceSliceCount": 1}
    devices = {"driver": "npu.example.com", "nodeName": "one", "pool": pool, "devices": [{"name": "a"}]}
    site.gateway.put({**dra, "kind": "DeviceClass", "metadata": {"name": "npu.example.com"}})
    site.gateway.put({**dra, "kind": "ResourceSlice", "metadata": {"name": "one"}, "spec": devices})
    site.node("one", 1)
    await site.deploy(replicas=2)

    template = site.gateway.one(CLAIM_TEMPLATES, "vision", "front-npu.example.com")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "npu.example.com"
    made = site.gateway.one(DEPLOYMENTS, "vision", "front-test-npu-claim")
    assert made["spec"]["replicas"] == 1, "there is one device"
    pod = made["spec"]["template"]["spec"]
    assert pod["resourceClaims"][0]["resourceClaimTemplateName"] == "front-npu.example.com"
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "device"}]
    assert NPU not in pod["containers"][0]["resources"]["limits"]

    site.serve("test-npu-claim", "one")
    allocated = {"driver": "npu.example.com", "pool": "one", "device": "a", "request": "device"}
    claim = {**dra, "kind": "ResourceClaim", "metadata": {"name": "front-1", "namespace": "vision"}}
    site.gateway.put({**claim, "status": {"allocation": {"devices": {"results": [allocated]}}}})
    await site.deploy()
    assert site.replicas() == {"test-npu-claim": 1}, "its own claim does not drive it away"


async def test_with_deny_replicas_wait_for_a_device_and_nothing_is_made_that_cannot_run(site: Site) -> None:
    site.node("one", 1)
    site.node("two")
    await site.deploy(replicas=3)
    site.serve("test-npu", "one")
    await site.deploy()

    assert site.replicas() == {"test-npu": 1}
    status, reason, message = site.ready()
    assert (status, reason) == ("False", "NoSpareAccelerator")
    assert message.startswith("1 of 3 pods serve; 2 of 3 replicas find no place")
    assert site.gateway.one(EDGE_DEPLOYMENTS, "vision", "front")["status"]["waitingReplicas"] == 2


async def test_with_allow_the_others_run_on_the_cpu(site: Site) -> None:
    site.node("one", 1)
    site.node("two")
    await site.deploy(replicas=3, fallback="Allow")
    site.serve("test-npu", "one")
    site.serve("cpu", "two", "one")
    await site.deploy()

    assert site.replicas() == {"test-npu": 1, "cpu": 2}
    assert site.ready()[:2] == ("True", "Serving")
    status = site.gateway.one(EDGE_DEPLOYMENTS, "vision", "front")["status"]
    assert status["devices"] == "CPU:2 NPU:1"
    assert {item["accelerator"]: item["nodes"] for item in status["placements"]} == {
        "cpu": ["one", "two"],
        "test-npu": ["one"],
    }


async def test_a_device_that_disappears_moves_its_replica(site: Site) -> None:
    site.node("one", 1)
    site.node("two", 1)
    await site.deploy(replicas=1)
    site.serve("test-npu", "one")
    await site.deploy()
    site.node("one", 0, total=1)

    await site.deploy()

    assert await site.gateway.get(PODS, "vision", "front-test-npu-0") is None, "its pod goes, and a new one is placed"
    assert site.replicas() == {"test-npu": 1}


async def test_what_serves_stays_until_its_better_replacement_is_ready(site: Site) -> None:
    site.node("one")
    await site.deploy(replicas=1, fallback="Allow")
    site.serve("cpu", "one")
    await site.deploy()
    site.node("two", 1)
    await site.deploy()
    assert site.replicas() == {"cpu": 1}, "not before it has been free for a while"
    site.clock.advance(120)

    await site.deploy()
    assert site.replicas() == {"cpu": 1, "test-npu": 1}
    pod = site.gateway.one(PODS, "vision", "front-cpu-0")
    assert pod["metadata"]["annotations"][DELETION_COST] == "-100"

    site.serve("test-npu", "two")
    await site.deploy()
    assert site.replicas() == {"test-npu": 1}


async def test_pods_that_the_kubelet_rejected_are_removed_and_told(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1)
    site.serve("test-npu", "one")
    rejected = site.gateway.one(PODS, "vision", "front-test-npu-0")
    message = "Allocate failed due to no healthy devices present"
    rejected["status"] = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message}
    site.gateway.put(rejected)

    await site.deploy()

    assert await site.gateway.get(PODS, "vision", "front-test-npu-0") is None
    assert ("Pod/front-test-npu-0", "Warning PodReplaced") in site.gateway.events


async def test_every_node_runs_one_where_that_is_wanted(site: Site) -> None:
    site.node("one", 1)
    site.node("two", 1)
    await site.deploy(mode="PerNode")

    made = site.gateway.one(DAEMON_SETS, "vision", "front-test-npu")
    (mark,) = marks(site, "one").items()
    assert (mark, mark) == (*marks(site, "two").items(), (mark[0], "test-npu"))
    assert mark in made["spec"]["template"]["spec"]["nodeSelector"].items()
    assert "replicas" not in made["spec"]
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert site.replicas() == {}


def marks(site: Site, name: str) -> dict[str, str]:
    found = site.gateway.one(NODES, None, name)["metadata"]["labels"]
    return {label: value for label, value in found.items() if label.startswith("skerry.dev/runs.")}


async def test_on_each_node_the_pods_are_where_the_plan_has_them(site: Site) -> None:
    site.node("one", 1)
    site.node("two")
    await site.deploy(mode="PerNode")
    assert [*marks(site, "one").values(), *marks(site, "two").values()] == ["test-npu", "cpu"]
    for accelerator in ("test-npu", "cpu"):
        pod = site.gateway.one(DAEMON_SETS, "vision", f"front-{accelerator}")["spec"]["template"]["spec"]
        assert accelerator in {pod["nodeSelector"][label] for label in marks(site, "one")}

    site.serve("test-npu", "one", daemons=True)
    site.serve("cpu", "two", daemons=True)
    site.node("two", 1)
    await site.deploy()
    assert list(marks(site, "two").values()) == ["cpu"], "not before it has been free for a while"
    site.clock.advance(120)
    await site.deploy()
    assert list(marks(site, "two").values()) == ["test-npu"]

    await site.gateway.delete(EDGE_DEPLOYMENTS, site.gateway.one(EDGE_DEPLOYMENTS, "vision", "front"))
    for name in ("one", "two"):
        await nodes.reconcile(site.context, Key("NodeProfile", None, name))
        assert marks(site, name) == {}


async def test_what_serves_stays_while_the_mode_changes(site: Site) -> None:
    site.node("one")
    site.node("two")
    await site.deploy(replicas=2)
    site.serve("cpu", "one", "two")
    await site.deploy()

    await site.deploy(mode="PerNode")
    assert site.replicas() == {"cpu": 2}, "none of the new ones is ready"
    assert site.ready()[1] == "RollingOut"

    site.serve("cpu", "one", "two", daemons=True)
    await site.deploy()
    assert site.replicas() == {}


async def test_groups_of_device_files_are_those_of_the_nodes_in_use_and_are_not_lost(site: Site) -> None:
    def grouped(name: str, *groups: int) -> None:
        site.node(name, 1)
        made = profile(name, 1)
        made["status"]["accelerators"][1]["devices"][0]["groups"] = [*groups]
        site.gateway.put(made)

    async def groups() -> list[int]:
        await site.deploy()
        pod = site.gateway.one(DEPLOYMENTS, "vision", "front-test-npu")["spec"]["template"]["spec"]
        found: list[int] = pod["securityContext"]["supplementalGroups"]
        return found

    grouped("one", 105, 0)
    await site.deploy(replicas=1)
    site.serve("test-npu", "one")
    assert await groups() == [44, 105], "never root's"
    grouped("two", 993)
    assert await groups() == [44, 105], "nobody is there"
    grouped("one", 108)
    assert await groups() == [44, 105, 108]


async def test_why_no_pod_can_be_made_is_told(site: Site) -> None:
    site.node("one")
    await site.deploy(replicas=1, accelerators=["cpu"])
    made = site.gateway.one(DEPLOYMENTS, "vision", "front-cpu")
    quota = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods=0"}
    site.gateway.put({**made, "status": {"conditions": [quota]}})
    await site.deploy()
    assert site.ready()[1:] == ("WaitingForPods", "no pod is ready yet. no pod can be made: exceeded quota: pods=0")


async def test_with_allow_another_device_is_told_and_still_serves(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1, fallback="Allow")
    site.serve("test-npu", "one", device="CPU")
    await site.deploy()
    assert site.ready()[:2] == ("True", "Serving")
    conditions = site.gateway.one(EDGE_DEPLOYMENTS, "vision", "front")["status"]["conditions"]
    (verified,) = (item for item in conditions if item["type"] == "AccelerationVerified")
    assert (verified["status"], verified["reason"]) == ("False", "AccelerationNotVerified")


async def test_another_device_than_planned_is_told(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1)
    site.serve("test-npu", "one", device="CPU")

    await site.deploy()

    status, reason, message = site.ready()
    assert (status, reason) == ("False", "AccelerationNotVerified")
    assert "front-test-npu-0 executes on CPU" in message


async def test_while_nothing_fits_any_more_what_serves_stays(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1)
    site.serve("test-npu", "one")
    await site.deploy(replicas=1, nodeSelector={"nobody": "has"})

    assert site.replicas() == {"test-npu": 1}
    assert site.ready()[:2] == ("False", "DoesNotFit")


async def test_a_pod_that_is_ending_keeps_its_device_for_the_one_that_follows(site: Site) -> None:
    site.node("one", 1)
    await site.deploy(replicas=1, fallback="Allow")
    site.serve("test-npu", "one")
    ending = site.gateway.one(PODS, "vision", "front-test-npu-0")
    ending["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    site.gateway.put(ending)

    await site.deploy()

    assert site.replicas() == {"test-npu": 1}
