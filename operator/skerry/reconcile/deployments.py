"""EdgeDeployment: what serves a model's variant, and what it really runs on."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import Final

from skerry.api import labels
from skerry.api.conditions import merged
from skerry.api.edgedeployment import DeviceInUse, EdgeDeploymentSpec, EdgeDeploymentStatus, PlacementStatus
from skerry.api.edgemodel import EdgeModelStatus, Variant
from skerry.api.reasons import ConditionType, DeploymentReason
from skerry.kube.errors import ApiError
from skerry.kube.gateway import Document
from skerry.kube.resources import BUDGETS, DEPLOYMENTS, EDGE_DEPLOYMENTS, EDGE_MODELS, PODS, SERVICES, Resource
from skerry.manifests import serving
from skerry.manifests.common import owned_by
from skerry.planning.placement import choose_variant
from skerry.reconcile.base import (
    Context,
    Key,
    conditions_of,
    gone,
    missing_credentials,
    present,
    registry_credentials,
    report,
)

POLL_SECONDS: Final = 3.0
MISSING_SECONDS: Final = 30.0
PROBED_PODS: Final = 50


@dataclass(frozen=True)
class _Answer:
    """The Ready condition."""

    ready: bool
    reason: DeploymentReason
    message: str


async def reconcile(context: Context, key: Key) -> float | None:
    """Bring an EdgeDeployment's objects and status up to date; return when to look again."""
    gateway = context.gateway
    document = await gateway.get(EDGE_DEPLOYMENTS, key.namespace, key.name)
    if document is None or gone(document):
        return None
    spec = EdgeDeploymentSpec.model_validate(document["spec"])
    taken = await _taken(context, document)
    if taken is not None:
        message = (
            f"a {taken} named {key.name} exists already and is not Skerry's: rename this EdgeDeployment or remove it"
        )
        return await _report(context, document, spec, _Answer(False, DeploymentReason.NAME_TAKEN, message), None)  # noqa: FBT003
    if not await _share_credentials(context, document):
        told = missing_credentials(context, context.settings.registry.pull_credentials_secret)
        answer = _Answer(False, DeploymentReason.REGISTRY_UNREACHABLE, told)  # noqa: FBT003
        await _report(context, document, spec, answer, None)
        return MISSING_SECONDS
    chosen = await _chosen(context, key, spec)
    current = await gateway.get(DEPLOYMENTS, key.namespace, key.name)
    if isinstance(chosen, Variant):
        current = await _apply(context, document, spec, chosen, current)
        if current is None:
            return 1.0
        return await _report(context, document, spec, None, chosen)
    if current is not None:
        # What served before goes on serving; only the reason why nothing newer does is told.
        message = f"{chosen.message}; what was rolled out before goes on serving"
        chosen = _Answer(chosen.ready, chosen.reason, message)
    return await _report(context, document, spec, chosen, None)


async def _taken(context: Context, document: Document) -> str | None:
    """Return the kind of a foreign object that has a name which we need."""
    metadata = document["metadata"]
    for resource in (DEPLOYMENTS, SERVICES, BUDGETS):
        found = await context.gateway.get(resource, metadata["namespace"], metadata["name"])
        if found is not None and not owned_by(found, metadata["uid"]):
            return resource.kind
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


async def _chosen(context: Context, key: Key, spec: EdgeDeploymentSpec) -> Variant | _Answer:
    """Return the variant to serve, or why there is none."""
    model = await context.gateway.get(EDGE_MODELS, key.namespace, spec.model_name)
    if model is None:
        message = f"there is no EdgeModel {spec.model_name!r} in namespace {key.namespace}; waiting for it"
        return _Answer(False, DeploymentReason.MODEL_NOT_FOUND, message)  # noqa: FBT003
    status = EdgeModelStatus.model_validate(model.get("status", {}))
    accelerators = await present(context.gateway)
    variant = choose_variant(status.variants, spec.placement.accelerators, accelerators)
    if variant is not None:
        return variant
    published = [found.accelerator for found in status.variants if found.artifact]
    if not published:
        why = next(
            (c.message for c in status.conditions if c.type == ConditionType.READY), "it has not been looked at yet"
        )
        message = f"the EdgeModel {spec.model_name!r} has no variant yet: {why}"
        return _Answer(False, DeploymentReason.WAITING_FOR_MODEL, message)  # noqa: FBT003
    wanted = ", ".join(spec.placement.accelerators) or "any of these"
    message = (
        f"the EdgeModel has variants for {', '.join(published)}, the nodes have {', '.join(sorted(accelerators))}, "
        f"placement.accelerators wants {wanted}"
    )
    return _Answer(False, DeploymentReason.WAITING_FOR_ACCELERATOR, message)  # noqa: FBT003


