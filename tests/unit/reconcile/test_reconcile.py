"""What the reconcilers do to the cluster, step by step, against a fake API server."""

import dataclasses
import json
from typing import Any

import pytest

from skerry.api.jobcontract import ChosenVariant, JobResult, Progress, Stage
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Framework, Precision, Requirements, Technique
from skerry.kube.errors import UnavailableError
from skerry.kube.resources import (
    BUDGETS,
    DEPLOYMENTS,
    EDGE_DEPLOYMENTS,
    EDGE_MODELS,
    JOBS,
    NODE_PROFILES,
    NODES,
    OPTIMIZATION_JOBS,
    PODS,
    SECRETS,
    SERVICES,
)
from skerry.reconcile import deployments, models, nodes, optimizations
from skerry.reconcile.base import Context, Key, present
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.conftest import Clock

SOURCE = {"uri": "oci://r/m:1"}
ARTIFACT = "oci://localhost:30500/models/vision/digits@sha256:" + "1" * 64


def skerry_object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "vision"}
    return {"apiVersion": "skerry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def condition(document: dict[str, Any], kind: str) -> tuple[str, str]:
    found = next(item for item in document["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def result() -> JobResult:
    chosen = ChosenVariant(
        name="openvino-int8-ptq",
        framework=Framework.OPENVINO,
        precision=Precision.INT8,
        technique=Technique.POST_TRAINING,
        size_bytes=10,
        requires=Requirements(architecture="amd64", cpu_features=["avx512_vnni"]),
    )
    return JobResult(reason=JobReason.SUCCEEDED, message="2x", source_sha256="a" * 64, artifact=ARTIFACT, chosen=chosen)


class Cluster:
    """Plays the part of Kubernetes' own controllers."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway

    def pod_of(self, name: str, code: int | None, message: str = "") -> None:
        job = self.gateway.one(JOBS, "vision", name)
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code, "message": message}}
        owner = {"uid": job["metadata"]["uid"], "controller": True}
        labels = {"batch.kubernetes.io/job-name": name}
        metadata = {"name": f"{name}-x", "namespace": "vision", "labels": labels, "ownerReferences": [owner]}
        status = {"phase": "Running", "containerStatuses": [{"state": state}]}
        spec: dict[str, Any] = {"containers": []}
        self.gateway.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})

    def end(self, name: str, kind: str, reason: str = "", started: str = "2026-11-21T11:59:00Z") -> None:
        job = self.gateway.one(JOBS, "vision", name)
        ended = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2026-11-21T12:00:00Z"}
        self.gateway.put({**job, "status": {"conditions": [ended], "startTime": started}})

    def serve(self, name: str, *, device: str = "CPU", node: str = "node-1") -> None:
        """Have the pods of a Deployment run on a node."""
        deployment = self.gateway.one(DEPLOYMENTS, "vision", name)
        template, replicas = deployment["spec"]["template"], deployment["spec"]["replicas"]
        generation = deployment["metadata"]["generation"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), replicas)
        self.gateway.put({**deployment, "status": {"observedGeneration": generation, **counts}})
        for number in range(replicas):
            metadata = {"name": f"{name}-{number}", "namespace": "vision", **template["metadata"]}
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            spec = {**template["spec"], "nodeName": node}
            self.gateway.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
            facts = {"skerry": {"executionDevice": device, "expectedDevice": "CPU"}}
            self.gateway.answers[f"{name}-{number}"] = json.dumps(facts).encode()


@pytest.fixture
def kubernetes(gateway: FakeGateway) -> Cluster:
    return Cluster(gateway)


@pytest.fixture
async def job_name(gateway: FakeGateway, context: Context, profile: dict[str, Any]) -> str:
    """An EdgeModel whose batch Job was made; the name of the OptimizationJob and of the Job."""
    del profile
    gateway.put(skerry_object("EdgeModel", "digits", {"source": SOURCE}))
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    (name,) = [name for (plural, _, name) in gateway.objects if plural == OPTIMIZATION_JOBS.plural]
    await optimizations.reconcile(context, Key("OptimizationJob", "vision", name))
    return name


async def look(context: Context, name: str) -> float | None:
    return await optimizations.reconcile(context, Key("OptimizationJob", "vision", name))


async def test_a_model_becomes_a_job_with_credentials_and_no_token(gateway: FakeGateway, job_name: str) -> None:
    job = gateway.one(JOBS, "vision", job_name)
    optimization = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    secret = gateway.one(SECRETS, "vision", f"{job_name}-push")

    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert job["metadata"]["ownerReferences"][0]["uid"] == optimization["metadata"]["uid"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == optimization["metadata"]["uid"]
    assert "suspend" not in optimization["spec"]
    assert condition(gateway.one(EDGE_MODELS, "vision", "digits"), "Ready") == ("False", "Optimizing")


async def test_looking_again_writes_nothing(gateway: FakeGateway, context: Context, job_name: str) -> None:
    await look(context, job_name)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    gateway.writes.clear()

    await look(context, job_name)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))

    assert gateway.writes == []


async def test_progress_and_result_reach_job_and_model(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    candidate = CandidateResult(
        name="openvino-int8-ptq",
        framework=Framework.OPENVINO,
        precision=Precision.INT8,
        technique=Technique.POST_TRAINING,
    )
    kubernetes.pod_of(job_name, None)
    gateway.logs[f"{job_name}-x"] = Progress(stage=Stage.MEASURING, percent=50, candidate="c", result=candidate).line()
    assert await look(context, job_name) is not None
    status = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)["status"]
    assert (status["stage"], status["progressPercent"]) == ("Measuring", 50)

    kubernetes.pod_of(job_name, 0, result().termination_message())
    kubernetes.end(job_name, "Complete")
    assert await look(context, job_name) is None
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))

    document = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert condition(document, "Complete") == ("True", "Succeeded")
    assert document["status"]["completionTime"] == "2026-11-21T12:00:00Z"
    model = gateway.one(EDGE_MODELS, "vision", "digits")
    assert condition(model, "Ready") == ("True", "Optimized")
    assert model["status"]["variants"][0]["artifact"] == ARTIFACT
    assert ("EdgeModel/digits", "Normal Optimized") in gateway.events


async def test_a_finished_job_is_final_even_when_its_job_is_deleted(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    kubernetes.pod_of(job_name, 65, JobResult(reason=JobReason.BAD_DATA, message="x").termination_message())
    kubernetes.end(job_name, "Failed", "PodFailurePolicy")
    await look(context, job_name)
    await gateway.delete(JOBS, gateway.one(JOBS, "vision", job_name))

    await look(context, job_name)

    assert await gateway.get(JOBS, "vision", job_name) is None
    assert condition(gateway.one(OPTIMIZATION_JOBS, "vision", job_name), "Complete") == ("False", "BadData")


async def fail(context: Context, kubernetes: Cluster, name: str, code: int, reason: JobReason) -> None:
    """Have a batch Job end, and both reconcilers see it."""
    kubernetes.pod_of(name, code, JobResult(reason=reason, message="told").termination_message())
    kubernetes.end(name, "Failed", "PodFailurePolicy")
    await look(context, name)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))


async def test_a_failed_job_that_a_user_deletes_is_made_anew(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    await fail(context, kubernetes, job_name, 65, JobReason.BAD_DATA)
    failed = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    old = gateway.one(JOBS, "vision", job_name)
    told = gateway.one(EDGE_MODELS, "vision", "digits")["status"]["conditions"][0]["message"]
    assert f"kubectl delete optimizationjob {job_name} --namespace vision" in told

    await gateway.delete(OPTIMIZATION_JOBS, failed)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    wait = await look(context, job_name)

    made = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert made["metadata"]["uid"] != failed["metadata"]["uid"]
    assert condition(gateway.one(EDGE_MODELS, "vision", "digits"), "Ready") == ("False", "Optimizing")
    assert (wait, gateway.one(JOBS, "vision", job_name)) == (1.0, old), "the garbage collector has not come yet"
    assert "status" not in made, "and nobody is told that a foreign Job were in the way"

    await gateway.delete(JOBS, old)
    await look(context, job_name)
    owner = gateway.one(JOBS, "vision", job_name)["metadata"]["ownerReferences"][0]
    assert owner["uid"] == made["metadata"]["uid"]


async def test_a_failed_job_is_made_anew_with_the_limits_that_the_model_has_now(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    await fail(context, kubernetes, job_name, 65, JobReason.OUT_OF_MEMORY)
    failed = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    key = Key("EdgeModel", "vision", "digits")
    assert await models.reconcile(context, key) is None
    assert gateway.one(OPTIMIZATION_JOBS, "vision", job_name) == failed

    limits = {"resources": {"limits": {"memory": "16Gi"}}}
    gateway.put({**gateway.one(EDGE_MODELS, "vision", "digits"), "spec": {"source": SOURCE, "optimization": limits}})
    assert await models.reconcile(context, key) is not None
    assert await gateway.get(OPTIMIZATION_JOBS, "vision", job_name) is None
    assert await models.reconcile(context, key) is None

    made = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert made["spec"]["optimization"]["resources"] == limits["resources"]
    assert made["metadata"]["uid"] != failed["metadata"]["uid"]


async def test_a_change_of_limits_leaves_what_has_succeeded(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    kubernetes.pod_of(job_name, 0, result().termination_message())
    kubernetes.end(job_name, "Complete")
    await look(context, job_name)
    before = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    changed = {"source": SOURCE, "optimization": {"activeDeadlineSeconds": 7200}}
    gateway.put({**gateway.one(EDGE_MODELS, "vision", "digits"), "spec": changed})

    assert await models.reconcile(context, Key("EdgeModel", "vision", "digits")) is None

    assert gateway.one(OPTIMIZATION_JOBS, "vision", job_name) == before
    assert condition(gateway.one(EDGE_MODELS, "vision", "digits"), "Ready") == ("True", "Optimized")


async def test_a_running_optimization_outlives_a_moment_without_profiles(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str, profile: dict[str, Any], clock: Clock
) -> None:
    kubernetes.pod_of(job_name, None)
    await look(context, job_name)
    running = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    await gateway.delete(NODE_PROFILES, profile)
    clock.advance(200)

    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))

    assert gateway.one(OPTIMIZATION_JOBS, "vision", job_name) == running
    model = gateway.one(EDGE_MODELS, "vision", "digits")
    assert condition(model, "Ready") == ("False", "WaitingForAccelerator")
    assert model["status"]["variants"][0]["reason"] == "WaitingForAccelerator"


async def test_a_job_that_filled_the_disk_is_removed_whatever_goes_wrong_meanwhile(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.pod_of(job_name, None)
    pod = gateway.one(PODS, "vision", f"{job_name}-x")
    told = 'Usage of EmptyDir volume "work" exceeds the limit "8Gi".'
    gateway.put({**pod, "status": {"phase": "Failed", "reason": "Evicted", "message": told}})

    async def refuse(*_: Any) -> None:
        raise UnavailableError(told)

    with monkeypatch.context() as broken:
        broken.setattr(gateway, "delete", refuse)
        wait = await look(context, job_name)
        with pytest.raises(UnavailableError):
            await look(context, job_name)
    await look(context, job_name)

    assert wait == 0, "the next look is due at once"
    assert await gateway.get(JOBS, "vision", job_name) is None
    assert condition(gateway.one(OPTIMIZATION_JOBS, "vision", job_name), "Complete") == ("False", "OutOfDisk")
    gateway.writes.clear()
    await look(context, job_name)
    assert gateway.writes == []


async def test_an_unfinished_job_that_was_deleted_comes_back(
    gateway: FakeGateway, context: Context, job_name: str
) -> None:
    await gateway.delete(JOBS, gateway.one(JOBS, "vision", job_name))
    await look(context, job_name)
    assert await gateway.get(JOBS, "vision", job_name) is not None


async def test_an_unreachable_registry_is_tried_again_after_a_while(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str, clock: Any
) -> None:
    message = JobResult(reason=JobReason.REGISTRY_UNREACHABLE, message="x").termination_message()
    kubernetes.pod_of(job_name, 69, message)
    kubernetes.end(job_name, "Failed", "BackoffLimitExceeded")

    wait = await look(context, job_name)
    assert wait is not None
    document = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert condition(document, "Complete") == ("False", "RegistryUnreachable")
    assert "completionTime" not in document["status"]

    clock.advance(wait + 1)
    await look(context, job_name)
    assert await gateway.get(JOBS, "vision", job_name) is None
    await look(context, job_name)
    assert await gateway.get(JOBS, "vision", job_name) is not None


async def test_a_pod_that_never_started_is_waited_for_again_and_one_that_did_is_not(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str
) -> None:
    kubernetes.end(job_name, "Failed", "DeadlineExceeded")
    await look(context, job_name)
    assert await gateway.get(JOBS, "vision", job_name) is None
    await look(context, job_name)

    again = gateway.one(JOBS, "vision", job_name)
    gateway.put({**again, "status": {"startTime": "2026-11-21T12:59:00Z"}})
    kubernetes.pod_of(job_name, None)
    gateway.logs[f"{job_name}-x"] = Progress(stage=Stage.FETCHING, percent=5).line()
    await look(context, job_name)
    await gateway.delete(PODS, gateway.one(PODS, "vision", f"{job_name}-x"))
    kubernetes.end(job_name, "Failed", "DeadlineExceeded", started="2026-11-21T12:59:00Z")
    await look(context, job_name)

    document = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert condition(document, "Complete") == ("False", "DeadlineExceeded")
    assert "completionTime" in document["status"]


async def test_what_an_earlier_job_did_does_not_count_for_one_that_only_waits(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str, clock: Any
) -> None:
    gateway.logs[f"{job_name}-x"] = Progress(stage=Stage.FETCHING, percent=5).line()
    kubernetes.pod_of(job_name, 69, JobResult(reason=JobReason.SOURCE_UNREACHABLE, message="x").termination_message())
    kubernetes.end(job_name, "Failed", "BackoffLimitExceeded")
    clock.advance(await look(context, job_name) or 0)
    await look(context, job_name)
    await gateway.delete(PODS, gateway.one(PODS, "vision", f"{job_name}-x"))
    await look(context, job_name)
    kubernetes.end(job_name, "Failed", "DeadlineExceeded", started="2026-11-21T12:59:00Z")

    await look(context, job_name)

    document = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    assert condition(document, "Complete") == ("False", "Pending")
    assert document["status"]["stage"] == "Waiting"


async def test_suspending_changes_that_field_of_the_job_and_no_other(
    gateway: FakeGateway, context: Context, job_name: str
) -> None:
    before = gateway.one(JOBS, "vision", job_name)["spec"]
    document = gateway.one(OPTIMIZATION_JOBS, "vision", job_name)
    gateway.put({**document, "spec": {**document["spec"], "suspend": True}})

    await look(context, job_name)

    assert gateway.one(JOBS, "vision", job_name)["spec"] == {**before, "suspend": True}
    assert condition(gateway.one(OPTIMIZATION_JOBS, "vision", job_name), "Suspended") == ("True", "Suspended")


async def test_without_the_accelerator_there_is_no_job(gateway: FakeGateway, context: Context) -> None:
    gateway.put(skerry_object("OptimizationJob", "j", {"model": SOURCE, "accelerator": "intel-npu"}))
    await look(context, "j")
    assert await gateway.get(JOBS, "vision", "j") is None
    assert condition(gateway.one(OPTIMIZATION_JOBS, "vision", "j"), "Complete") == ("False", "WaitingForAccelerator")


async def test_nothing_is_measured_on_another_device_than_was_asked_for(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    profile["status"]["accelerators"].append({"name": "intel-npu", "count": 1})
    gateway.put(profile)
    asked = [{"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}]
    gateway.put(
        skerry_object("OptimizationJob", "j", {"model": SOURCE, "accelerator": "intel-npu", "candidates": asked})
    )
    await look(context, "j")
    assert await gateway.get(JOBS, "vision", "j") is None
    (complete, _) = gateway.one(OPTIMIZATION_JOBS, "vision", "j")["status"]["conditions"]
    assert complete["message"] == "this version of Skerry does not optimize for intel-npu yet"


async def test_a_misspelt_accelerator_is_told_with_the_names_that_there_are(
    gateway: FakeGateway, context: Context, profile: dict[str, Any]
) -> None:
    del profile
    gateway.put(skerry_object("EdgeModel", "digits", {"source": SOURCE, "accelerators": ["intel-npuu"]}))

    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))

    status = gateway.one(EDGE_MODELS, "vision", "digits")["status"]
    for message in (status["conditions"][0]["message"], status["variants"][0]["message"]):
        assert message.startswith("the catalogue has no accelerator 'intel-npuu'; it has ")
        assert "intel-npu," in message


async def test_a_foreign_job_is_left_alone(gateway: FakeGateway, context: Context, profile: dict[str, Any]) -> None:
    del profile
    gateway.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "vision"}, "spec": {}})
    gateway.put(skerry_object("OptimizationJob", "j", {"model": SOURCE, "accelerator": "cpu"}))
    await look(context, "j")
    assert ("apply", "jobs", "j") not in gateway.writes
    message = gateway.one(OPTIMIZATION_JOBS, "vision", "j")["status"]["conditions"][0]["message"]
    assert "is not Skerry's" in message


@pytest.fixture
async def served(gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str) -> str:
    """A deployment of two replicas of a published model, rolled out."""
    kubernetes.pod_of(job_name, 0, result().termination_message())
    kubernetes.end(job_name, "Complete")
    await look(context, job_name)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    gateway.put(skerry_object("EdgeDeployment", "front", {"modelName": "digits", "placement": {"replicas": 2}}))
    await deploy(context)
    kubernetes.serve("front-cpu")
    context.site.forget()
    await deploy(context)
    return "front"


async def deploy(context: Context) -> float | None:
    return await deployments.reconcile(context, Key("EdgeDeployment", "vision", "front"))


async def test_a_published_model_is_served_where_it_can_run(gateway: FakeGateway, served: str) -> None:
    pod = gateway.one(DEPLOYMENTS, "vision", f"{served}-cpu")["spec"]["template"]["spec"]
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)

    assert {
        "name": "model",
        "image": {"reference": ARTIFACT.removeprefix("oci://"), "pullPolicy": "IfNotPresent"},
    } in pod["volumes"]
    assert pod["nodeSelector"]["skerry.dev/cpu.avx512_vnni"] == "true"
    assert gateway.one(SERVICES, "vision", served)["spec"]["ports"][0]["port"] == 8080
    assert gateway.one(BUDGETS, "vision", served)["spec"]["maxUnavailable"] == 1
    assert condition(status, "Ready") == ("True", "Serving")
    assert condition(status, "AccelerationVerified") == ("True", "AccelerationVerified")
    assert status["status"]["devices"] == "CPU:2"


async def test_serving_looked_at_again_writes_nothing(gateway: FakeGateway, context: Context, served: str) -> None:
    del served
    gateway.writes.clear()
    await deploy(context)
    assert gateway.writes == []


async def test_a_silent_fallback_to_another_device_is_a_failure(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, served: str
) -> None:
    kubernetes.serve(f"{served}-cpu", device="GPU")
    await deploy(context)
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    assert condition(status, "Ready") == ("False", "AccelerationNotVerified")
    assert condition(status, "AccelerationVerified")[0] == "False"


async def test_credentials_to_pull_are_put_beside_the_pods(gateway: FakeGateway, context: Context, served: str) -> None:
    registry = context.settings.registry.model_copy(update={"pull_credentials_secret": "reader"})
    private = dataclasses.replace(context, settings=context.settings.model_copy(update={"registry": registry}))

    await deploy(private)
    waiting = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    metadata = {"name": "reader", "namespace": "skerry-system"}
    gateway.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {".dockerconfigjson": "e30="}})
    await deploy(private)

    assert condition(waiting, "Ready") == ("False", "RegistryUnreachable")
    assert "there is no Secret skerry-system/reader" in waiting["status"]["conditions"][0]["message"]
    secret = gateway.one(SECRETS, "vision", f"{served}-pull")
    assert secret["data"] == {".dockerconfigjson": "e30="}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == waiting["metadata"]["uid"]
    pod = gateway.one(DEPLOYMENTS, "vision", f"{served}-cpu")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": f"{served}-pull"}]


async def test_when_the_model_goes_away_what_serves_goes_on(
    gateway: FakeGateway, context: Context, served: str
) -> None:
    await gateway.delete(EDGE_MODELS, gateway.one(EDGE_MODELS, "vision", "digits"))
    await deploy(context)
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    assert condition(status, "Ready") == ("False", "ModelNotFound")
    assert await gateway.get(DEPLOYMENTS, "vision", f"{served}-cpu") is not None
    assert status["status"]["variant"] == "OpenVINO/INT8"


async def test_one_replica_has_no_disruption_budget(gateway: FakeGateway, context: Context, served: str) -> None:
    document = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    document["spec"]["placement"]["replicas"] = 1
    gateway.put(document)
    await deploy(context)
    assert await gateway.get(BUDGETS, "vision", served) is None


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "front-cpu"), ("Service", "front")])
async def test_a_taken_name_is_told_and_left_alone(
    gateway: FakeGateway, context: Context, served: str, kind: str, name: str
) -> None:
    version, resource = ("apps/v1", DEPLOYMENTS) if kind == "Deployment" else ("v1", SERVICES)
    await gateway.delete(resource, gateway.one(resource, "vision", name))
    gateway.put({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "vision"}, "spec": {}})
    gateway.writes.clear()
    await deploy(context)
    assert condition(gateway.one(EDGE_DEPLOYMENTS, "vision", served), "Ready") == ("False", "NameTaken")
    assert ("apply", resource.plural, name) not in gateway.writes


async def test_a_status_that_someone_wrote_meanwhile_is_not_overwritten(
    gateway: FakeGateway, context: Context, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = gateway.list

    async def meddle(resource: Any, namespace: str | None = None, selector: str = "") -> list[dict[str, Any]]:
        if resource is PODS:
            gateway.put(gateway.one(EDGE_DEPLOYMENTS, "vision", served))
            return []
        return await original(resource, namespace, selector)

    monkeypatch.setattr(gateway, "list", meddle)
    with pytest.raises(Exception, match="front"):
        await deploy(context)


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
