"""EdgeModel and OptimizationJob, step by step, against a fake API server."""

from typing import Any

import pytest

from skerry.api.jobcontract import JobResult, Progress, Stage
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Framework, Precision, Technique
from skerry.kube.errors import UnavailableError
from skerry.kube.resources import (
    EDGE_MODELS,
    JOBS,
    NODE_PROFILES,
    OPTIMIZATION_JOBS,
    PODS,
    SECRETS,
)
from skerry.reconcile import models
from skerry.reconcile.base import Context, Key
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.acting import ARTIFACT, SOURCE, Cluster, condition, look, result
from tests.unit.reconcile.conftest import Clock, skerry_object


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
