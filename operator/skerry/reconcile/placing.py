"""Placing an EdgeDeployment's replicas: from the plan to Deployments and DaemonSets, without losing what serves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skerry.api import labels
from skerry.api.edgedeployment import EdgeDeploymentSpec, PlacementMode
from skerry.api.edgemodel import Variant
from skerry.api.quantities import added
from skerry.kube.gateway import Document
from skerry.kube.resources import CLAIM_TEMPLATES, DAEMON_SETS, DEPLOYMENTS, PODS, Resource
from skerry.manifests import serving
from skerry.manifests.common import owned_by
from skerry.planning.nodes import NodeState, Placed, placed, pod_requests
from skerry.planning.placement import plan
from skerry.planning.plans import Group, Plan, Settling, Wish
from skerry.reconcile import pernode
from skerry.reconcile.base import Context, ensure, gone
from skerry.reconcile.site import Seen

WORKLOADS: Final = (DEPLOYMENTS, DAEMON_SETS)
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_LOW: Final = "-100"


@dataclass(frozen=True)
class Present:
    """What an EdgeDeployment has now.

    Attributes:
        workloads: Its Deployments and DaemonSets.
        pods: Its pods that have not ended.
        rejected: Its pods that the kubelet has rejected, or that have failed: they do not come back.
    """

    workloads: list[tuple[Resource, Document]]
    pods: list[Document]
    rejected: list[Document]


async def observe(context: Context, document: Document) -> Present:
    """Return what an EdgeDeployment has now."""
    metadata = document["metadata"]
    selector = f"{labels.DEPLOYMENT}={metadata['name']}"
    workloads = [
        (resource, found)
        for resource in WORKLOADS
        for found in await context.gateway.list(resource, metadata["namespace"], selector)
        if owned_by(found, metadata["uid"])
    ]
    pods = await context.gateway.list(PODS, metadata["namespace"], selector)
    ended = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}]
    return Present(workloads, [pod for pod in pods if pod not in ended], ended)


def pod_ready(pod: Document) -> bool:
    """Tell whether a pod takes requests."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def accelerator_of(pod: Document) -> str:
    """Return the accelerator that a pod was placed on."""
    return str(pod["metadata"].get("labels", {}).get(labels.ACCELERATOR, ""))


GroupKey = tuple[str, str, str]


def group_of(document: Document) -> GroupKey:
    """Return the kind of a workload, or of that which made a pod, its accelerator, and who gives it devices."""
    metadata = document["metadata"]
    found = metadata.get("labels", {})
    kind = document["kind"]
    if kind not in {DEPLOYMENTS.kind, DAEMON_SETS.kind}:
        daemon = any(owner["kind"] == DAEMON_SETS.kind for owner in metadata.get("ownerReferences", []))
        kind = DAEMON_SETS.kind if daemon else DEPLOYMENTS.kind
    return kind, str(found.get(labels.ACCELERATOR, "")), str(found.get(labels.PLUGIN, ""))


def key_of(spec: EdgeDeploymentSpec, group: Group) -> GroupKey:
    """Return the same of a group of a plan."""
    return kind_of(spec).kind, group.accelerator, serving.plugin_of(group.resource)


def _requests_of(pod: Document) -> dict[str, int]:
    """Return what a pod that serves takes of its node, a claimed device among it."""
    resource = _claimed_by(pod)
    return added(pod_requests(pod["spec"]), {resource: 1} if resource else {})


def _claimed_by(pod: Document) -> str:
    """Return the resource that stands for the class of the device that a pod claims; empty where it claims none."""
    device_class = pod["metadata"].get("annotations", {}).get(labels.DEVICE_CLASS, "")
    return labels.resource_of_class(device_class) if device_class else ""


def _replica(pod: Document) -> Placed | None:
    container = pod["spec"]["containers"][0]
    limits = container.get("resources", {}).get("limits", {})
    resource = next((name for name in limits if "/" in name), "") or _claimed_by(pod)
    found = placed(pod, accelerator_of(pod), serving.artifact_of(pod), resource)
    return None if found is None else replace(found, requests=_requests_of(pod))


def decide(
    context: Context,
    document: Document,
    spec: EdgeDeploymentSpec,
    variants: Sequence[Variant],
    present: Present,
    seen: Seen,
) -> Plan:
    """Return where the replicas belong."""
    metadata = document["metadata"]
    known = [variant for variant in variants if variant.accelerator in context.catalogue]
    wish = Wish(
        f"{metadata['namespace']}/{metadata['name']}",
        spec.placement,
        known,
        _requests(context, document, spec, known),
    )
    replicas = [replica for pod in present.pods if (replica := _replica(pod)) is not None]
    settling = Settling(
        free_seconds=seen.free_seconds, rolling=not all(_settled(found) for _, found in present.workloads)
    )
    return plan(wish, _without_leaving(seen, present), replicas, settling)


def _without_leaving(seen: Seen, present: Present) -> list[NodeState]:
    """Return the nodes as if the deployment's own pods that are ending had ended: their places are for its new ones."""
    nodes = dict(seen.nodes)
    for pod in present.pods:
        state = nodes.get(pod["spec"].get("nodeName", ""))
        if state is not None and gone(pod):
            freed = {name: -many for name, many in _requests_of(pod).items()}
            nodes[state.name] = replace(state, taken=added(state.taken, freed))
    return list(nodes.values())


def _requests(
    context: Context, document: Document, spec: EdgeDeploymentSpec, known: Sequence[Variant]
) -> dict[str, int]:
    """Return what a pod asks for, without its device: that does not depend on the variant."""
    for variant in known:
        group = serving.Group(variant, context.catalogue[variant.accelerator], 1)
        made = serving.workload(document, spec, group, context.settings, image_volumes=context.image_volumes)
        return pod_requests(made["spec"]["template"]["spec"])
    return {}


