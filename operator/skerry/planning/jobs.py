"""What the state of a batch Job and its pods says about an optimization; pure."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from pydantic import ValidationError

from skerry.api.conditions import find
from skerry.api.jobcontract import KILLED, ExitCode, JobResult, Progress, Stage
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.api.reasons import ConditionType, JobReason
from skerry.api.types import CandidateResult, ModelFacts

Document = dict[str, Any]
RETRY_SECONDS: Final = 120
_TERMINATED: Final = 143


class Phase(Enum):
    """Where an optimization is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    RETRY = "retry"


@dataclass(frozen=True)
class JobState:
    """What is to be said and done about a batch Job."""

    phase: Phase
    reason: JobReason
    message: str
    result: JobResult | None = None
    retry_at: datetime | None = None


@dataclass
class ProgressState:
    """What the progress lines say: the last stage, and the last result of each candidate."""

    stage: Stage | None = None
    percent: int = 0
    message: str = ""
    model: ModelFacts | None = None
    candidates: dict[str, CandidateResult] = field(default_factory=dict)


def read_progress(log: str) -> ProgressState:
    """Read the progress lines of a log; lines that are none, or are cut off, are passed over."""
    state = ProgressState()
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        try:
            progress = Progress.model_validate(json.loads(line))
        except (ValueError, ValidationError):
            continue
        state.stage, state.percent = progress.stage, progress.percent
        state.message = (
            f"{progress.candidate}: {progress.message}".strip(": ") if progress.candidate else progress.message
        )
        state.model = progress.model or state.model
        if progress.result is not None:
            state.candidates[progress.result.name] = progress.result
    return state


def _condition(document: Document, kind: str) -> Document | None:
    conditions = document.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _terminated(pod: Document) -> Document | None:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if (state := container.get("state", {}).get("terminated")) is not None:
            found: Document = state
            return found
    return None


def newest(pods: list[Document]) -> Document | None:
    """Return the pod that was made last."""
    return max(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), default=None)


def _result(pod: Document | None) -> JobResult | None:
    terminated = _terminated(pod) if pod else None
    if not terminated or not terminated.get("message"):
        return None
    try:
        return JobResult.model_validate_json(terminated["message"])
    except ValidationError:
        return None


def _disk(pod: Document | None) -> str | None:
    """Return the kubelet's words when it evicted the pod for what it wrote."""
    status = pod.get("status", {}) if pod else {}
    text = str(status.get("message", ""))
    if status.get("reason") == "Evicted" and ("ephemeral" in text.lower() or "emptydir" in text.lower()):
        return text
    return None


def how_to_try_again(reason: JobReason, name: str, namespace: str, *, of_model: bool) -> str:
    """Return what a user can do about an end whose cause is outside the spec; nothing for other reasons.

    Args:
        reason: How the optimization ended.
        name: Name of the OptimizationJob.
        namespace: Namespace of the OptimizationJob.
        of_model: Whether an EdgeModel makes the OptimizationJob anew.
    """
    if reason not in _PUSHED | _OUTSIDE:
        return ""
    command = f"kubectl delete optimizationjob {name} --namespace {namespace}"
    if not of_model:
        return f"; to try again: `{command}`, then make it anew"
    tag = ", or give what you have pushed another tag and name that" if reason in _PUSHED else ""
    return f"; to try again: `{command}` (the EdgeModel makes it anew){tag}"


_PUSHED: Final = frozenset(
    {JobReason.BAD_MODEL, JobReason.BAD_DATA, JobReason.DIGEST_MISMATCH, JobReason.UNSUPPORTED_FORMAT}
)
_OUTSIDE: Final = frozenset({JobReason.BAD_CONFIGURATION, JobReason.OUT_OF_DISK, JobReason.INTERNAL_ERROR})


def assess(job: Document, pods: list[Document], before: OptimizationJobStatus | None = None) -> JobState:
    """Return the state of an optimization from its batch Job and the Job's pods.

    `before` is what was seen of this Job earlier: when its time is over Kubernetes deletes the pods that still run.
    """
    pod = newest(pods)
    if (text := _disk(pod)) is not None:
        advice = "the working folder was full: raise the operator's workSize or use a smaller model"
        return JobState(Phase.FAILED, JobReason.OUT_OF_DISK, f"{advice} ({text})")
    if _condition(job, "Complete") is not None:
        return _complete(pod)
    failed = _condition(job, "Failed")
    if failed is not None:
        return _failed(failed, pod, ran=_ran(pods, before))
    return _underway(pod)


