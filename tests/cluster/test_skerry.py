"""Skerry as its users see it: models optimized, gated, served and asked, on the real cluster."""

import functools
import json
from collections.abc import Iterator

import pytest

from devcluster import Cluster
from tests.support import models
from tests.support.installation import REGISTRY, SYSTEM, condition, eventually, push
from tests.support.workspace import QUICK, Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-test"
SHA = "0" * 64
NEVER = [{"metric": "LatencyP50", "goal": "Threshold", "value": "0.0000001"}]


@pytest.fixture(scope="module")
def space(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """An empty namespace, and models in the registry."""
    work = tmp_path_factory.mktemp("artifacts")
    good = models.classifier(work / "good.onnx")
    truncated = work / "truncated.onnx"
    truncated.write_bytes(good.read_bytes()[:5000])
    lite = work / "model.tflite"
    lite.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    files = {
        "models/good:1": good,
        "models/other:1": models.classifier(work / "other.onnx", seed=2),
        "models/truncated:1": truncated,
        "models/tflite:1": lite,
        "data/good:1": models.samples(work / "data.npz"),
        "data/wrong:1": models.samples(work / "wrong.npz", features=32),
    }
    push(skerry, files, work)
    with workspace(skerry, NAMESPACE) as space:
        yield space


def test_a_model_is_optimized_published_served_and_asked(space: Workspace) -> None:
    space.apply(edge_model("good"), edge_deployment("good", "good", replicas=2))

    model = space.until("edgemodel", "good", "Optimized")
    served = space.until("edgedeployment", "good", "Serving")

    (variant,) = model["status"]["variants"]
    assert "@sha256:" in variant["artifact"]
    assert variant["verdict"] == "Passed"
    assert model["status"]["observedGeneration"] == model["metadata"]["generation"]
    assert model["status"]["model"]["inputs"][0]["name"] == "features"
    assert condition(model, "SourceVerified")[0] == "True"
    job = space.get("optimizationjob", variant["optimizationJobName"])
    assert {item["name"] for item in job["status"]["candidates"]} == {"baseline", "openvino-fp32"}
    assert job["status"]["reportArtifact"].startswith("oci://")
    assert served["status"]["devices"] == "CPU:2"
    assert condition(served, "AccelerationVerified")[0] == "True"
    assert space.ask("good", "good") == (2, models.CLASSES)
    reasons = {event["reason"] for event in space.cluster.get("events", "--namespace", NAMESPACE)}
    assert {"Optimized", "Serving"} <= reasons


CHILDREN = {"deployment": "good-cpu", "service": "good", "pdb": "good"}


def anew(space: Workspace, kind: str, uid: str) -> bool:
    return bool(space.get(kind, CHILDREN[kind])["metadata"]["uid"] != uid)


def test_what_is_deleted_comes_back(space: Workspace) -> None:
    space.until("edgedeployment", "good", "Serving")
    before = {kind: space.get(kind, name)["metadata"]["uid"] for kind, name in CHILDREN.items()}

    for kind, name in CHILDREN.items():
        space.kubectl("delete", kind, name)

    for kind, uid in before.items():
        look = functools.partial(anew, space, kind, uid)
        eventually(look, f"{kind} is back")
    space.until("edgedeployment", "good", "Serving")


def test_a_failed_change_leaves_the_served_variant_alone(space: Workspace) -> None:
    before = space.until("edgemodel", "good", "Optimized")["status"]["variants"][0]["artifact"]

    space.apply(edge_model("good", gates=NEVER))
    failed = space.until("edgemodel", "good", "GatesFailed")

    assert failed["status"]["variants"][0]["artifact"] == before
    message = condition(failed, "Ready")[2]
    assert "LatencyP50" in message
    assert "goes on serving" in message
    assert condition(space.get("edgedeployment", "good"), "Ready")[1] == "Serving"

    space.apply(edge_model("good", gates=NEVER, whenNoneQualifies="ServeBaseline"))
    baseline = space.until("edgemodel", "good", "BaselineOnly")["status"]["variants"][0]["artifact"]
    assert baseline != before

    def follows() -> bool:
        found = space.get("edgedeployment", "good")
        placed = found["status"].get("placements", [{}])
        return condition(found, "Ready")[1] == "Serving" and placed[0].get("artifact") == baseline

    eventually(follows, "the deployment follows the model")


BAD = {
    "tag": (edge_model("tag", f"oci://{REGISTRY}/models/good:none"), "SourceNotFound", "does not exist"),
    "truncated": (edge_model("truncated", f"oci://{REGISTRY}/models/truncated:1"), "BadModel", "truncated.onnx"),
    "tflite": (edge_model("tflite", f"oci://{REGISTRY}/models/tflite:1"), "UnsupportedFormat", "TFLite"),
    "digest": (
        edge_model("digest"),
        "DigestMismatch",
        SHA,
    ),
    "data": (
        edge_model("data", evaluation={"uri": f"oci://{REGISTRY}/data/wrong:1"}),
        "BadData",
        "[N, 64]",
    ),
    "nobody": (edge_model("nobody", accelerators=["intel-npu"]), "WaitingForAccelerator", "intel-npu"),
    "scarce": (
        edge_model("scarce", candidates=[{"framework": "ONNXRuntime", "precision": "FP16", "technique": "Dynamic"}]),
        "BadConfiguration",
        "has no candidate",
    ),
    "plain": (edge_model("plain"), "BadConfiguration", "HTTP is not allowed"),
}
BAD["digest"][0]["spec"]["source"]["sha256"] = SHA
BAD["plain"][0]["spec"]["source"] = {"uri": "http://127.0.0.1/model.onnx", "sha256": SHA}


@pytest.fixture(scope="module")
def bad(space: Workspace) -> Workspace:
    """All bad models at once, so that their Jobs run side by side."""
    space.apply(*(document for document, _, _ in BAD.values()))
    return space


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_the_status(bad: Workspace, name: str) -> None:
    _, reason, words = BAD[name]

    found = bad.until("edgemodel", name, reason)

    status, _, message = condition(found, "Ready")
    assert status == "False"
    assert words in message


def test_a_deployment_waits_for_its_model(space: Workspace) -> None:
    space.apply(edge_deployment("early", "late"))
    found = space.until("edgedeployment", "early", "ModelNotFound")
    assert "no EdgeModel 'late'" in condition(found, "Ready")[2]

    space.apply(edge_model("late"))

    space.until("edgedeployment", "early", "Serving")


def test_a_foreign_object_is_never_taken_over(space: Workspace) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine", "namespace": NAMESPACE},
        "spec": {"ports": [{"port": 1}]},
    }
    space.apply(service)
    space.apply(edge_deployment("mine", "late"))

    found = space.until("edgedeployment", "mine", "NameTaken")

    assert "a Service named mine exists already" in condition(found, "Ready")[2]
    assert space.get("service", "mine")["spec"]["ports"][0]["port"] == 1


