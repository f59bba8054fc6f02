"""What the API server accepts and refuses, with the words that a user reads."""

import json
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.errors import CommandError

pytestmark = pytest.mark.apiserver

OCI = "oci://registry.example:5000/models/digits:1.0"
SHA = "0" * 64
COMMIT = "0123456789" * 4
PATCH = ("patch", "optimizationjob", "immutable", "--namespace", "default", "--type=merge", "--patch")


def model(**spec: Any) -> dict[str, Any]:
    return named("EdgeModel", "probe", {"source": {"uri": OCI}, "evaluation": {"uri": OCI}, **spec})


def deployment(**spec: Any) -> dict[str, Any]:
    return named("EdgeDeployment", "probe", {"modelName": "digits", **spec})


def job(**spec: Any) -> dict[str, Any]:
    spec = {"model": {"uri": OCI}, "evaluation": {"uri": OCI}, "accelerator": "cpu", **spec}
    return named("OptimizationJob", "probe", spec)


def named(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "skerry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def source(**fields: Any) -> dict[str, Any]:
    return model(source=fields)


def gate(metric: str, goal: str, value: str) -> dict[str, Any]:
    return model(gates=[{"metric": metric, "goal": goal, "value": value}])


def admitted(cluster: Cluster, document: dict[str, Any]) -> dict[str, Any]:
    """Return the object as the API server would keep it, defaults filled in."""
    words = ("create", "--dry-run=server", "--validate=strict", "--output", "json", "--filename", "-")
    found: dict[str, Any] = json.loads(cluster.kubectl(*words, text=json.dumps(document)))
    return found


VALID = {
    "the least model": model(),
    "a model by digest": source(uri=f"oci://r/m@sha256:{SHA}"),
    "https with digest": source(uri="https://models.example/a/b.onnx", sha256=SHA, format="ONNX"),
    "http with digest": source(uri="http://models.example/b.onnx", sha256=SHA),
    "a file in a bucket": source(uri="s3://models.site-1/a b/ü+%20.onnx", sha256=SHA),
    "a folder of a bucket": source(uri="s3://models/ir/", sha256=SHA),
    "a commit of the hub": source(uri=f"hf://org/name-v1.0@{COMMIT}"),
    "a part of it": source(uri=f"hf://org/name@{COMMIT}/onnx/model.onnx", sha256=SHA, credentialsSecretName="hub"),
    "data of the hub": model(evaluation={"uri": f"hf://datasets/org/name@{COMMIT}/test.npz"}),
    "a claim": source(uri="pvc://models/folder/model.onnx", sha256=SHA),
    "everything": model(
        inputs=[{"name": "image", "shape": [1, 3, 224, 224]}],
        calibration={"uri": OCI, "maxSamples": 10},
        evaluation={"uri": OCI, "metric": "F1"},
        accelerators=["cpu", "intel-npu"],
        gates=[{"metric": "Throughput", "goal": "PercentMinImprovement", "value": "150"}],
        objective="Balanced",
        candidates=[
            {"framework": "OpenVINO", "precision": "INT8", "technique": "PostTraining"},
            {"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining", "options": {"a": "b"}},
        ],
        whenNoneQualifies="ServeBaseline",
        optimization={
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "resources": {"limits": {"memory": "2Gi", "cpu": 1}},
            "activeDeadlineSeconds": 600,
            "labels": {"kueue.x-k8s.io/queue-name": "edge"},
        },
    ),
    "no gates": model(gates=[]),
    "no data": named("EdgeModel", "probe", {"source": {"uri": OCI}, "gates": []}),
    "a negative threshold": gate("Accuracy", "Threshold", "-0.5"),
    "the least deployment": deployment(),
    "a whole deployment": deployment(
        placement={"replicas": 3, "accelerators": ["cpu"], "topologyKey": "topology.kubernetes.io/zone"},
        runtime={"resources": {"limits": {"memory": "256Mi"}}, "env": [{"name": "A", "value": "b"}]},
        service={"type": "NodePort", "port": 80},
    ),
    "requests up to the limits": deployment(
        runtime={"resources": {"requests": {"memory": "1024Mi", "cpu": "0.5"}, "limits": {"memory": "1Gi", "cpu": 1}}}
    ),
    "replicas that may fall back": deployment(
        placement={"mode": "Replicas", "replicas": 0, "accelerators": ["intel-npu", "cpu"], "fallback": "Allow"}
    ),
    "one on each node": deployment(placement={"mode": "PerNode", "fallback": "Deny", "nodeSelector": {"site": "a"}}),
    "a job by hand": job(),
}

INVALID = {
    "unknown scheme": (
        source(uri="ftp://host/file"),
        "the URI scheme must be oci://, https://, http://, s3://, hf:// or pvc://",
    ),
    "s3 without digest": (source(uri="s3://bucket/key"), "sha256 is required"),
    "s3 without a key": (source(uri="s3://bucket", sha256=SHA), "an s3:// URI must look like s3://BUCKET/KEY"),
    "s3 without a bucket": (source(uri="s3:///key", sha256=SHA), "an s3:// URI must look like"),
    "a bucket that cannot be": (source(uri="s3://My_Bucket/key", sha256=SHA), "an s3:// URI must look like"),
    "a key's parent": (source(uri="s3://bucket/a/../b", sha256=SHA), "with no . or .. in it"),
    "a branch of the hub": (source(uri="hf://org/name@main"), "COMMIT is 40 digits and not a branch: `git ls-remote"),
    "no revision of the hub": (
        source(uri="hf://org/name"),
        "an hf:// URI must look like hf://ORGANIZATION/NAME@COMMIT",
    ),
    "half a commit": (source(uri=f"hf://org/name@{COMMIT[:12]}"), "an hf:// URI must look like"),
    "no organization": (source(uri=f"hf://name@{COMMIT}"), "an hf:// URI must look like"),
    "the hub's parent": (source(uri=f"hf://org/name@{COMMIT}/../x"), "an hf:// URI must look like"),
    "data of a branch": (model(evaluation={"uri": "hf://datasets/org/name@main/test.npz"}), "not a branch"),
    "oci without a tag": (source(uri="oci://r/m"), "an oci:// URI must look like oci://REGISTRY[:PORT]/REPOSITORY:TAG"),
    "oci without a repository": (source(uri="oci://r:5000"), "an oci:// URI must look like"),
    "https without digest": (
        source(uri="https://h/f"),
        "sha256 is required for https://, http://, s3:// and pvc:// URIs",
    ),
    "claim without digest": (source(uri="pvc://c/f"), "sha256 is required"),
    "a digest that is none": (source(uri="https://h/f", sha256="abc"), "spec.source.sha256"),
    "a password in the URI": (
        source(uri="https://user:secret@h/f", sha256=SHA),
        "without credentials (use credentialsSecretName)",
    ),
    "a claim's parent": (source(uri="pvc://c/../x", sha256=SHA), "with no .. in the path"),
    "no data, but a gate on accuracy": (
        named("EdgeModel", "probe", {"source": {"uri": OCI}}),
        "a gate on Accuracy needs evaluation data: give evaluation, or set gates without one on Accuracy",
    ),
    "data of an unknown scheme": (model(evaluation={"uri": "file:///x"}), "the URI scheme must be"),
    "no source": (named("EdgeModel", "probe", {}), "spec.source: Required value"),
    "an unknown field": (model(sauce=1), 'unknown field "spec.sauce"'),
    "a format that is none": (source(uri=OCI, format="Onnx"), 'supported values: "Auto", "ONNX", "OpenVINO"'),
    "a gate on nothing": (gate("Speed", "Threshold", "1"), "Unsupported value"),
    "a gate's goal": (gate("Accuracy", "Better", "1"), "Unsupported value"),
    "a number as value": (
        model(gates=[{"metric": "Accuracy", "goal": "Threshold", "value": 5}]),
        "must be of type string",
    ),
    "a word as value": (gate("Accuracy", "Threshold", "five"), "spec.gates[0].value in body should match"),
    "a negative degradation": (gate("Accuracy", "MaxDegradation", "-1"), "value must not be negative for this goal"),
    "a hundred percent less": (
        gate("LatencyP95", "PercentMinImprovement", "100"),
        "PercentMinImprovement of a metric where less is better must be below 100",
    ),
    "two equal gates": (
        model(gates=[{"metric": "Accuracy", "goal": "Threshold", "value": "1"}] * 2),
        "Duplicate value",
    ),
    "two equal accelerators": (model(accelerators=["cpu", "cpu"]), "Duplicate value"),
    "an accelerator's name": (model(accelerators=["CPU!"]), "spec.accelerators[0] in body should match"),
    "a shape of nothing": (model(inputs=[{"name": "x", "shape": [0]}]), "greater than or equal to 1"),
    "a minute's deadline at least": (model(optimization={"activeDeadlineSeconds": 5}), "greater than or equal to 60"),
    "a name with dots": (named("EdgeModel", "a.b", {"source": {"uri": OCI}}), "metadata.name must not contain dots"),
    "a name that is too long": (
        named("EdgeModel", "a" * 53, {"source": {"uri": OCI}}),
        "metadata.name must be at most 52 characters",
    ),
    "a deployment of nothing": (named("EdgeDeployment", "probe", {}), "spec.modelName: Required value"),
    "less than no replicas": (deployment(placement={"replicas": -1}), "greater than or equal to 0"),
    "a mode of placement": (
        deployment(placement={"mode": "DaemonSet"}),
        'spec.placement.mode: Unsupported value: "DaemonSet"',
    ),
    "a fallback that is none": (
        deployment(placement={"fallback": "Maybe"}),
        'spec.placement.fallback: Unsupported value: "Maybe"',
    ),
    "replicas on each node": (
        deployment(placement={"mode": "PerNode", "replicas": 2}),
        "replicas has no meaning with mode PerNode",
    ),
    "a spread of what is everywhere": (
        deployment(placement={"mode": "PerNode", "topologyKey": "topology.kubernetes.io/zone"}),
        "topologyKey has no meaning with mode PerNode",
    ),
    "two equal preferences": (deployment(placement={"accelerators": ["cpu", "cpu"]}), "Duplicate value"),
    "a service type": (deployment(service={"type": "ExternalName"}), "Unsupported value"),
    "a request above its limit": (
        deployment(runtime={"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500Mi"}}}),
        "a request is larger than the limit of the same resource",
    ),
    "less than no memory": (
        model(optimization={"resources": {"limits": {"memory": "-1Gi"}}}),
        "spec.optimization.resources.limits.memory in body should match",
    ),
    "less than no cores": (
        model(optimization={"resources": {"limits": {"cpu": -1}}}),
        "should be greater than or equal to 0",
    ),
    "a toleration of every value of one": (
        deployment(placement={"tolerations": [{"key": "k", "operator": "Exists", "value": "x"}]}),
        "value has no meaning with operator Exists",
    ),
    "a toleration of everything, by chance": (
        deployment(placement={"tolerations": [{"effect": "NoSchedule"}]}),
        "a toleration without key tolerates every taint and needs operator Exists",
    ),
    "a toleration for some time": (
        deployment(placement={"tolerations": [{"key": "k", "effect": "NoSchedule", "tolerationSeconds": 5}]}),
        "tolerationSeconds has a meaning with effect NoExecute only",
    ),
    "a label's value": (
        model(optimization={"labels": {"a": "bad value!"}}),
        "spec.optimization.labels.a in body should match",
    ),
    "an environment name": (deployment(runtime={"env": [{"name": "1A"}]}), "spec.runtime.env[0].name in body"),
    "a job without accelerator": (
        named("OptimizationJob", "probe", {"model": {"uri": OCI}}),
        "spec.accelerator: Required value",
    ),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_objects_are_admitted(skerry: Cluster, name: str) -> None:
    admitted(skerry, VALID[name])


