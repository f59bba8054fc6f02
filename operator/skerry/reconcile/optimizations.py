"""OptimizationJob: one batch Job, its progress and its result."""

from datetime import datetime
from typing import Any, Final

from skerry.api.conditions import find, merged
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec, OptimizationJobStatus
from skerry.api.reasons import ConditionType, JobReason
from skerry.api.types import CandidateResult
from skerry.kube.gateway import Document
from skerry.kube.resources import EDGE_MODELS, JOBS, OPTIMIZATION_JOBS, PODS
from skerry.manifests import job as manifest
from skerry.manifests.common import owned_by
from skerry.planning.candidates import groups, hint
from skerry.planning.jobs import JobState, Phase, ProgressState, assess, how_to_try_again, newest, read_progress
from skerry.reconcile.base import (
    Context,
    Key,
    conditions_of,
    gone,
    job_status,
    missing_credentials,
    present,
    registry_credentials,
    report,
    unfit,
)

POLL_SECONDS: Final = 3.0
GONE_SECONDS: Final = 1.0
FOREIGN_SECONDS: Final = 30.0
TAIL_LINES: Final = 60
TAIL_BYTES: Final = 512 * 1024
LOG_BYTES: Final = 4 * 1024 * 1024


def _job(context: Context, document: Document, spec: OptimizationJobSpec) -> Document:
    """Return the batch Job, with the further tools that it may need and that there are images of."""
    entry = context.catalogue[spec.accelerator]
    wanted = groups(entry, hint(spec.model), spec.candidates)
    tools = [group for group in wanted if group in context.settings.tool_images]
    return manifest.optimization_job(document, spec, context.settings, entry, tools)


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring an OptimizationJob's batch Job and status up to date; return when to look again."""
    gateway = context.gateway
    document = await gateway.get(OPTIMIZATION_JOBS, key.namespace, key.name)
    if document is None or gone(document):
        return None
    status = job_status(document)
    if status.completion_time is not None and find(status.conditions, ConditionType.COMPLETE) is not None:
        await _stop(context, key, document, status)
        return None
    spec = OptimizationJobSpec.model_validate(document["spec"])
    job = await gateway.get(JOBS, key.namespace, key.name)
    if job is None:
        return await _begin(context, document, status, spec)
    mine = owned_by(job, document["metadata"]["uid"])
    if not mine and _owner(job, OPTIMIZATION_JOBS.kind) != key.name:
        message = f"a Job named {key.name} exists already and is not Skerry's: rename or remove it"
        await _report(context, document, status, spec, _waiting(JobReason.PENDING, message), ProgressState())
        return FOREIGN_SECONDS
    if not mine or gone(job):
        return GONE_SECONDS  # one of the OptimizationJob that had this name before is the garbage collector's
    return await _follow(context, key, document, status, spec, job)


async def _stop(context: Context, key: Key, document: Document, status: OptimizationJobStatus) -> None:
    """Delete the batch Job of an optimization that the disk was too small for.

    Kubernetes would replace the evicted pod for ever. This comes after the status, which would else begin it anew, and
    is done by each look, because the one that ended it may not have come that far.
    """
    complete = find(status.conditions, ConditionType.COMPLETE)
    if complete is None or complete.reason != JobReason.OUT_OF_DISK:
        return
    job = await context.gateway.get(JOBS, key.namespace, key.name)
    if job is not None and owned_by(job, document["metadata"]["uid"]) and not gone(job):
        await context.gateway.delete(JOBS, job)


def _owner(document: Document, kind: str) -> str | None:
    """Return the name of the object of a kind that controls this one."""
    references = document["metadata"].get("ownerReferences", [])
    return next((item["name"] for item in references if item.get("controller") and item.get("kind") == kind), None)


def _waiting(reason: JobReason, message: str) -> JobState:
    return JobState(Phase.RUNNING, reason, message)


async def _follow(
    context: Context,
    key: Key,
    document: Document,
    status: OptimizationJobStatus,
    spec: OptimizationJobSpec,
    job: Document,
) -> float | None:
    """Report how far the batch Job is, and do what its end asks for."""
    if bool(job["spec"].get("suspend", False)) != spec.suspend:
        # Not by apply: a Job's template must not change, and a newer operator would make another one.
        await context.gateway.merge(JOBS, job, {"spec": {"suspend": spec.suspend}})
    if spec.suspend:
        state = _waiting(JobReason.SUSPENDED, "suspended by spec.suspend")
        await _report(context, document, status, spec, state, ProgressState())
        return None
    found = await context.gateway.list(PODS, key.namespace, f"batch.kubernetes.io/job-name={key.name}")
    pods = [pod for pod in found if owned_by(pod, job["metadata"]["uid"])]
    if _started(job) not in {None, status.start_time}:
        # Another Job than the one seen before, or the same that was suspended: what that had done is done anew.
        status = status.model_copy(update={"stage": Stage.WAITING, "progress_percent": 0})
    state = assess(job, pods, status)
    progress = await _progress(context, key, state, newest(pods))
    await _report(context, document, status, spec, state, progress, job)
    return await _afterwards(context, job, state)


