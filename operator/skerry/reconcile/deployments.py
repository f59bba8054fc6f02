"""EdgeDeployment: what serves a model's variants, and what it really runs on."""

from collections.abc import Sequence
from typing import Final

from skerry.api.edgedeployment import EdgeDeploymentSpec
from skerry.api.edgemodel import EdgeModelStatus, Variant
from skerry.api.reasons import ConditionType, DeploymentReason
from skerry.kube.gateway import Document
from skerry.kube.resources import BUDGETS, EDGE_DEPLOYMENTS, EDGE_MODELS, SERVICES, Resource
from skerry.manifests import serving
from skerry.manifests.common import owned_by
from skerry.planning.plans import Plan
from skerry.reconcile import placing
from skerry.reconcile.base import Context, Key, ensure, gone, missing_credentials, registry_credentials, report
from skerry.reconcile.placing import Present
from skerry.reconcile.standing import Answer, standing

POLL_SECONDS: Final = 3.0
MISSING_SECONDS: Final = 30.0
WAITING_SECONDS: Final = 10.0


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring an EdgeDeployment's objects and status up to date; return when to look again."""
    gateway = context.gateway
    document = await gateway.get(EDGE_DEPLOYMENTS, key.namespace, key.name)
    if document is None or gone(document):
        return None
    spec = EdgeDeploymentSpec.model_validate(document["spec"])
    taken = await _taken(context, document, [(SERVICES, key.name), (BUDGETS, key.name)])
    if taken is not None:
        return await _report(context, document, spec, Present([], [], []), (), taken)
    if not await _share_credentials(context, document):
        told = missing_credentials(context, context.settings.registry.pull_credentials_secret)
        answer = Answer(False, DeploymentReason.REGISTRY_UNREACHABLE, told)  # noqa: FBT003
        await _report(context, document, spec, await placing.observe(context, document), (), answer)
        return MISSING_SECONDS
    present = await placing.observe(context, document)
    found = await _variants(context, key, spec)
    if isinstance(found, Answer):
        if present.workloads:
            # What served before goes on serving; only the reason why nothing newer does is told.
            found = Answer(found.ready, found.reason, f"{found.message}; what was rolled out before goes on serving")
        return await _report(context, document, spec, present, (), found)
    seen = await context.site.look(gateway, context.catalogue, context.now)
    decided = placing.decide(context, document, spec, found, present, seen)
    taken = await _taken(context, document, placing.children(document, spec, decided))
    if taken is not None:
        return await _report(context, document, spec, present, found, taken)
    await ensure(gateway, serving.service(document, spec))
    await _budget(context, document, spec)
    variants = {variant.accelerator: variant for variant in found}
    await placing.carry_out(context, document, spec, variants, decided, present, seen)
    return await _report(context, document, spec, await placing.observe(context, document), found, decided)


async def _taken(context: Context, document: Document, needed: Sequence[tuple[Resource, str]]) -> Answer | None:
    """Return what to say of a foreign object that has a name which we need; None when there is none."""
    metadata = document["metadata"]
    for resource, name in needed:
        found = await context.gateway.get(resource, metadata["namespace"], name)
        if found is not None and not owned_by(found, metadata["uid"]):
            message = (
                f"a {resource.kind} named {name} exists already and is not Skerry's: "
                "rename this EdgeDeployment or remove it"
            )
            return Answer(False, DeploymentReason.NAME_TAKEN, message)  # noqa: FBT003
    return None


async def _share_credentials(context: Context, document: Document) -> bool:
    """Put the credentials to pull beside the pods that need them; tell whether all that is needed is there."""
    name = context.settings.registry.pull_credentials_secret
    if not name:
        return True
    credentials = await registry_credentials(context, name)
    if credentials is None:
        return False
    await context.gateway.apply(serving.pull_secret(document, credentials))
    return True


async def _variants(context: Context, key: Key, spec: EdgeDeploymentSpec) -> list[Variant] | Answer:
    """Return the model's variants that are published and can be served, or why there is none."""
    model = await context.gateway.get(EDGE_MODELS, key.namespace, spec.model_name)
    if model is None:
        message = f"there is no EdgeModel {spec.model_name!r} in namespace {key.namespace}; waiting for it"
        return Answer(False, DeploymentReason.MODEL_NOT_FOUND, message)  # noqa: FBT003
    status = EdgeModelStatus.model_validate(model.get("status", {}))
    published = [found for found in status.variants if found.artifact]
    served = [found for found in published if context.settings.serving_image(found.framework)]
    if served:
        return served
    if published:
        frameworks = ", ".join(sorted({str(found.framework) for found in published}))
        message = (
            f"the variants of {spec.model_name!r} are for {frameworks}, and this installation has no image that serves "
            "these; the chart's values images.server-… give such images"
        )
        return Answer(False, DeploymentReason.NO_SERVER_IMAGE, message)  # noqa: FBT003
    why = next((c.message for c in status.conditions if c.type == ConditionType.READY), "it has not been looked at yet")
    message = f"the EdgeModel {spec.model_name!r} has no variant yet: {why}"
    return Answer(False, DeploymentReason.WAITING_FOR_MODEL, message)  # noqa: FBT003


async def _budget(context: Context, document: Document, spec: EdgeDeploymentSpec) -> None:
    """Apply the disruption budget, or remove the one that is no longer wanted."""
    metadata = document["metadata"]
    budget = serving.budget(document, spec)
    if budget is not None:
        await ensure(context.gateway, budget)
    elif (old := await context.gateway.get(BUDGETS, metadata["namespace"], metadata["name"])) is not None:
        await context.gateway.delete(BUDGETS, old)


async def _report(
    context: Context,
    document: Document,
    spec: EdgeDeploymentSpec,
    present: Present,
    variants: Sequence[Variant],
    decided: Plan | Answer,
) -> float | None:
    """Write the status and return when to look again."""
    found = await standing(context, document, spec, present, variants, decided)
    await report(context.gateway, EDGE_DEPLOYMENTS, document, found.status, ConditionType.READY)
    if isinstance(decided, Answer):
        # A foreign object that goes away tells nobody.
        return WAITING_SECONDS if decided.reason is DeploymentReason.NAME_TAKEN else None
    pauses = [decided.look_again_seconds, None if found.settled else POLL_SECONDS]
    if decided.waiting or decided.message:
        # Not all is as it could be, and what others give back tells nobody.
        pauses.append(WAITING_SECONDS)
    return min((pause for pause in pauses if pause is not None), default=None)