def test_deleting_the_parents_removes_all_that_was_made(space: Workspace) -> None:
    space.until("edgedeployment", "early", "Serving")

    space.kubectl("delete", "edgedeployment", "early")
    space.kubectl("delete", "edgemodel", "late")

    kinds = "jobs,pods,secrets,optimizationjobs.skerry.dev"
    eventually(lambda: not space.listed(kinds, "skerry.dev/model=late"), "what was made for the model is gone")
    kinds = "deployments,services,pods"
    eventually(lambda: not space.listed(kinds, "skerry.dev/deployment=early"), "what served is gone")


def test_an_optimization_can_be_suspended_and_resumed(space: Workspace) -> None:
    document = {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "OptimizationJob",
        "metadata": {"name": "by-hand", "namespace": NAMESPACE},
        "spec": {
            "model": {"uri": f"oci://{REGISTRY}/models/good:1"},
            "accelerator": "cpu",
            "gates": [],
            "candidates": QUICK,
            "suspend": True,
        },
    }
    space.apply(document)
    eventually(lambda: condition(space.get("optimizationjob", "by-hand"), "Suspended")[0] == "True", "suspended")
    assert space.get("job", "by-hand")["spec"]["suspend"] is True

    patch = json.dumps({"spec": {"suspend": False}})
    space.kubectl("patch", "optimizationjob", "by-hand", "--type=merge", "--patch", patch)

    eventually(lambda: condition(space.get("optimizationjob", "by-hand"), "Complete")[0] == "True", "complete")


def test_nodes_are_labelled_from_their_profiles(space: Workspace) -> None:
    profiles = {item["metadata"]["name"]: item for item in space.cluster.get("nodeprofiles")}
    for node in space.cluster.get("nodes"):
        profile = profiles[node["metadata"]["name"]]
        assert profile["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        labels = node["metadata"]["labels"]
        assert labels["skerry.dev/accelerator.cpu"] == "true"
        for feature in profile["status"]["cpu"]["features"]:
            assert labels[f"skerry.dev/cpu.{feature}"] == "true"


def test_the_helm_test_passes(space: Workspace) -> None:
    assert "Succeeded" in space.cluster.helm("test", "skerry", "--namespace", SYSTEM, "--timeout", "120s")
