"""Nodes, variants and deployments in few words, and what becomes of a plan that is carried out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from skerry.api.edgedeployment import Placement
from skerry.api.edgemodel import Variant
from skerry.api.nodeprofile import OfferedBy
from skerry.api.quantities import added, amounts
from skerry.api.types import Metric, MetricFigure, Requirements
from skerry.planning.nodes import NodeAccelerator, NodeState, Placed, Taint
from skerry.planning.plans import Plan, Settling, Wish

REQUESTS = {**amounts({"cpu": "500m", "memory": "512Mi"}), "pods": 1}
ROOM = {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "110"}
NPU = "intel-npu"


def own(name: str) -> str:
    """Return the resource of Skerry's own plugin."""
    return f"skerry.dev/{name}"


def node(
    name: str,
    devices: Mapping[str, int] | None = None,
    *,
    room: Mapping[str, str] | None = None,
    taken: Mapping[str, int] | None = None,
    taints: Iterable[Taint] = (),
    **fields: Any,
) -> NodeState:
    """Return a healthy amd64 node with a CPU and that many devices of each accelerator, offered by Skerry."""
    found = {"cpu": NodeAccelerator("cpu")}
    allocatable = amounts({**ROOM, **(room or {})})
    for accelerator, many in (devices or {}).items():
        found[accelerator] = NodeAccelerator(accelerator, own(accelerator), OfferedBy.SKERRY, healthy=many, total=many)
        allocatable[own(accelerator)] = many
    fields = {"architecture": "amd64", "features": frozenset({"avx2"}), "accelerators": found, **fields}
    return NodeState(name, allocatable=allocatable, taken=taken or {}, taints=tuple(taints), **fields)


def unplugged(state: NodeState, accelerator: str, many: int = 1) -> NodeState:
    """Return the node with that many devices out of order, as the probe and the kubelet then tell."""
    found = state.accelerators[accelerator]
    broken = replace(found, healthy=found.healthy - many, trouble="the device is gone")
    left = {**state.allocatable, own(accelerator): state.allocatable[own(accelerator)] - many}
    return replace(state, allocatable=left, accelerators={**state.accelerators, accelerator: broken})


def variant(accelerator: str = "cpu", **fields: Any) -> Variant:
    """Return a published variant for amd64 with AVX2, of 100 MiB."""
    memory = fields.pop("memory", "200")
    return Variant(
        **{
            "accelerator": accelerator,
            "optimization_job_name": "j",
            "artifact": f"oci://r/{accelerator}@sha256:1",
            "size_bytes": 100 << 20,
            "metrics": [MetricFigure(name=Metric.MODEL_MEMORY, value=memory, unit="MiB")],
            "requires": Requirements(architecture="amd64", cpu_features=["avx2"]),
            **fields,
        }
    )


def wish(*variants: Variant, requests: Mapping[str, int] | None = None, **placement: Any) -> Wish:
    """Return the wish of a deployment vision/digits; by default of variants for the NPU and the CPU."""
    made = variants or (variant(NPU), variant("cpu"))
    return Wish("vision/digits", Placement.model_validate(placement), made, requests or REQUESTS)


def settled(nodes: Iterable[NodeState], seconds: float = 3600.0, **fields: Any) -> Settling:
    """Return what lets replicas move to whatever is free."""
    return Settling(free_seconds={(node.name, name): seconds for node in nodes for name in node.accelerators}, **fields)


def pods(plan: Plan, wish: Wish, *, healthy: bool | None = True) -> list[Placed]:
    """Return the pods that there are when a plan has been carried out."""
    return [
        Placed(
            name=f"{group.accelerator}-{group.resource}-{where}-{number}",
            node=where,
            accelerator=group.accelerator,
            artifact=group.artifact,
            resource=group.resource,
            requests={**wish.requests, **({group.resource: group.devices} if group.resource else {})},
            device_healthy=healthy if group.resource else None,
        )
        for group in plan.groups
        for where, many in group.replicas_on.items()
        for number in range(many)
    ]


def occupied(nodes: Iterable[NodeState], placed: Iterable[Placed]) -> list[NodeState]:
    """Return the nodes with what pods take."""
    taken: dict[str, dict[str, int]] = {}
    for pod in placed:
        taken[pod.node] = added(taken.get(pod.node, {}), pod.requests)
    return [replace(node, taken=added(node.taken, taken.get(node.name, {}))) for node in nodes]


def where(plan: Plan) -> dict[str, dict[str, int]]:
    """Return how many replicas each node has, by accelerator."""
    found: dict[str, dict[str, int]] = {}
    for group in plan.groups:
        on = found.setdefault(group.accelerator, {})
        for name, many in group.replicas_on.items():
            on[name] = on.get(name, 0) + many
    return found
