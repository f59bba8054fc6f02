"""What batch Jobs and their pods say about an optimization."""

from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.api.conditions import merged
from skerry.api.jobcontract import JobResult, Progress, Stage
from skerry.api.meta import Condition
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Framework, Precision, Technique, Verdict
from skerry.planning.jobs import (
    RETRY_SECONDS,
    JobState,
    Phase,
    assess,
    how_to_try_again,
    newest,
    read_progress,
)

FAILED_AT = "2026-11-21T12:00:00Z"


def batch(kind: str = "", reason: str = "") -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": FAILED_AT}] if kind else []
    return {"metadata": {"name": "j"}, "status": {"conditions": conditions}}


def pod(code: int | None = None, told: str = "", **status: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    if code is not None:
        ended = {
            "exitCode": code,
            "message": told,
            "reason": status.pop("oom", ""),
            "startedAt": status.pop("started", None),
        }
        state = {"terminated": ended}
    return {
        "metadata": {"name": "p", "creationTimestamp": "1"},
        "status": {"phase": "Running", "containerStatuses": [{"state": state}], **status},
    }


def result(reason: JobReason, message: str = "told") -> str:
    return JobResult(reason=reason, message=message).termination_message()


def complete(reason: JobReason) -> list[Condition]:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return list(merged((), "Complete", status=False, reason=reason, message="", generation=1, now=now))


def summary(state: JobState) -> tuple[Phase, JobReason]:
    return state.phase, state.reason


def test_a_good_end_gives_the_result() -> None:
    state = assess(batch("Complete"), [pod(0, result(JobReason.SUCCEEDED))])
    assert summary(state) == (Phase.FINISHED, JobReason.SUCCEEDED)
    assert state.result is not None


def test_a_good_end_whose_result_is_lost_is_not_taken_for_good() -> None:
    assert summary(assess(batch("Complete"), [])) == (Phase.FAILED, JobReason.INTERNAL_ERROR)


@pytest.mark.parametrize(
    ("job", "pods", "expected"),
    [
        (batch("Failed", "PodFailurePolicy"), [pod(65, result(JobReason.BAD_DATA))], JobReason.BAD_DATA),
        (
            batch("Failed", "PodFailurePolicy"),
            [pod(78, result(JobReason.BAD_CONFIGURATION))],
            JobReason.BAD_CONFIGURATION,
        ),
        (batch("Failed", "PodFailurePolicy"), [pod(137, oom="OOMKilled")], JobReason.OUT_OF_MEMORY),
        (batch("Failed", "PodFailurePolicy"), [pod(1)], JobReason.INTERNAL_ERROR),
        (batch("Failed", "DeadlineExceeded"), [pod(143, started="1")], JobReason.DEADLINE_EXCEEDED),
        (
            batch(),
            [pod(reason="Evicted", message='Usage of EmptyDir volume "work" exceeds the limit "8Gi".')],
            JobReason.OUT_OF_DISK,
        ),
    ],
)
def test_ends_that_trying_again_does_not_mend(
    job: dict[str, Any], pods: list[dict[str, Any]], expected: JobReason
) -> None:
    state = assess(job, pods)
    assert summary(state) == (Phase.FAILED, expected)
    assert state.message


def test_memory_that_ran_out_is_told_while_the_next_pod_goes_on() -> None:
    state = assess(batch(), [pod(137, oom="OOMKilled")])
    assert summary(state) == (Phase.RUNNING, JobReason.RUNNING)
    assert "going on in another pod" in state.message


def test_a_defect_is_called_one() -> None:
    assert "a defect of Skerry" in assess(batch("Failed", "PodFailurePolicy"), [pod(1)]).message


def test_what_could_not_be_reached_is_tried_again_later() -> None:
    state = assess(batch("Failed", "BackoffLimitExceeded"), [pod(69, result(JobReason.REGISTRY_UNREACHABLE))])

    assert summary(state) == (Phase.RETRY, JobReason.REGISTRY_UNREACHABLE)
    assert state.retry_at is not None
    assert (state.retry_at - datetime(2026, 11, 21, 12, tzinfo=UTC)).total_seconds() == RETRY_SECONDS
    assert "tried again" in state.message


@pytest.mark.parametrize("pods", [[], [pod(phase="Pending")], [pod(137)]], ids=["none", "pending", "never located"])
def test_time_that_only_went_by_with_waiting_is_no_failure(pods: list[dict[str, Any]]) -> None:
    waiting = OptimizationJobStatus(conditions=complete(JobReason.PENDING))
    state = assess(batch("Failed", "DeadlineExceeded"), pods, waiting)

    assert summary(state) == (Phase.RETRY, JobReason.PENDING)
    assert state.retry_at == datetime(2026, 11, 21, 12, tzinfo=UTC), "it has waited long enough"
    assert "did not start" in state.message


@pytest.mark.parametrize(
    "before",
    [
        OptimizationJobStatus(stage=Stage.FETCHING, conditions=complete(JobReason.PENDING)),
        OptimizationJobStatus(conditions=complete(JobReason.RUNNING)),
    ],
)
def test_a_pod_that_is_gone_when_the_time_is_over_was_seen_at_work(before: OptimizationJobStatus) -> None:
    state = assess(batch("Failed", "DeadlineExceeded"), [], before)
    assert summary(state) == (Phase.FAILED, JobReason.DEADLINE_EXCEEDED)


def test_between_two_tries_the_reason_is_shown() -> None:
    state = assess(batch(), [pod(69, result(JobReason.SOURCE_UNREACHABLE))])
    assert summary(state) == (Phase.RUNNING, JobReason.SOURCE_UNREACHABLE)


def test_a_pod_that_cannot_be_placed_says_so_in_the_schedulers_words() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    state = assess(batch(), [pod(phase="Pending", conditions=[waiting])])
    assert summary(state) == (Phase.RUNNING, JobReason.PENDING)
    assert "0/3 nodes are available" in state.message


def test_a_container_that_does_not_start_is_named_with_the_kubelets_words() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    tools = [{"name": "tools-llamacpp", "state": {"waiting": waiting}}]
    main = [{"name": "optimizer", "state": {"waiting": {"reason": "PodInitializing"}}}]
    state = assess(batch(), [pod(phase="Pending", initContainerStatuses=tools, containerStatuses=main)])
    assert state.message == "tools-llamacpp does not start: ImagePullBackOff: no such image"


def test_how_to_try_again_is_told_where_a_change_of_the_spec_does_not_help() -> None:
    pushed = how_to_try_again(JobReason.BAD_DATA, "j", "vision", of_model=True)
    assert "`kubectl delete optimizationjob j --namespace vision` (the EdgeModel makes it anew)" in pushed
    assert "another tag" in pushed
    refused = how_to_try_again(JobReason.BAD_CONFIGURATION, "j", "vision", of_model=True)
    assert "kubectl delete" in refused
    assert "another tag" not in refused
    assert "then make it anew" in how_to_try_again(JobReason.BAD_MODEL, "j", "vision", of_model=False)
    assert how_to_try_again(JobReason.OUT_OF_MEMORY, "j", "vision", of_model=True) == ""


def test_the_newest_pod_counts() -> None:
    old, new = pod(69), pod(0)
    new["metadata"] = {"name": "q", "creationTimestamp": "2"}
    assert newest([new, old]) is new
    assert newest([]) is None


def test_progress_is_read_line_by_line_and_noise_is_passed_over() -> None:
    candidate = CandidateResult(
        name="c", framework=Framework.OPENVINO, precision=Precision.INT8, technique=Technique.POST_TRAINING
    )
    judged = candidate.model_copy(update={"verdict": Verdict.PASSED})
    log = "\n".join(
        [
            "a library says something",
            Progress(stage=Stage.QUANTIZING, percent=20, candidate="c", result=candidate).line(),
            '{"stage": "Measuring", "perc',
            '{"stage": "NoSuchStage", "percent": 3}',
            Progress(stage=Stage.MEASURING, percent=40, candidate="c", message="round 3", result=judged).line(),
        ]
    )

    state = read_progress(log)

    assert (state.stage, state.percent, state.message) == (Stage.MEASURING, 40, "c: round 3")
    assert state.candidates == {"c": judged}
