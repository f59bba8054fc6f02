"""What an EdgeModel needs next, and what its status says; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from skerry.api.conditions import find, merged
from skerry.api.edgemodel import EdgeModelSpec, EdgeModelStatus, Variant, speedup
from skerry.api.optimizationjob import OptimizationJobSpec, OptimizationJobStatus
from skerry.api.reasons import ConditionType, JobReason, ModelReason
from skerry.api.types import Metric, Verdict
from skerry.planning.naming import job_name
from skerry.planning.preference import best_first

KEEP = 3
_DONE = frozenset({str(JobReason.SUCCEEDED), str(JobReason.BASELINE_ONLY)})


@dataclass(frozen=True)
class ObservedJob:
    """An OptimizationJob of the model, as it is now."""

    name: str
    accelerator: str
    created: str
    status: OptimizationJobStatus
    spec: OptimizationJobSpec | None = None
    """None when another version wrote it in a form that is not known here."""

    @property
    def finished(self) -> bool:
        """Whether it ended for good."""
        return self.status.completion_time is not None

    @property
    def worth_keeping(self) -> bool:
        """Whether a result, or work that is under way, would be lost with it."""
        reason = _complete_reason(self.status)
        return reason in _DONE or (not self.finished and reason == JobReason.RUNNING)


@dataclass(frozen=True)
class Wanted:
    """An OptimizationJob that there must be."""

    name: str
    accelerator: str
    spec: OptimizationJobSpec


def job_spec(spec: EdgeModelSpec, accelerator: str) -> OptimizationJobSpec:
    """Return the spec of the model's OptimizationJob for an accelerator."""
    return OptimizationJobSpec(
        model=spec.source,
        inputs=spec.inputs,
        accelerator=accelerator,
        calibration=spec.calibration,
        evaluation=spec.evaluation,
        gates=spec.gates,
        objective=spec.objective,
        candidates=spec.candidates,
        when_none_qualifies=spec.when_none_qualifies,
        optimization=spec.optimization,
    )


def wanted_jobs(
    model: str, spec: EdgeModelSpec, present: Iterable[str], jobs: Sequence[ObservedJob] = ()
) -> list[Wanted]:
    """Return the OptimizationJobs that a model needs: one for each accelerator that it names, or that is present.

    Of `jobs`, those for this very spec stay wanted while their accelerator is absent, unless they came to nothing: it
    may come back in a moment, and hours of work, or the variant that is served there, would be lost.
    """
    if spec.accelerators:
        return [_wanted(model, spec, accelerator) for accelerator in spec.accelerators]
    found = {accelerator: _wanted(model, spec, accelerator) for accelerator in present}
    for job in jobs:
        begun = _wanted(model, spec, job.accelerator)
        if begun.name == job.name and (not job.finished or job.status.artifact):
            found[job.accelerator] = begun
    return [found[accelerator] for accelerator in sorted(found)]


def _wanted(model: str, spec: EdgeModelSpec, accelerator: str) -> Wanted:
    """Return the OptimizationJob for an accelerator."""
    made = job_spec(spec, accelerator)
    return Wanted(job_name(model, accelerator, inputs_of(made)), accelerator, made)


def inputs_of(spec: OptimizationJobSpec) -> dict[str, Any]:
    """Return what decides the result of an optimization, the way it is hashed.

    Not where it runs (`optimization`) nor by which Secret sources are read: neither makes a measured variant wrong.
    What has its default value is left out, so that a new field of a later version changes no name; but for the gates,
    of which none is another wish than the default ones.
    """
    found = _without_empty(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    inputs = {key: value for key, value in found.items() if key not in {"optimization", "suspend"}}
    return {**inputs, "gates": [gate.wire() for gate in spec.gates]}


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(item) for key, item in value.items() if key != "credentialsSecretName"}
    return {key: item for key, item in kept.items() if item not in (None, [], {})}


def outdated(jobs: Sequence[ObservedJob], wanted: Sequence[Wanted]) -> list[str]:
    """Return the names of OptimizationJobs to make anew: they came to nothing, and would now be run otherwise.

    What has succeeded, or is at work, stays whatever `optimization` says now; so does what a user has suspended.
    """
    now = {job.name: job.spec.optimization for job in wanted}
    return sorted(
        job.name
        for job in jobs
        if job.name in now and job.spec is not None and job.spec.optimization != now[job.name]
        if not job.worth_keeping and not job.spec.suspend
    )


