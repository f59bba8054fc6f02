"""How an EdgeDeployment stands: its status, from the plan and from its pods."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from skerry.api import labels
from skerry.api.conditions import merged
from skerry.api.edgedeployment import (
    DeviceInUse,
    EdgeDeploymentSpec,
    EdgeDeploymentStatus,
    Fallback,
    PlacementMode,
    PlacementStatus,
)
from skerry.api.edgemodel import Variant
from skerry.api.reasons import ConditionType, DeploymentReason
from skerry.kube.errors import ApiError
from skerry.kube.gateway import Document
from skerry.manifests import serving
from skerry.planning.plans import Plan
from skerry.reconcile.base import Context, conditions_of, gone
from skerry.reconcile.placing import GroupKey, Present, accelerator_of, group_of, key_of, pod_ready

PROBED_PODS: Final = 50
_TEXT: Final = 256


@dataclass(frozen=True)
class Answer:
    """The Ready condition."""

    ready: bool
    reason: DeploymentReason
    message: str


@dataclass(frozen=True)
class Standing:
    """The status, and whether everything has been rolled out and seen."""

    status: EdgeDeploymentStatus
    settled: bool


async def standing(
    context: Context,
    document: Document,
    spec: EdgeDeploymentSpec,
    present: Present,
    variants: Sequence[Variant],
    decided: Plan | Answer,
) -> Standing:
    """Return the status of an EdgeDeployment, given the plan or why there is none."""
    metadata = document["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    pods = present.pods
    ready = [pod for pod in pods if pod_ready(pod)]
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running" and not gone(pod)]
    asked = running[:PROBED_PODS]
    probed = await asyncio.gather(*(_device(context, pod, spec.model_name) for pod in asked))
    devices = [device for device in probed if device is not None]
    rolled = isinstance(decided, Plan) and _rolled_out(spec, decided, present, ready)
    answer = decided if isinstance(decided, Answer) else _serving(decided, rolled, present, ready)
    wanted = spec.placement.replicas
    if spec.placement.mode is PlacementMode.PER_NODE:
        wanted = decided.wanted if isinstance(decided, Plan) else len(pods)
    served = {variant.artifact: variant for variant in variants}
    placements = _placements(present, ready, devices)
    shown = dict.fromkeys(_words(served.get(placement.artifact)) for placement in placements)
    old = document.get("status", {})
    status = EdgeDeploymentStatus(
        conditions=list(conditions_of(document)),
        observed_generation=metadata["generation"],
        replicas=len(pods),
        ready_replicas=len(ready),
        waiting_replicas=max(0, decided.waiting) if isinstance(decided, Plan) else 0,
        selector=f"{labels.DEPLOYMENT}={name}",
        revision=_revision(present),
        variant=", ".join(word for word in shown if word)[:256] or str(old.get("variant", "")),
        devices=_counted(devices),
        replica_summary=f"{len(ready)}/{wanted}",
        placements=placements,
        url=f"http://{name}.{namespace}.svc:{spec.service.port}" if present.workloads else "",
    )
    fallback = spec.placement.fallback
    status = _with_conditions(status, document, answer, devices, fallback, rolled=rolled, context=context)
    seen = len(devices) >= min(len(ready), PROBED_PODS)
    return Standing(status, settled=rolled and seen)


def _words(variant: Variant | None) -> str:
    return f"{variant.framework}/{variant.precision}" if variant is not None and variant.framework else ""


async def _device(context: Context, pod: Document, model: str) -> DeviceInUse | None:
    """Ask a pod on which device it executes; None when it does not answer."""
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
    return DeviceInUse(pod=metadata["name"], node=node, device=device[:_TEXT], verified=device == expected)


def _revisions(present: Present) -> dict[GroupKey, str]:
    """Return the revision that is rolled out for each group."""
    return {
        group_of(found): found["spec"]["template"]["metadata"]["labels"].get(labels.REVISION, "")
        for _, found in present.workloads
        if not gone(found)
    }


def _revision(present: Present) -> str:
    """Return what stands for all that runs: the revision of the workload, or of all together."""
    found = sorted(_revisions(present).items())
    if len(found) < 2:  # noqa: PLR2004 - one revision needs no other name
        return found[0][1] if found else ""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:10]


def _rolled_out(spec: EdgeDeploymentSpec, decided: Plan, present: Present, ready: list[Document]) -> bool:
    revisions = _revisions(present)
    fresh = Counter(
        group_of(pod) for pod in ready if pod["metadata"]["labels"].get(labels.REVISION) == revisions.get(group_of(pod))
    )
    wanted = Counter({key_of(spec, group): group.replicas for group in decided.groups})
    living = sum(not gone(pod) for pod in present.pods)
    return +fresh == +wanted and living == wanted.total() and decided.waiting == 0


def _serving(decided: Plan, rolled: bool, present: Present, ready: list[Document]) -> Answer:  # noqa: FBT001
    if decided.reason is not None:
        served = f"{len(ready)} of {decided.wanted} pods serve; " if ready else ""
        return Answer(False, decided.reason, served + decided.message)  # noqa: FBT003
    if rolled:
        note = f". {decided.message}" if decided.message else ""
        return Answer(True, DeploymentReason.SERVING, f"{len(ready)} of {decided.wanted} pods serve{note}")  # noqa: FBT003
    told = [*(_trouble(pod) for pod in present.pods), *(_no_pods(workload) for _, workload in present.workloads)]
    trouble = "; ".join(dict.fromkeys(filter(None, told)))
    if ready:
        message = f"{len(ready)} pods serve while the newest revision is rolled out. {trouble}".strip()
        return Answer(False, DeploymentReason.ROLLING_OUT, message)  # noqa: FBT003
    message = f"no pod is ready yet. {trouble}".strip()
    return Answer(False, DeploymentReason.WAITING_FOR_PODS, message)  # noqa: FBT003


def _no_pods(workload: Document) -> str:
    """Return why no pod can be made, in the words of the API server: a quota, an admission policy, a missing class."""
    for condition in workload.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return f"no pod can be made: {condition.get('message', '')}"[:600]
    return ""


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


def _placements(present: Present, ready: list[Document], devices: list[DeviceInUse]) -> list[PlacementStatus]:
    by_accelerator: dict[str, list[Document]] = {}
    for _, workload in present.workloads:
        if not gone(workload):
            by_accelerator.setdefault(accelerator_of(workload), []).append(workload)
    return [
        _placement(accelerator, workloads, [pod for pod in ready if accelerator_of(pod) == accelerator], devices)
        for accelerator, workloads in sorted(by_accelerator.items())
    ]


def _placement(
    accelerator: str, workloads: list[Document], ready: list[Document], devices: list[DeviceInUse]
) -> PlacementStatus:
    names = {pod["metadata"]["name"] for pod in ready}
    counts = (
        found["spec"].get("replicas", found.get("status", {}).get("desiredNumberScheduled", 0)) for found in workloads
    )
    return PlacementStatus(
        accelerator=accelerator,
        artifact=serving.artifact_of(workloads[0]["spec"]["template"]),
        replicas=sum(counts),
        ready_replicas=len(ready),
        nodes=sorted({pod["spec"].get("nodeName", "") for pod in ready})[:256],
        devices=sorted((each for each in devices if each.pod in names), key=lambda each: each.pod)[:256],
    )


_OVERRULED: Final = frozenset(
    {DeploymentReason.SERVING, DeploymentReason.ROLLING_OUT, DeploymentReason.WAITING_FOR_PODS}
)


def _with_conditions(
    status: EdgeDeploymentStatus,
    document: Document,
    answer: Answer,
    devices: list[DeviceInUse],
    fallback: Fallback,
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
    if wrong and fallback is Fallback.DENY and answer.reason in _OVERRULED:
        answer = Answer(False, DeploymentReason.ACCELERATION_NOT_VERIFIED, verified[2])  # noqa: FBT003
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