def _equal(wanted: object, found: object) -> bool:
    """Tell whether an object has all that is wanted; what the API server added does not matter."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_equal(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(_equal(one, other) for one, other in zip(wanted, found, strict=True))
        )
    return wanted == found


async def _ensure(context: Context, resource: Resource, wanted: Document) -> Document:
    """Apply an object unless it is as it is wanted already."""
    metadata = wanted["metadata"]
    found = await context.gateway.get(resource, metadata["namespace"], metadata["name"])
    if found is not None and _equal(wanted, found):
        return found
    return await context.gateway.apply(wanted)


async def _apply(
    context: Context, document: Document, spec: EdgeDeploymentSpec, variant: Variant, current: Document | None
) -> Document | None:
    """Apply Deployment, Service and budget; None while something old is still being deleted."""
    if current is not None and gone(current):
        return None
    wanted = serving.serving_deployment(document, spec, variant, context.settings, image_volumes=context.image_volumes)
    await _ensure(context, SERVICES, serving.service(document, spec))
    budget = serving.budget(document, spec)
    metadata = document["metadata"]
    if budget is not None:
        await _ensure(context, BUDGETS, budget)
    elif (old := await context.gateway.get(BUDGETS, metadata["namespace"], metadata["name"])) is not None:
        await context.gateway.delete(BUDGETS, old)
    return await _ensure(context, DEPLOYMENTS, wanted)


def _pod_ready(pod: Document) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


async def _device(context: Context, pod: Document, model: str) -> DeviceInUse | None:
    """Ask a ready pod on which device it executes; None when it does not answer."""
    metadata = pod["metadata"]
    try:
        data = await context.gateway.pod_get(
            metadata["namespace"], metadata["name"], serving.PORT, f"/v2/models/{model}"
        )
        facts = json.loads(data)["skerry"]
        device, expected = str(facts["executionDevice"]), str(facts["expectedDevice"])
    except (ApiError, ValueError, KeyError, TypeError):
        return None
    node = pod["spec"].get("nodeName", "")
    return DeviceInUse(pod=metadata["name"], node=node, device=device, verified=device == expected)


async def _report(
    context: Context, document: Document, spec: EdgeDeploymentSpec, answer: _Answer | None, variant: Variant | None
) -> float | None:
    """Write the status; without an answer it follows from the Deployment and its pods."""
    metadata = document["metadata"]
    name, namespace, generation = metadata["name"], metadata["namespace"], metadata["generation"]
    pods = await context.gateway.list(PODS, namespace, f"{labels.DEPLOYMENT}={name}")
    pods = [pod for pod in pods if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]
    ready = [pod for pod in pods if _pod_ready(pod)]
    probed = await asyncio.gather(*(_device(context, pod, spec.model_name) for pod in ready[:PROBED_PODS]))
    devices = [device for device in probed if device is not None]
    deployment = await context.gateway.get(DEPLOYMENTS, namespace, name)
    revision = ""
    if deployment is not None:
        revision = deployment["spec"]["template"]["metadata"]["labels"].get(labels.REVISION, "")
    rolled = _rolled_out(deployment, spec, pods, ready, revision)
    if answer is None:
        answer = _serving(rolled, spec, pods, ready)
    status = EdgeDeploymentStatus(
        conditions=list(conditions_of(document)),
        observed_generation=generation,
        replicas=len(pods),
        ready_replicas=len(ready),
        selector=f"{labels.DEPLOYMENT}={name}",
        revision=revision,
        variant=f"{variant.framework}/{variant.precision}" if variant and variant.framework else _kept(document),
        devices=_counted(devices),
        replica_summary=f"{len(ready)}/{spec.placement.replicas}",
        placements=_placements(variant, spec, ready, devices),
        url=f"http://{name}.{namespace}.svc:{spec.service.port}" if deployment is not None else "",
    )
    status = _with_conditions(status, document, answer, devices, rolled=rolled, context=context)
    await report(context.gateway, EDGE_DEPLOYMENTS, document, status, ConditionType.READY)
    unseen = len(devices) < min(len(ready), PROBED_PODS)
    return POLL_SECONDS if (variant is not None and not rolled) or unseen else None


def _kept(document: Document) -> str:
    return str(document.get("status", {}).get("variant", ""))


def _rolled_out(
    deployment: Document | None, spec: EdgeDeploymentSpec, pods: list[Document], ready: list[Document], revision: str
) -> bool:
    if deployment is None:
        return False
    fresh = [pod for pod in ready if pod["metadata"].get("labels", {}).get(labels.REVISION) == revision]
    return len(fresh) == spec.placement.replicas == len([pod for pod in pods if not gone(pod)])


def _serving(rolled: bool, spec: EdgeDeploymentSpec, pods: list[Document], ready: list[Document]) -> _Answer:  # noqa: FBT001
    if rolled:
        return _Answer(True, DeploymentReason.SERVING, f"{len(ready)} of {spec.placement.replicas} pods serve")  # noqa: FBT003
    trouble = "; ".join(dict.fromkeys(filter(None, (_trouble(pod) for pod in pods))))
    if ready:
        message = f"{len(ready)} pods serve while the newest revision is rolled out. {trouble}".strip()
        return _Answer(False, DeploymentReason.ROLLING_OUT, message)  # noqa: FBT003
    message = f"no pod is ready yet. {trouble}".strip()
    return _Answer(False, DeploymentReason.WAITING_FOR_PODS, message)  # noqa: FBT003


def _trouble(pod: Document) -> str:
    """Return what keeps a pod from serving, in the words of scheduler, kubelet or server."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            last = container.get("lastState", {}).get("terminated", {}).get("message", "")
            return f"{name}: {waiting['reason']}: {last or waiting.get('message', '')}"[:600]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{name} cannot be placed: {condition.get('message', '')}"[:600]
    return ""


