"""Skerry as its users see it: models optimized, gated, served and asked, on the real cluster."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from devcluster import Cluster
from tests.support import models
from tests.support.installation import REGISTRY, SYSTEM, apply, condition, eventually, forwarded, push

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-test"
SHA = "0" * 64
QUICK = [{"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}]
NEVER = [{"metric": "LatencyP50", "goal": "Threshold", "value": "0.0000001"}]


@pytest.fixture(scope="module")
def cluster(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with models in its registry and an empty namespace that admits only restricted pods."""
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
    skerry.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(skerry, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    yield skerry
    skerry.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def edge_model(name: str, source: str = "models/good:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "source": {"uri": f"oci://{REGISTRY}/{source}"},
            "evaluation": {"uri": f"oci://{REGISTRY}/data/good:1"},
            "gates": [],
            "candidates": QUICK,
            **spec,
        },
    }


def edge_deployment(name: str, model: str, replicas: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"modelName": model, "placement": {"replicas": replicas}},
    }


def get(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    return cluster.get(kind, name, "--namespace", NAMESPACE)[0]


def listed(cluster: Cluster, kind: str, selector: str) -> list[dict[str, Any]]:
    return cluster.get(kind, "--namespace", NAMESPACE, "--selector", selector)


def until_reason(cluster: Cluster, kind: str, name: str, reason: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = get(cluster, kind, name)
        return found if condition(found, "Ready")[1] == reason else None

    try:
        found: dict[str, Any] = eventually(look, f"{kind}/{name} is {reason}")
    except pytest.fail.Exception:
        pytest.fail(f"{kind}/{name} is not {reason} but {condition(get(cluster, kind, name), 'Ready')}")
    return found


def test_a_model_is_optimized_published_served_and_asked(cluster: Cluster) -> None:
    apply(cluster, edge_model("good"), edge_deployment("good", "good", replicas=2))

    model = until_reason(cluster, "edgemodel", "good", "Optimized")
    served = until_reason(cluster, "edgedeployment", "good", "Serving")

    (variant,) = model["status"]["variants"]
    assert "@sha256:" in variant["artifact"]
    assert variant["verdict"] == "Passed"
    assert model["status"]["observedGeneration"] == model["metadata"]["generation"]
    assert model["status"]["model"]["inputs"][0]["name"] == "features"
    assert condition(model, "SourceVerified")[0] == "True"
    job = get(cluster, "optimizationjob", variant["optimizationJobName"])
    assert {item["name"] for item in job["status"]["candidates"]} == {"baseline", "openvino-fp32"}
    assert job["status"]["reportArtifact"].startswith("oci://")
    assert served["status"]["devices"] == "CPU:2"
    assert condition(served, "AccelerationVerified")[0] == "True"
    with forwarded(cluster, NAMESPACE, "good", 8080) as port:
        client = triton.InferenceServerClient(f"localhost:{port}")
        tensor = triton.InferInput("features", [2, models.FEATURES], "FP32")
        tensor.set_data_from_numpy(np.ones((2, models.FEATURES), np.float32))
        assert client.infer("good", [tensor]).as_numpy("scores").shape == (2, models.CLASSES)
        client.close()
    reasons = {event["reason"] for event in cluster.get("events", "--namespace", NAMESPACE)}
    assert {"Optimized", "Serving"} <= reasons


def anew(cluster: Cluster, kind: str, uid: str) -> bool:
    return bool(get(cluster, kind, "good")["metadata"]["uid"] != uid)


def test_what_is_deleted_comes_back(cluster: Cluster) -> None:
    until_reason(cluster, "edgedeployment", "good", "Serving")
    before = {kind: get(cluster, kind, "good")["metadata"]["uid"] for kind in ("deployment", "service", "pdb")}

    for kind in before:
        cluster.kubectl("delete", kind, "good", "--namespace", NAMESPACE)

    for kind, uid in before.items():
        look = functools.partial(anew, cluster, kind, uid)
        eventually(look, f"{kind} is back")
    until_reason(cluster, "edgedeployment", "good", "Serving")


def test_the_operator_can_be_killed_at_any_time(cluster: Cluster) -> None:
    apply(cluster, edge_model("killed", source="models/other:1"), edge_deployment("killed", "killed"))
    for _ in range(3):
        operator = cluster.get("pods", "--namespace", SYSTEM, "-l", "app.kubernetes.io/component=operator")
        for pod in operator:
            name = pod["metadata"]["name"]
            cluster.kubectl("delete", "pod", name, "--namespace", SYSTEM, "--grace-period=0", "--force")
        eventually(
            lambda: any(
                condition(pod, "Ready")[0] == "True"
                for pod in cluster.get("pods", "--namespace", SYSTEM, "-l", "app.kubernetes.io/component=operator")
            ),
            "the operator is back",
        )

    until_reason(cluster, "edgemodel", "killed", "Optimized")
    until_reason(cluster, "edgedeployment", "killed", "Serving")
    assert len(listed(cluster, "jobs", "skerry.dev/model=killed")) == 1


def test_a_failed_change_leaves_the_served_variant_alone(cluster: Cluster) -> None:
    before = until_reason(cluster, "edgemodel", "good", "Optimized")["status"]["variants"][0]["artifact"]

    apply(cluster, edge_model("good", gates=NEVER))
    failed = until_reason(cluster, "edgemodel", "good", "GatesFailed")

    assert failed["status"]["variants"][0]["artifact"] == before
    message = condition(failed, "Ready")[2]
    assert "LatencyP50" in message
    assert "goes on serving" in message
    assert condition(get(cluster, "edgedeployment", "good"), "Ready")[1] == "Serving"

    apply(cluster, edge_model("good", gates=NEVER, whenNoneQualifies="ServeBaseline"))
    baseline = until_reason(cluster, "edgemodel", "good", "BaselineOnly")["status"]["variants"][0]["artifact"]
    assert baseline != before

    def follows() -> bool:
        found = get(cluster, "edgedeployment", "good")
        placed = found["status"].get("placements", [{}])
        return condition(found, "Ready")[1] == "Serving" and placed[0].get("artifact") == baseline

    eventually(follows, "the deployment follows the model")


BAD = {
    "tag": (edge_model("tag", source="models/good:none"), "BadModel", "does not exist"),
    "truncated": (edge_model("truncated", source="models/truncated:1"), "BadModel", "truncated.onnx"),
    "tflite": (edge_model("tflite", source="models/tflite:1"), "UnsupportedFormat", "TFLite"),
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
def bad(cluster: Cluster) -> Cluster:
    """All bad models at once, so that their Jobs run side by side."""
    apply(cluster, *(document for document, _, _ in BAD.values()))
    return cluster


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_the_status(bad: Cluster, name: str) -> None:
    _, reason, words = BAD[name]

    found = until_reason(bad, "edgemodel", name, reason)

    status, _, message = condition(found, "Ready")
    assert status == "False"
    assert words in message


def test_a_deployment_waits_for_its_model(cluster: Cluster) -> None:
    apply(cluster, edge_deployment("early", "late"))
    found = until_reason(cluster, "edgedeployment", "early", "ModelNotFound")
    assert "no EdgeModel 'late'" in condition(found, "Ready")[2]

    apply(cluster, edge_model("late"))

    until_reason(cluster, "edgedeployment", "early", "Serving")


def test_a_foreign_object_is_never_taken_over(cluster: Cluster) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine", "namespace": NAMESPACE},
        "spec": {"ports": [{"port": 1}]},
    }
    apply(cluster, service)
    apply(cluster, edge_deployment("mine", "late"))

    found = until_reason(cluster, "edgedeployment", "mine", "NameTaken")

    assert "a Service named mine exists already" in condition(found, "Ready")[2]
    assert get(cluster, "service", "mine")["spec"]["ports"][0]["port"] == 1


def test_deleting_the_parents_removes_all_that_was_made(cluster: Cluster) -> None:
    until_reason(cluster, "edgedeployment", "early", "Serving")

    cluster.kubectl("delete", "edgedeployment", "early", "--namespace", NAMESPACE)
    cluster.kubectl("delete", "edgemodel", "late", "--namespace", NAMESPACE)

    kinds = "jobs,pods,secrets,optimizationjobs.skerry.dev"
    eventually(lambda: not listed(cluster, kinds, "skerry.dev/model=late"), "what was made for the model is gone")
    kinds = "deployments,services,pods"
    eventually(lambda: not listed(cluster, kinds, "skerry.dev/deployment=early"), "what served is gone")


def test_an_optimization_can_be_suspended_and_resumed(cluster: Cluster) -> None:
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
    apply(cluster, document)
    eventually(lambda: condition(get(cluster, "optimizationjob", "by-hand"), "Suspended")[0] == "True", "suspended")
    assert get(cluster, "job", "by-hand")["spec"]["suspend"] is True

    patch = json.dumps({"spec": {"suspend": False}})
    cluster.kubectl("patch", "optimizationjob", "by-hand", "--namespace", NAMESPACE, "--type=merge", "--patch", patch)

    eventually(lambda: condition(get(cluster, "optimizationjob", "by-hand"), "Complete")[0] == "True", "complete")


def test_nodes_are_labelled_from_their_profiles(cluster: Cluster) -> None:
    profiles = {item["metadata"]["name"]: item for item in cluster.get("nodeprofiles")}
    for node in cluster.get("nodes"):
        profile = profiles[node["metadata"]["name"]]
        assert profile["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        labels = node["metadata"]["labels"]
        assert labels["skerry.dev/accelerator.cpu"] == "true"
        for feature in profile["status"]["cpu"]["features"]:
            assert labels[f"skerry.dev/cpu.{feature}"] == "true"


def test_the_helm_test_passes(cluster: Cluster) -> None:
    assert "Succeeded" in cluster.helm("test", "skerry", "--namespace", SYSTEM, "--timeout", "120s")
