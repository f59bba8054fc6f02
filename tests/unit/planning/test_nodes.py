"""What is read from Nodes, NodeProfiles and pods, as the API server has them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skerry.api.nodeprofile import OfferedBy
from skerry.planning.nodes import (
    NodeAccelerator,
    NodeState,
    Taint,
    count_pod,
    free_since,
    node_state,
    placed,
    pod_requests,
    profile_statuses,
)
from tests.unit.planning.sites import NPU, node, own

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NODE: dict[str, Any] = {
    "metadata": {"name": "nuc", "labels": {"kubernetes.io/arch": "amd64", "site": "a"}},
    "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]},
    "status": {
        "allocatable": {"cpu": "3900m", "memory": "7Gi", "skerry.dev/intel-npu": "1", "pods": "110"},
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
    },
}
DEVICES = [
    {"id": "card0", "health": "Healthy", "memoryBytes": 8 << 30},
    {"id": "card1", "health": "Healthy", "memoryBytes": 4 << 30},
    {"id": "card2", "health": "Unhealthy", "memoryBytes": 1 << 30, "message": "no driver"},
]
PROFILE: dict[str, Any] = {
    "metadata": {"name": "nuc"},
    "status": {
        "probeVersion": "1",
        "observedAt": "2026-11-21T12:00:00Z",
        "machine": {"architecture": "amd64"},
        "cpu": {"cores": 4, "features": ["avx2"]},
        "memoryBytes": 8 << 30,
        "accelerators": [
            {"name": "cpu"},
            {
                "name": "intel-gpu",
                "count": 2,
                "resourceName": own("intel-gpu"),
                "offeredBy": "Skerry",
                "devices": DEVICES,
            },
        ],
    },
}


def pod(
    requests: dict[str, str], where: str = "nuc", phase: str = "Running", status: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"nodeName": where, "containers": [{"resources": {"requests": requests}}]},
        "status": {"phase": phase, **(status or {})},
    }


def state_of(
    node: dict[str, Any], profiles: list[dict[str, Any]], pods: tuple[dict[str, Any], ...] = ()
) -> NodeState | None:
    taken: dict[str, dict[str, int]] = {}
    for each in pods:
        count_pod(taken, each)
    return node_state(node, profile_statuses(profiles), taken)


def test_a_node_is_what_node_profile_and_pods_say() -> None:
    leaving = {**pod({"cpu": "100m"}), "metadata": {"name": "q", "deletionTimestamp": "2026-11-21T12:00:00Z"}}
    pods = (pod({"cpu": "1", "memory": "1Gi"}), leaving, pod({"cpu": "1"}, "other"), pod({"cpu": "1"}, "nuc", "Failed"))
    state = state_of(NODE, [PROFILE], pods)
    assert state is not None
    assert (state.name, state.architecture, state.ready, state.cordoned, state.profiled) == (
        *("nuc", "amd64", True, True, True),
    )
    assert state.taints == (Taint("k", "", "NoSchedule"),)
    assert state.taken == {"cpu": 1100, "memory": 1 << 30, "pods": 2}
    assert (state.free["cpu"], state.free["memory"], state.free["pods"]) == (2800, 6 << 30, 108)
    assert (state.load, sorted(state.features)) == (1, ["avx2"])
    assert state.accelerators["cpu"] == NodeAccelerator("cpu")
    assert state.accelerators["intel-gpu"] == NodeAccelerator(
        "intel-gpu", own("intel-gpu"), OfferedBy.SKERRY, 2, 3, 4 << 30, "no driver"
    )


def test_a_node_without_a_profile_or_with_an_empty_one_is_not_known_yet() -> None:
    for profiles in ([], [{"metadata": {"name": "nuc"}}], [{**PROFILE, "metadata": {"name": "gone"}}]):
        state = state_of(NODE, profiles)
        assert state is not None
        assert (state.profiled, state.accelerators, state.architecture) == (False, {}, "amd64")


def test_a_node_that_is_being_deleted_is_no_node_and_one_that_says_nothing_is_not_ready() -> None:
    going = {**NODE, "metadata": {**NODE["metadata"], "deletionTimestamp": "2026-11-21T12:00:00Z"}}
    assert state_of(going, [PROFILE]) is None
    state = state_of({"metadata": {"name": "new"}}, [])
    assert state is not None
    assert (state.ready, state.free) == (False, {})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{}]}, {"pods": 1}),
        ({"containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}, {"nvidia.com/gpu": 1, "pods": 1}),
        (
            {"containers": [{"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}] * 2},
            {"cpu": 2000, "pods": 1},
        ),
        (
            {
                "initContainers": [{"resources": {"requests": {"memory": "4"}}}],
                "containers": [{"resources": {"requests": {"memory": "1", "cpu": "1"}}}],
            },
            {"cpu": 1000, "memory": 4, "pods": 1},
        ),
        (
            {
                "initContainers": [
                    {"resources": {"requests": {"memory": "9"}}},
                    {"restartPolicy": "Always", "resources": {"requests": {"memory": "2"}}},
                    {"resources": {"requests": {"memory": "8"}}},
                ],
                "containers": [{"resources": {"requests": {"memory": "5"}}}],
            },
            {"memory": 10, "pods": 1},
        ),
        (
            {
                "resources": {"requests": {"memory": "3"}},
                "containers": [{"resources": {"requests": {"memory": "1", "cpu": "1"}}}],
                "overhead": {"memory": "4"},
            },
            {"cpu": 1000, "memory": 7, "pods": 1},
        ),
    ],
)
def test_a_pod_takes_what_the_scheduler_counts(spec: dict[str, Any], expected: dict[str, int]) -> None:
    assert pod_requests(spec) == expected


def health(*states: str) -> dict[str, Any]:
    devices = [{"resourceID": str(number), "health": state} for number, state in enumerate(states)]
    allocated = [{"name": own(NPU), "resources": devices}, {"name": "other/x", "resources": [{"health": "Unhealthy"}]}]
    return {"containerStatuses": [{"allocatedResourcesStatus": allocated}, {}]}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, None),
        (health("Healthy"), True),
        (health("Healthy", "Unhealthy"), False),
        (health("Unknown"), None),
        (health("Healthy", "Unknown"), None),
    ],
)
def test_the_kubelet_tells_how_a_pods_device_is(status: dict[str, Any], expected: bool | None) -> None:  # noqa: FBT001
    found = placed(pod({own(NPU): "1"}, status=status), NPU, "a", own(NPU))
    assert found is not None
    assert found.device_healthy is expected
    assert found.requests == {own(NPU): 1, "pods": 1}


def test_pods_without_a_node_or_on_their_way_out_have_no_place() -> None:
    going = pod({})
    going["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    for gone in (going, pod({}, where=""), pod({}, phase="Failed"), pod({}, phase="Succeeded")):
        assert placed(gone, "cpu", "a") is None


def test_what_a_vendors_plugin_shares_counts_as_often_as_it_says_and_skerrys_own_as_often_as_it_works() -> None:
    shared = NodeAccelerator("gpu", "nvidia.com/gpu", OfferedBy.VENDOR, healthy=1)
    own_device = NodeAccelerator(NPU, own(NPU), OfferedBy.SKERRY, healthy=1, total=2)
    state = replace(node("n"), allocatable={"nvidia.com/gpu": 4, own(NPU): 2}, taken={"nvidia.com/gpu": 1})
    assert (state.devices(shared), state.spare_devices(shared)) == (4, 3)
    assert state.devices(replace(shared, healthy=0)) == 0
    assert (state.devices(own_device), state.devices(replace(own_device, offered_by=OfferedBy.NOBODY))) == (1, 0)


def test_since_when_something_is_free_is_remembered_until_it_is_not() -> None:
    nuc, later = node("nuc", {NPU: 1}), NOW + timedelta(seconds=30)
    first = free_since({}, [nuc], NOW)
    assert first == {("nuc", "cpu"): NOW, ("nuc", NPU): NOW}
    assert free_since(first, [nuc], later) == first
    busy = replace(nuc, taken={own(NPU): 1})
    assert free_since(first, [busy], later) == {("nuc", "cpu"): NOW}
    assert free_since(free_since(first, [busy], later), [nuc], later)["nuc", NPU] == later
    assert free_since(first, [replace(nuc, ready=False)], later) == {}
    assert free_since(first, [replace(nuc, cordoned=True)], later) == {}
