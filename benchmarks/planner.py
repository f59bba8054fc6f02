"""Time and memory of the placement planner: many deployments on many nodes, new ones and ones that run already."""

import argparse
import json
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skerry.api.edgedeployment import Placement
from skerry.api.edgemodel import Variant
from skerry.api.quantities import added, amounts
from skerry.api.types import Requirements
from skerry.planning.nodes import NodeState, Placed, count_pod, node_state, profile_statuses
from skerry.planning.placement import plan
from skerry.planning.plans import Plan, Wish

SITES = 40
REQUESTS = {**amounts({"cpu": "500m", "memory": "512Mi"}), "pods": 1}
BOARDS: tuple[tuple[str, str, int], ...] = (
    ("", "amd64", 0),
    ("intel-npu", "amd64", 1),
    ("intel-gpu", "amd64", 2),
    ("nvidia-jetson", "arm64", 1),
)
Document = dict[str, Any]


def documents(number: int, pods: int) -> tuple[Document, Document, list[Document]]:
    """Return a Node, its NodeProfile and the pods on it, as the API server has them."""
    accelerator, architecture, devices = BOARDS[number % len(BOARDS)]
    name = f"node-{number:04d}"
    resource = f"skerry.dev/{accelerator}"
    allocatable = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}
    found: list[Document] = [{"name": "cpu"}]
    if devices:
        allocatable[resource] = str(devices)
        known = [{"id": f"card{index}", "health": "Healthy"} for index in range(devices)]
        found.append(
            {"name": accelerator, "resourceName": resource, "offeredBy": "Skerry", "count": devices, "devices": known}
        )
    node = {
        "metadata": {"name": name, "labels": {"site": f"site-{number % SITES}", "kubernetes.io/arch": architecture}},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    status = {
        "probeVersion": "1",
        "observedAt": "2026-11-21T12:00:00Z",
        "machine": {"architecture": architecture},
        "cpu": {"cores": 8, "features": ["avx2", "avx_vnni"] if architecture == "amd64" else ["asimd", "asimddp"]},
        "memoryBytes": 16 << 30,
        "accelerators": found,
    }
    container = {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}
    running = [{"metadata": {}, "spec": {"nodeName": name, "containers": [container]}} for _ in range(pods)]
    return node, {"metadata": {"name": name}, "status": status}, running


def wish(number: int, replicas: int) -> Wish:
    """Return a deployment: some want one on each node, some more than there is, most a few replicas."""
    features = {"amd64": ["avx2"], "arm64": ["asimd"]}
    names = [("intel-npu", "amd64"), ("intel-gpu", "amd64"), ("nvidia-jetson", "arm64"), ("cpu", "amd64")]
    variants = [
        Variant(
            accelerator=accelerator,
            optimization_job_name="j",
            artifact=f"oci://r/{accelerator}@sha256:{number}",
            size_bytes=100 << 20,
            requires=Requirements(architecture=architecture, cpu_features=features[architecture]),
        )
        for accelerator, architecture in names[number % len(names) :] + names[: number % len(names)]
    ]
    placement: Mapping[str, Any] = {"replicas": replicas, "topologyKey": "site", "fallback": "Allow"}
    match number % 10:
        case 7:
            placement = {"mode": "PerNode", "nodeSelector": {"site": f"site-{number % SITES}"}}
        case 8:
            placement = {"mode": "PerNode", "fallback": "Allow"}
        case 9:
            placement = {"replicas": 1000}
        case _:
            pass
    return Wish(f"bench/model-{number}", Placement.model_validate(placement), variants, REQUESTS)


def pods_of(found: Plan) -> list[Placed]:
    """Return the pods that there are when a plan has been carried out."""
    return [
        Placed(
            name=f"{group.accelerator}-{where}-{number}",
            node=where,
            accelerator=group.accelerator,
            artifact=group.artifact,
            resource=group.resource,
            requests={**REQUESTS, **({group.resource: group.devices} if group.resource else {})},
            device_healthy=True if group.resource else None,
        )
        for group in found.groups
        for where, many in group.replicas_on.items()
        for number in range(many)
    ]


def with_pods(nodes: Mapping[str, NodeState], pods: list[Placed]) -> dict[str, NodeState]:
    """Return the nodes with what pods take."""
    changed = dict(nodes)
    for pod in pods:
        state = changed[pod.node]
        changed[pod.node] = replace(state, taken=added(state.taken, pod.requests))
    return changed


def run(nodes: int, deployments: int, replicas: int, pods: int) -> dict[str, float]:
    """Plan every deployment twice, and return the figures."""
    made = [documents(number, pods) for number in range(nodes)]
    wishes = [wish(number, replicas) for number in range(deployments)]
    started = time.perf_counter()
    taken: dict[str, dict[str, int]] = {}
    for pod in (pod for one in made for pod in one[2]):
        count_pod(taken, pod)
    profiles = profile_statuses(one[1] for one in made)
    listed = [node_state(one[0], profiles, taken) for one in made]
    reading = time.perf_counter() - started
    states = {state.name: state for state in listed if state is not None}
    plans: list[Plan] = []
    new: list[float] = []
    for asked in wishes:
        started = time.perf_counter()
        plans.append(plan(asked, states.values()))
        new.append(time.perf_counter() - started)
        states = with_pods(states, pods_of(plans[-1]))
    again: list[float] = []
    for asked, before in zip(wishes, plans, strict=True):
        there = pods_of(before)
        started = time.perf_counter()
        plan(asked, states.values(), there)
        again.append(time.perf_counter() - started)
    return {
        "nodes": nodes,
        "deployments": deployments,
        "replicas_placed": sum(found.placed for found in plans),
        "replicas_waiting": sum(found.waiting for found in plans),
        "reading_all_objects_s": round(reading, 3),
        "planning_all_new_s": round(sum(new), 3),
        "new_mean_ms": round(1000 * sum(new) / deployments, 2),
        "new_slowest_ms": round(1000 * max(new), 2),
        "planning_all_again_s": round(sum(again), 3),
        "again_mean_ms": round(1000 * sum(again) / deployments, 2),
        "again_slowest_ms": round(1000 * max(again), 2),
    }


def main() -> None:
    """Measure and print: time first, then once more with memory traced, which is slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=20, help="of a deployment that wants neither one each nor all")
    parser.add_argument("--pods", type=int, default=10, help="other pods on each node")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    size = (given.nodes, given.deployments, given.replicas, given.pods)
    row = run(*size)
    tracemalloc.start()
    run(*size)
    row["peak_memory_mib"] = round(tracemalloc.get_traced_memory()[1] / (1 << 20), 1)
    print(json.dumps(row, indent=2) if given.json else "\n".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