def superfluous(jobs: Sequence[ObservedJob], wanted: Sequence[Wanted], serving: Iterable[str]) -> list[str]:
    """Return the names of OptimizationJobs to delete: all but the newest three of an accelerator.

    Never the wanted ones, nor one whose artifact is served. One that still runs but is no longer wanted goes at once.
    """
    needed = {job.name for job in wanted}
    artifacts = set(serving)
    gone = []
    by_accelerator: dict[str, list[ObservedJob]] = {}
    for job in jobs:
        by_accelerator.setdefault(job.accelerator, []).append(job)
    for group in by_accelerator.values():
        newest = sorted(group, key=lambda job: (job.created, job.name), reverse=True)
        for place, job in enumerate(newest):
            kept = job.name in needed or job.status.artifact in artifacts
            if not kept and (place >= KEEP or not job.finished):
                gone.append(job.name)
    return sorted(gone)


@dataclass(frozen=True)
class Known:
    """What is known of accelerators.

    Attributes:
        present: Those of which a node has a healthy one.
        unfit: Why nothing can be optimized for some, whether present or not.
        asked: Whether the user names those that are wanted; else one that has gone is not waited for.
    """

    present: frozenset[str]
    unfit: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False

    def missing(self, accelerator: str) -> str:
        """Return what an accelerator is waited for; nothing when it can be used."""
        if accelerator in self.unfit:
            return self.unfit[accelerator]
        return "" if accelerator in self.present else f"no node has the accelerator {accelerator!r}"


def _variant(wanted: Wanted, jobs: Sequence[ObservedJob], known: Known) -> Variant:
    """Return the variant of an accelerator: from the wanted job when it has one, else the last that was published."""
    mine = next((job for job in jobs if job.name == wanted.name), None)
    published = [job for job in jobs if job.accelerator == wanted.accelerator and job.status.artifact is not None]
    published.sort(key=lambda job: (job.name == wanted.name, job.created), reverse=True)
    source = published[0] if published else None
    complete = find(mine.status.conditions, ConditionType.COMPLETE) if mine else None
    reason = complete.reason if complete else str(JobReason.PENDING)
    message = complete.message if complete else "its OptimizationJob is about to begin"
    missing = known.missing(wanted.accelerator)
    if missing and (mine is None or not mine.finished):
        reason, message = str(JobReason.WAITING_FOR_ACCELERATOR), missing
    base = Variant(
        accelerator=wanted.accelerator, optimization_job_name=wanted.name, reason=reason, message=message[:2048]
    )
    if source is None:
        return base
    status = source.status
    result = next((candidate for candidate in status.candidates if candidate.name == status.chosen), None)
    return base.model_copy(
        update={
            "artifact": status.artifact,
            "optimization_job_name": source.name,
            "framework": result.framework if result else None,
            "precision": result.precision if result else None,
            "technique": result.technique if result else None,
            "size_bytes": status.size_bytes,
            "verdict": Verdict.PASSED if _complete_reason(status) == JobReason.SUCCEEDED else Verdict.FAILED,
            "metrics": status.metrics,
            "requires": status.requires,
        }
    )


def _complete_reason(status: OptimizationJobStatus) -> str:
    complete = find(status.conditions, ConditionType.COMPLETE)
    return complete.reason if complete else ""


@dataclass(frozen=True)
class _Answer:
    """Status, reason and message of a condition."""

    status: bool | None
    reason: str
    message: str


def _waiting(variants: Sequence[Variant], known: Known) -> str:
    """Return which accelerators variants wait for, and why that may be in vain."""
    unfit = [known.unfit[variant.accelerator] for variant in variants if variant.accelerator in known.unfit]
    absent = ", ".join(variant.accelerator for variant in variants if variant.accelerator not in known.unfit)
    have = ", ".join(sorted(known.present)) or "none"
    told = [f"no node has the accelerator {absent}; the nodes have {have}"] if absent else []
    return "; ".join([*unfit, *told])