@pytest.mark.parametrize("name", INVALID)
def test_invalid_objects_are_refused_with_a_message_that_helps(skerry: Cluster, name: str) -> None:
    document, message = INVALID[name]
    with pytest.raises(CommandError) as refused:
        admitted(skerry, document)
    assert message in refused.value.output


def test_defaults_are_shown(skerry: Cluster) -> None:
    found = admitted(skerry, model())["spec"]

    assert found["objective"] == "LatencyP95"
    assert found["whenNoneQualifies"] == "Fail"
    assert found["optimization"] == {"activeDeadlineSeconds": 3600}
    assert [(gate["metric"], gate["goal"], gate["value"]) for gate in found["gates"]] == [
        ("Accuracy", "PercentMaxDegradation", "5"),
        ("LatencyP95", "PercentMinImprovement", "50"),
        ("ModelMemory", "PercentMinImprovement", "50"),
    ]
    placed = admitted(skerry, deployment())["spec"]
    assert placed["placement"] == {"mode": "Replicas", "replicas": 1, "fallback": "Deny"}
    assert placed["service"] == {"type": "ClusterIP", "port": 8080}


@pytest.fixture
def waiting_job(skerry: Cluster) -> Any:
    """An OptimizationJob for an accelerator that nobody has, so that nothing runs."""
    document = job(accelerator="none-such")
    document["metadata"]["name"] = "immutable"
    skerry.kubectl("apply", "--filename", "-", text=json.dumps(document))
    yield document
    skerry.kubectl("delete", "optimizationjob", "immutable", "--namespace", "default")


