"""EdgeModel: an OptimizationJob for each accelerator, and what came of them."""

from typing import Final

from pydantic import ValidationError

from skerry.api import labels
from skerry.api.edgemodel import EdgeModelSpec, EdgeModelStatus
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.reasons import ConditionType
from skerry.kube.gateway import Document
from skerry.kube.resources import EDGE_MODELS, OPTIMIZATION_JOBS
from skerry.manifests.common import owned_by, owner, recommended_labels
from skerry.planning.models import Known, ObservedJob, Wanted, model_status, outdated, superfluous, wanted_jobs
from skerry.reconcile.base import (
    Context,
    Key,
    conditions_of,
    gone,
    job_status,
    managed_selector,
    present,
    report,
    unfit,
)

ANEW_SECONDS: Final = 1.0


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring an EdgeModel's OptimizationJobs and status up to date; return when to look again."""
    gateway = context.gateway
    document = await gateway.get(EDGE_MODELS, key.namespace, key.name)
    if document is None or gone(document):
        return None
    metadata = document["metadata"]
    spec = EdgeModelSpec.model_validate(document["spec"])
    accelerators = await present(context)
    found = await gateway.list(OPTIMIZATION_JOBS, key.namespace, managed_selector(labels.MODEL, key.name))
    mine = {item["metadata"]["name"]: item for item in found if owned_by(item, metadata["uid"])}
    before = [_observed(item) for item in mine.values()]
    troubles = _unfit(context, spec, {*accelerators, *(job.accelerator for job in before)})
    known = Known(accelerators, troubles, asked=bool(spec.accelerators))
    begun = [job for job in before if job.accelerator not in known.unfit]
    wanted = wanted_jobs(key.name, spec, accelerators - known.unfit.keys(), begun)
    anew = outdated(before, wanted)
    for name in anew:
        await gateway.delete(OPTIMIZATION_JOBS, mine.pop(name))
    for job in wanted:
        # Not yet those just deleted: something may still hold them, and what is immutable cannot be applied over.
        if job.name not in mine and job.name not in anew:
            made = await gateway.apply(_optimization(document, job))
            mine[job.name] = made
    observed = [_observed(item) for item in mine.values()]
    status = model_status(
        EdgeModelStatus(conditions=conditions_of(document)),
        metadata["generation"],
        wanted,
        observed,
        known,
        context.now(),
    )
    await report(gateway, EDGE_MODELS, document, status, ConditionType.READY)
    serving = [variant.artifact for variant in status.variants if variant.artifact]
    for name in superfluous(observed, wanted, serving):
        await gateway.delete(OPTIMIZATION_JOBS, mine[name])
    return ANEW_SECONDS if anew else None


def _unfit(context: Context, spec: EdgeModelSpec, names: set[str]) -> dict[str, str]:
    """Return why nothing can be optimized for accelerators, of those named here and in the spec."""
    told = {name: unfit(context, name, asked=bool(spec.candidates)) for name in {*names, *spec.accelerators}}
    return {name: why for name, why in told.items() if why}


def _optimization(model: Document, job: Wanted) -> Document:
    metadata = model["metadata"]
    return {
        "apiVersion": model["apiVersion"],
        "kind": OPTIMIZATION_JOBS.kind,
        "metadata": {
            "name": job.name,
            "namespace": metadata["namespace"],
            "labels": {
                **recommended_labels("skerry-optimization", job.name, "optimization"),
                labels.MODEL: metadata["name"],
                labels.ACCELERATOR: job.accelerator,
            },
            "ownerReferences": [owner(model)],
        },
        # Without `suspend`: that field is the user's.
        "spec": {name: value for name, value in job.spec.wire().items() if name != "suspend"},
    }


def _observed(document: Document) -> ObservedJob:
    metadata = document["metadata"]
    status = job_status(document)
    try:
        spec = OptimizationJobSpec.model_validate(document["spec"])
    except ValidationError:
        spec = None
    return ObservedJob(metadata["name"], document["spec"]["accelerator"], metadata["creationTimestamp"], status, spec)