def _ready(variants: Sequence[Variant], wanted: Sequence[Wanted], known: Known) -> _Answer:
    if not wanted:
        return _Answer(False, ModelReason.WAITING_FOR_NODES, "no NodeProfile yet: is the device probe running?")  # noqa: FBT003
    waiting = [variant for variant in variants if known.missing(variant.accelerator) and variant.reason not in _DONE]
    failing = [variant for variant in variants if variant.reason not in _DONE and variant.reason not in _UNDERWAY]
    if failing:
        first = failing[0]
        told = "; ".join(f"{variant.accelerator}: {variant.message}" for variant in failing)
        kept = " The variant published before goes on serving." if first.artifact else ""
        return _Answer(False, first.reason, told + kept)  # noqa: FBT003
    underway = [variant for variant in variants if variant.reason not in _DONE and variant not in waiting]
    if underway:
        names = ", ".join(variant.accelerator for variant in underway)
        told = "; ".join(dict.fromkeys(variant.message for variant in underway if variant.message))
        reason = next((variant.reason for variant in underway if variant.reason in _MISSED), ModelReason.OPTIMIZING)
        vain = [known.unfit[variant.accelerator] for variant in waiting if variant.accelerator in known.unfit]
        message = "; ".join([f"optimizing for {names}: {told}".rstrip(": "), *vain])
        return _Answer(False, reason or "", message)  # noqa: FBT003
    if waiting and (known.asked or len(waiting) == len(variants)):
        return _Answer(False, ModelReason.WAITING_FOR_ACCELERATOR, _waiting(waiting, known))  # noqa: FBT003
    told = "; ".join(f"{variant.accelerator}: {variant.message}" for variant in variants)
    baseline = all(variant.reason == JobReason.BASELINE_ONLY for variant in variants)
    return _Answer(True, ModelReason.BASELINE_ONLY if baseline else ModelReason.OPTIMIZED, told)  # noqa: FBT003


_UNDERWAY = frozenset(
    str(reason)
    for reason in (
        JobReason.PENDING,
        JobReason.RUNNING,
        JobReason.SUSPENDED,
        JobReason.WAITING_FOR_ACCELERATOR,
        JobReason.SOURCE_UNREACHABLE,
        JobReason.SOURCE_NOT_FOUND,
        JobReason.REGISTRY_UNREACHABLE,
    )
)
_MISSED = frozenset(
    str(reason) for reason in (JobReason.SOURCE_UNREACHABLE, JobReason.SOURCE_NOT_FOUND, JobReason.REGISTRY_UNREACHABLE)
)
_SOURCE_TROUBLES = frozenset(
    str(reason)
    for reason in (
        JobReason.DIGEST_MISMATCH,
        JobReason.SOURCE_UNREACHABLE,
        JobReason.SOURCE_NOT_FOUND,
        JobReason.BAD_MODEL,
        JobReason.UNSUPPORTED_FORMAT,
    )
)


def _source(variants: Sequence[Variant], digest: str | None) -> _Answer:
    trouble = next((variant for variant in variants if variant.reason in _SOURCE_TROUBLES), None)
    if trouble is not None:
        return _Answer(False, trouble.reason, trouble.message)  # noqa: FBT003
    if digest is None:
        return _Answer(None, ModelReason.NOT_FETCHED, "the source has not been fetched yet")
    return _Answer(True, ModelReason.VERIFIED, f"sha256:{digest}")  # noqa: FBT003


def model_status(
    before: EdgeModelStatus,
    generation: int,
    wanted: Sequence[Wanted],
    jobs: Sequence[ObservedJob],
    known: Known,
    now: datetime,
) -> EdgeModelStatus:
    """Return a model's status as it follows from what was observed; `before` only keeps transition times."""
    variants = [_variant(item, jobs, known) for item in wanted]
    names = {item.name for item in wanted}
    current = [job for job in jobs if job.name in names]
    digest = next((job.status.digest for job in current if job.status.digest), None)
    facts = next((job.status.model for job in current if job.status.model), None)
    ready = _ready(variants, wanted, known)
    published = [variant for variant in variants if variant.artifact]
    fastest = max(published, key=_gain, default=None)
    optimized = _Answer(ready.status, ready.reason, f"{len(published)} of {len(variants)} variants published")
    conditions = tuple(before.conditions)
    for kind, answer in (
        (ConditionType.READY, ready),
        (ConditionType.SOURCE_VERIFIED, _source(variants, digest)),
        (ConditionType.OPTIMIZED, optimized),
    ):
        conditions = merged(
            conditions,
            kind,
            status=answer.status,
            reason=answer.reason,
            message=answer.message,
            generation=generation,
            now=now,
        )
    return EdgeModelStatus(
        conditions=list(conditions),
        observed_generation=generation,
        digest=digest,
        model=facts,
        variants=best_first(variants, wanted[0].spec) if wanted else [],
        variants_ready=f"{len(published)}/{len(variants)}",
        best=f"{fastest.framework}/{fastest.precision}" if fastest and fastest.framework else "",
        speedup=_speedup(fastest) if fastest else "",
    )


def _speedup(variant: Variant) -> str:
    latency = next((figure for figure in variant.metrics if figure.name is Metric.LATENCY_P95), None)
    return speedup(latency.baseline, latency.value) if latency is not None and latency.baseline is not None else ""


def _gain(variant: Variant) -> float:
    text = _speedup(variant).rstrip("x")
    return float(text) if text else 0.0
