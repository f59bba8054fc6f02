"""What people are told when the API server refuses what their object asks for."""

from typing import Final

from skerry.api.conditions import merged
from skerry.api.edgedeployment import EdgeDeploymentStatus
from skerry.api.edgemodel import EdgeModelStatus
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.api.reasons import REFUSED, ConditionType
from skerry.kube.errors import ApiError
from skerry.kube.resources import EDGE_DEPLOYMENTS, EDGE_MODELS, OPTIMIZATION_JOBS, Resource
from skerry.reconcile.base import Context, Key, conditions_of, gone, report

_Status = type[EdgeModelStatus | OptimizationJobStatus | EdgeDeploymentStatus]
_KINDS: Final[dict[str, tuple[Resource, _Status, ConditionType]]] = {
    EDGE_MODELS.kind: (EDGE_MODELS, EdgeModelStatus, ConditionType.READY),
    OPTIMIZATION_JOBS.kind: (OPTIMIZATION_JOBS, OptimizationJobStatus, ConditionType.COMPLETE),
    EDGE_DEPLOYMENTS.kind: (EDGE_DEPLOYMENTS, EdgeDeploymentStatus, ConditionType.READY),
}


async def tell(context: Context, key: Key, error: ApiError) -> None:
    """Write the refusal into the object's leading condition, once; all else of its status stays.

    Raises:
        ApiError: The status cannot be written either.
    """
    if key.kind not in _KINDS:
        return
    resource, kind, leading = _KINDS[key.kind]
    document = await context.gateway.get(resource, key.namespace, key.name)
    if document is None or gone(document):
        return
    generation = document["metadata"]["generation"]
    kept = "; what was rolled out before goes on serving" if document.get("status", {}).get("readyReplicas") else ""
    conditions = merged(
        conditions_of(document),
        leading,
        status=False,
        reason=REFUSED,
        message=f"the API server refuses what this {key.kind} needs: {error.told}{kept}",
        generation=generation,
        now=context.now(),
    )
    status = kind.model_validate(document.get("status", {}))
    new = status.model_copy(update={"conditions": list(conditions), "observed_generation": generation})
    await report(context.gateway, resource, document, new, leading)