async def _begin(
    context: Context, document: Document, status: OptimizationJobStatus, spec: OptimizationJobSpec
) -> float | None:
    """Make the batch Job when a node has the accelerator."""
    gateway, namespace = context.gateway, document["metadata"]["namespace"]
    message = unfit(context, spec.accelerator, asked=bool(spec.candidates))
    if not message and spec.accelerator not in await present(context):
        message = f"no node has the accelerator {spec.accelerator!r}"
    if message:
        state = _waiting(JobReason.WAITING_FOR_ACCELERATOR, message)
        await _report(context, document, status, spec, state, ProgressState())
        return None
    if name := context.settings.registry.credentials_secret:
        credentials = await registry_credentials(context, name)
        if credentials is None:
            state = _waiting(JobReason.REGISTRY_UNREACHABLE, missing_credentials(context, name))
            await _report(context, document, status, spec, state, ProgressState())
            return FOREIGN_SECONDS
        await gateway.apply(manifest.push_secret(document, credentials))
    await gateway.apply(_job(context, document, spec))
    state = _waiting(JobReason.PENDING, f"the Job {namespace}/{document['metadata']['name']} was made")
    await _report(context, document, status, spec, state, ProgressState())
    return POLL_SECONDS


async def _progress(context: Context, key: Key, state: JobState, pod: Document | None) -> ProgressState:
    """Read the pod's log: its end while it runs, all of it (within bounds) at the end."""
    if pod is None or state.reason in {JobReason.PENDING, JobReason.SUSPENDED} or key.namespace is None:
        return ProgressState()
    running = state.phase is Phase.RUNNING
    log = await context.gateway.log(
        key.namespace,
        pod["metadata"]["name"],
        tail_lines=TAIL_LINES if running else None,
        limit_bytes=TAIL_BYTES if running else LOG_BYTES,
    )
    return read_progress(log)


async def _afterwards(context: Context, job: Document, state: JobState) -> float | None:
    """Stop what will not end well by itself, begin anew what may, and say when to look again."""
    if state.phase is Phase.RETRY and state.retry_at is not None:
        wait = (state.retry_at - context.now()).total_seconds()
        if wait > 0:
            return wait
        await context.gateway.delete(JOBS, job)
        return GONE_SECONDS
    if state.phase is Phase.FAILED and state.reason is JobReason.OUT_OF_DISK:
        return 0.0  # to stop it, now that the status says so
    return POLL_SECONDS if state.phase is Phase.RUNNING else None


async def _report(
    context: Context,
    document: Document,
    before: OptimizationJobStatus,
    spec: OptimizationJobSpec,
    state: JobState,
    progress: ProgressState,
    job: Document | None = None,
) -> None:
    now = context.now()
    generation = document["metadata"]["generation"]
    ended = state.phase in {Phase.FINISHED, Phase.FAILED}
    good = ended and state.reason in {JobReason.SUCCEEDED, JobReason.BASELINE_ONLY}
    message = state.message or _running(progress)
    if ended:
        metadata, of_model = document["metadata"], _owner(document, EDGE_MODELS.kind) is not None
        message += how_to_try_again(state.reason, metadata["name"], metadata["namespace"], of_model=of_model)
    conditions = merged(
        conditions_of(document),
        ConditionType.COMPLETE,
        status=good,
        reason=state.reason,
        message=message,
        generation=generation,
        now=now,
    )
    conditions = merged(
        conditions,
        ConditionType.SUSPENDED,
        status=spec.suspend,
        reason=JobReason.SUSPENDED if spec.suspend else JobReason.NOT_SUSPENDED,
        message="",
        generation=generation,
        now=now,
    )
    status = before.model_copy(
        update={
            "conditions": list(conditions),
            "observed_generation": generation,
            "start_time": _started(job) or before.start_time,
            "completion_time": now.replace(microsecond=0) if ended else None,
            **_seen(before, state, progress, ended=ended),
        }
    )
    await report(context.gateway, OPTIMIZATION_JOBS, document, status, ConditionType.COMPLETE)


def _running(progress: ProgressState) -> str:
    return f"{progress.stage} {progress.message}".strip() if progress.stage else ""


def _started(job: Document | None) -> datetime | None:
    text = (job or {}).get("status", {}).get("startTime")
    return datetime.fromisoformat(text) if text else None


def _seen(before: OptimizationJobStatus, state: JobState, progress: ProgressState, *, ended: bool) -> dict[str, Any]:
    """Return what log and result add to the status; what was known is kept while nothing newer is."""
    candidates = {candidate.name: candidate for candidate in before.candidates} | progress.candidates
    chosen = state.result.chosen if state.result else None
    if chosen is not None and chosen.name not in candidates:
        # The log is gone with its pod; the termination message still knows the chosen one.
        candidates[chosen.name] = CandidateResult(
            name=chosen.name,
            framework=chosen.framework,
            precision=chosen.precision,
            technique=chosen.technique,
            execution_precision=chosen.execution_precision,
            metrics=chosen.metrics,
        )
    seen: dict[str, Any] = {
        "stage": Stage.DONE if ended else progress.stage or before.stage,
        "progress_percent": progress.percent if progress.stage else before.progress_percent,
        "model": progress.model or before.model,
        "candidates": list(candidates.values())[:32],
    }
    if ended:
        seen["progress_percent"] = 100
    result = state.result
    if result is not None:
        seen |= {
            "digest": result.source_sha256 or before.digest,
            "artifact": result.artifact,
            "report_artifact": result.report_artifact,
            "host": result.host,
        }
    if chosen is not None:
        seen |= {
            "chosen": chosen.name,
            "size_bytes": chosen.size_bytes,
            "metrics": chosen.metrics,
            "requires": chosen.requires,
        }
    return seen