def _short(device: str) -> str:
    return device.removesuffix("ExecutionProvider")


def _counted(devices: list[DeviceInUse]) -> str:
    counts = Counter(_short(device.device) for device in devices)
    return " ".join(f"{device}:{count}" for device, count in sorted(counts.items()))


def _placements(
    variant: Variant | None, spec: EdgeDeploymentSpec, ready: list[Document], devices: list[DeviceInUse]
) -> list[PlacementStatus]:
    if variant is None or variant.artifact is None:
        return []
    return [
        PlacementStatus(
            accelerator=variant.accelerator,
            artifact=variant.artifact,
            replicas=spec.placement.replicas,
            ready_replicas=len(ready),
            nodes=sorted({pod["spec"].get("nodeName", "") for pod in ready})[:256],
            devices=sorted(devices, key=lambda device: device.pod),
        )
    ]


def _with_conditions(
    status: EdgeDeploymentStatus,
    document: Document,
    answer: _Answer,
    devices: list[DeviceInUse],
    *,
    rolled: bool,
    context: Context,
) -> EdgeDeploymentStatus:
    wrong = [device for device in devices if not device.verified]
    if wrong:
        told = "; ".join(f"{device.pod} executes on {device.device}" for device in wrong)
        verified = (False, DeploymentReason.ACCELERATION_NOT_VERIFIED, told)
    elif devices:
        verified = (True, DeploymentReason.ACCELERATION_VERIFIED, f"every pod asked executes on {_counted(devices)}")
    else:
        verified = (None, DeploymentReason.NO_PODS, "no ready pod has said on which device it executes")  # type: ignore[assignment]
    if wrong and answer.ready:
        answer = _Answer(False, DeploymentReason.ACCELERATION_NOT_VERIFIED, verified[2])  # noqa: FBT003
    moving = not rolled and answer.reason in {DeploymentReason.ROLLING_OUT, DeploymentReason.WAITING_FOR_PODS}
    progressing = DeploymentReason.ROLLING_OUT if moving else DeploymentReason.ROLLED_OUT
    conditions = tuple(status.conditions)
    for kind, state, reason, message in (
        (ConditionType.READY, answer.ready, answer.reason, answer.message),
        (ConditionType.PROGRESSING, moving, progressing if rolled or moving else answer.reason, ""),
        (ConditionType.ACCELERATION_VERIFIED, *verified),
    ):
        conditions = merged(
            conditions,
            kind,
            status=state,
            reason=reason,
            message=message,
            generation=document["metadata"]["generation"],
            now=context.now(),
        )
    return status.model_copy(update={"conditions": list(conditions)})