@pytest.mark.parametrize("change", [{"accelerator": "cpu"}, {"objective": "Accuracy"}, {"gates": []}])
@pytest.mark.usefixtures("waiting_job")
def test_an_optimization_job_is_immutable(skerry: Cluster, change: dict[str, Any]) -> None:
    patch = json.dumps({"spec": change})
    with pytest.raises(CommandError) as refused:
        skerry.kubectl(*PATCH, patch)
    assert "spec is immutable, except suspend: create a new OptimizationJob instead" in refused.value.output


@pytest.mark.usefixtures("waiting_job")
def test_an_optimization_job_can_be_suspended(skerry: Cluster) -> None:
    patch = json.dumps({"spec": {"suspend": True}})
    skerry.kubectl(*PATCH, patch)


def test_the_scale_subresource_sets_replicas(skerry: Cluster) -> None:
    document = deployment(modelName="none-such")
    document["metadata"]["name"] = "scaled"
    skerry.kubectl("apply", "--filename", "-", text=json.dumps(document))
    try:
        skerry.kubectl("scale", "edgedeployment", "scaled", "--namespace", "default", "--replicas=4")
        found = skerry.get("edgedeployment", "scaled", "--namespace", "default")[0]
        assert found["spec"]["placement"]["replicas"] == 4
    finally:
        skerry.kubectl("delete", "edgedeployment", "scaled", "--namespace", "default")