def _settled(workload: Document) -> bool:
    """Tell whether a workload has rolled out what it describes."""
    status, generation = workload.get("status", {}), workload["metadata"].get("generation")
    if status.get("observedGeneration") != generation:
        return False
    if workload["kind"] == DAEMON_SETS.kind:
        wanted, now = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        return bool(wanted == now == status.get("numberReady", 0))
    wanted = workload["spec"]["replicas"]
    return bool(
        wanted == status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == status.get("replicas", 0)
    )


async def carry_out(
    context: Context,
    document: Document,
    spec: EdgeDeploymentSpec,
    variants: Mapping[str, Variant],
    decided: Plan,
    present: Present,
    seen: Seen,
) -> None:
    """Make the workloads as they were decided; what serves goes when what replaces it is ready, or when it is dead."""
    wanted = {key_of(spec, group): group for group in decided.groups}
    if kind_of(spec) is DAEMON_SETS and _may_go(decided):
        await pernode.mark(context.gateway, document, decided, seen.nodes)
    ready = Counter(group_of(pod) for pod in present.pods if pod_ready(pod))
    arriving = any(ready[key] < group.replicas for key, group in wanted.items())
    for key, group in wanted.items():
        replicas = group.replicas
        if arriving:
            replicas = max(replicas, min(ready[key], _replicas(present, key)))
        variant, groups = variants[group.accelerator], _file_groups(group, key, present, seen)
        made = _workload(context, document, spec, variant, group, replicas, groups)
        if (template := serving.claim_template(document, spec, group.resource)) is not None:
            await ensure(context.gateway, template)
        await ensure(context.gateway, made)
    await _clear(context, decided, present, seen)
    for resource, found in present.workloads:
        key = group_of(found)
        needed = arriving and ready[key] and decided.groups
        if key not in wanted and not needed and not gone(found) and _may_go(decided):
            await context.gateway.delete(resource, found)


def children(document: Document, spec: EdgeDeploymentSpec, decided: Plan) -> list[tuple[Resource, str]]:
    """Return the kinds and names of what a plan needs."""
    name = document["metadata"]["name"]
    needed = [(kind_of(spec), serving.group_name(name, group.accelerator, group.resource)) for group in decided.groups]
    templates = (serving.claim_template(document, spec, group.resource) for group in decided.groups)
    return [*needed, *((CLAIM_TEMPLATES, template["metadata"]["name"]) for template in templates if template)]


def kind_of(spec: EdgeDeploymentSpec) -> Resource:
    """Return what runs a group of replicas."""
    return DAEMON_SETS if spec.placement.mode is PlacementMode.PER_NODE else DEPLOYMENTS


def _may_go(decided: Plan) -> bool:
    """Tell whether workloads may be removed: while there is no place for anything, what serves had better stay."""
    return bool(decided.groups) or decided.wanted == 0


def _file_groups(group: Group, key: GroupKey, present: Present, seen: Seen) -> tuple[int, ...]:
    """Return the groups of the device files on the nodes of a group's pods.

    Those that the pods are in already stay: a device that comes back with another group must not restart them twice.
    """
    found = {number for node in group.nodes for number in seen.groups.get((node, group.accelerator), ())}
    for _, workload in present.workloads:
        if group_of(workload) == key:
            found.update(workload["spec"]["template"]["spec"]["securityContext"].get("supplementalGroups", []))
    return tuple(sorted(found))


def _replicas(present: Present, key: GroupKey) -> int:
    return sum(found["spec"].get("replicas", 0) for _, found in present.workloads if group_of(found) == key)


def _workload(
    context: Context,
    document: Document,
    spec: EdgeDeploymentSpec,
    variant: Variant,
    group: Group,
    replicas: int,
    groups: tuple[int, ...],
) -> Document:
    entry = context.catalogue[group.accelerator]
    per_node = spec.placement.mode is PlacementMode.PER_NODE
    metadata = document["metadata"]
    mark = pernode.label_of(metadata["namespace"], metadata["name"]) if per_node else ""
    wanted = serving.Group(variant, entry, None if per_node else replicas, group.resource, groups, mark)
    return serving.workload(document, spec, wanted, context.settings, image_volumes=context.image_volumes)


async def _clear(context: Context, decided: Plan, present: Present, seen: Seen) -> None:
    """Remove pods that do not come back, and those whose device or node is gone; let others that leave go first."""
    for pod in present.rejected:
        status = pod.get("status", {})
        note = f"{pod['metadata']['name']} was removed: {status.get('reason', '')}: {status.get('message', '')}"
        await context.gateway.event(pod, kind="Warning", reason="PodReplaced", action="Reconcile", note=note)
        await context.gateway.delete(PODS, pod)
    leaving = {leaving.replica.name: leaving.replica for leaving in decided.leaving} if decided.groups else {}
    for pod in present.pods:
        replica = leaving.get(pod["metadata"]["name"])
        if replica is None or gone(pod):
            continue
        if _dead(replica, seen):
            await context.gateway.delete(PODS, pod)
        elif pod["metadata"].get("annotations", {}).get(DELETION_COST) != _LOW:
            change: dict[str, Any] = {"metadata": {"annotations": {DELETION_COST: _LOW}}}
            await context.gateway.merge(PODS, pod, change)


def _dead(replica: Placed, seen: Seen) -> bool:
    """Tell whether a replica cannot serve where it is: its node or its device is gone."""
    node = seen.nodes.get(replica.node)
    if node is None or not node.ready or replica.device_healthy is False:
        return True
    accelerator = node.accelerators.get(replica.accelerator)
    return accelerator is None or accelerator.healthy == 0