def _complete(pod: Document | None) -> JobState:
    result = _result(pod)
    if result is None:
        message = "the Job ended well, but its result is gone with its pod"
        return JobState(Phase.FAILED, JobReason.INTERNAL_ERROR, message)
    return JobState(Phase.FINISHED, result.reason, result.message, result)


def _ran(pods: list[Document], before: OptimizationJobStatus | None) -> bool:
    """Tell whether a container of the Job has started; a pod that never began may show one that ended at no time."""
    states = [each.get("state", {}) for pod in pods for each in pod.get("status", {}).get("containerStatuses", [])]
    if any("running" in state or state.get("terminated", {}).get("startedAt") for state in states):
        return True
    complete = find(before.conditions, ConditionType.COMPLETE) if before else None
    working = complete is not None and complete.reason == JobReason.RUNNING
    return working or (before is not None and before.stage is not Stage.WAITING)


def _failed(failed: Document, pod: Document | None, *, ran: bool) -> JobState:
    since = datetime.fromisoformat(failed["lastTransitionTime"])
    if failed.get("reason") == "DeadlineExceeded":
        limit = "spec.optimization.activeDeadlineSeconds"
        if ran:
            return JobState(Phase.FAILED, JobReason.DEADLINE_EXCEEDED, f"the Job did not end within {limit}: raise it")
        message = f"the Job's pod did not start within {limit}; it will be tried again"
        return JobState(Phase.RETRY, JobReason.PENDING, message, retry_at=since)
    terminated, result = (_terminated(pod) if pod else None) or {}, _result(pod)
    code = terminated.get("exitCode")
    if pod is not None and _ran_out_of_memory(pod):
        message = "the optimizer ran out of memory: raise spec.optimization.resources.limits.memory"
        return JobState(Phase.FAILED, JobReason.OUT_OF_MEMORY, message)
    if result is not None and code != ExitCode.UNAVAILABLE:
        return JobState(Phase.FAILED, result.reason, result.message, result)
    if code == ExitCode.UNAVAILABLE or (pod is None) or code == _TERMINATED:
        reason = result.reason if result else JobReason.SOURCE_UNREACHABLE
        told = result.message if result else "the Job's pods went away before they ended"
        message = f"{told}; it will be tried again"
        return JobState(Phase.RETRY, reason, message, result, since + timedelta(seconds=RETRY_SECONDS))
    message = f"the optimizer ended with exit code {code}, which is a defect of Skerry; see the log of the Job's pod"
    return JobState(Phase.FAILED, JobReason.INTERNAL_ERROR, message)


def _ran_out_of_memory(pod: Document) -> bool:
    terminated = _terminated(pod) or {}
    told = terminated.get("exitCode") == KILLED and _result(pod) is None
    return terminated.get("reason") == "OOMKilled" or told


def _underway(pod: Document | None) -> JobState:
    if pod is None:
        return JobState(Phase.RUNNING, JobReason.PENDING, "waiting for the Job's pod")
    status = pod.get("status", {})
    if status.get("phase") == "Pending":
        return JobState(Phase.RUNNING, JobReason.PENDING, _why_pending(status))
    if (terminated := _terminated(pod)) is not None and terminated.get("exitCode") == ExitCode.UNAVAILABLE:
        result = _result(pod)
        reason = result.reason if result else JobReason.SOURCE_UNREACHABLE
        return JobState(Phase.RUNNING, reason, f"{result.message if result else ''}; trying again".strip("; "))
    if _ran_out_of_memory(pod):
        message = "memory ran out; going on in another pod, after what was measured"
        return JobState(Phase.RUNNING, JobReason.RUNNING, message)
    return JobState(Phase.RUNNING, JobReason.RUNNING, "")


def _why_pending(status: Document) -> str:
    """Return what keeps a pod from starting, in the words of scheduler or kubelet."""
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return f"{container['name']} does not start: {waiting['reason']}: {waiting.get('message', '')}"[:1000]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"the pod cannot be placed: {condition.get('message', '')}"[:1000]
    return "the pod is starting"
