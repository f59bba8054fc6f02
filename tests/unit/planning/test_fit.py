"""Whether a replica fits a node, and what is said when it does not."""

from dataclasses import replace
from typing import Any

import pytest

from skerry.api.nodeprofile import OfferedBy
from skerry.api.pods import Toleration
from skerry.planning.explain import told
from skerry.planning.fit import Fit, Need, check, need_of, tolerated
from skerry.planning.nodes import NodeAccelerator, NodeState, Taint
from tests.unit.planning.sites import NPU, node, own, unplugged, variant, wish

NEED = Need("cpu", {"cpu": 500, "memory": 1 << 30, "pods": 1}, "amd64", frozenset({"avx2"}))
ON_NPU = replace(NEED, accelerator=NPU)
NUC = node("nuc", {NPU: 1})


def said(need: Need, state: NodeState) -> tuple[list[str], bool]:
    """Return the reasons in words, and whether the replica would fit were the node empty and well."""
    fit = check(need, state)
    return [str(reason) for reason in fit.reasons], fit.ever


def changed(**fields: Any) -> NodeState:
    return replace(NUC, **fields)


def test_what_fits_has_no_reasons() -> None:
    for need in (NEED, ON_NPU):
        fit = check(need, NUC)
        assert (fit.now, fit.ever, fit.reasons) == (True, True, ())


@pytest.mark.parametrize(
    ("need", "state", "reasons", "ever"),
    [
        (NEED, changed(taken={"memory": 15 << 29}), ["512 MiB of 8 GiB memory free, 1 GiB needed"], True),
        (
            NEED,
            changed(taken={"cpu": 3600, "pods": 110}),
            ["400m of 4 CPU free, 500m needed", "0 of 110 pods free, 1 needed"],
            True,
        ),
        (NEED, node("n", room={"memory": "512Mi"}), ["512 MiB memory in all, 1 GiB needed"], False),
        (
            NEED,
            node("n", room={"memory": str((1 << 30) - 1)}),
            ["1023.999 MiB memory in all, 1 GiB needed"],
            False,
        ),
        (NEED, changed(taken={"memory": (7 << 30) + 1}), ["1023.999 MiB of 8 GiB memory free, 1 GiB needed"], True),
        (
            replace(NEED, requests={"memory": (8 << 30) + 1}),
            NUC,
            ["8589934592 bytes memory in all, 8589934593 bytes needed"],
            False,
        ),
        (replace(NEED, requests={"x.org/dongle": 1}), NUC, ["0 x.org/dongle in all, 1 needed"], False),
        (replace(NEED, model_memory=9 << 30), NUC, ["8 GiB memory in all, 9 GiB needed"], False),
        (replace(NEED, size=200 << 30), NUC, ["100 GiB disk in all, 200 GiB needed"], False),
        (replace(NEED, architecture="arm64"), NUC, ["architecture amd64, arm64 needed"], False),
        (replace(NEED, cpu_features=frozenset({"avx2", "amx"})), NUC, ["no CPU features amx"], False),
        (replace(NEED, accelerator="coral"), NUC, ["no coral"], False),
        (NEED, changed(profiled=False, accelerators={}), ["no NodeProfile yet"], True),
        (NEED, changed(ready=False), ["the node is not ready"], True),
        (NEED, changed(cordoned=True), ["the node is cordoned"], True),
        (
            NEED,
            changed(taints=(Taint("node.kubernetes.io/disk-pressure", "", "NoSchedule"),)),
            ["taint node.kubernetes.io/disk-pressure:NoSchedule"],
            True,
        ),
        (
            NEED,
            changed(taints=(Taint("for", "video", "NoExecute"),)),
            ["taint for=video:NoExecute is not tolerated"],
            False,
        ),
        (NEED, changed(taints=(Taint("for", "video", "PreferNoSchedule"),)), [], True),
        (replace(NEED, node_selector={"site": "a"}), NUC, ["no label site, site=a needed"], False),
        (
            replace(NEED, node_selector={"site": "a"}),
            changed(labels={"site": "b"}),
            ["label site is b, site=a needed"],
            False,
        ),
        (ON_NPU, changed(taken={own(NPU): 1}), ["0 of 1 skerry.dev/intel-npu free, 1 needed"], True),
        (
            ON_NPU,
            unplugged(NUC, NPU),
            ["0 of 1 skerry.dev/intel-npu can be used (the device is gone), 1 needed"],
            True,
        ),
        (
            replace(ON_NPU, requests={own(NPU): 2}),
            NUC,
            ["1 of 1 skerry.dev/intel-npu can be used, 2 needed"],
            False,
        ),
        (
            ON_NPU,
            changed(accelerators={NPU: NodeAccelerator(NPU)}),
            ["nobody's device plugin offers its intel-npu"],
            True,
        ),
        (
            replace(ON_NPU, size=5 << 30),
            changed(accelerators={NPU: NodeAccelerator(NPU, own(NPU), OfferedBy.SKERRY, memory_bytes=4 << 30)}),
            ["4 GiB device memory, 5 GiB needed"],
            False,
        ),
    ],
)  # fmt: skip
def test_each_reason_has_the_figure_needed_and_the_figure_there(
    need: Need,
    state: NodeState,
    reasons: list[str],
    ever: bool,  # noqa: FBT001
) -> None:
    assert said(need, state) == (reasons, ever)


def test_what_is_not_asked_for_does_not_matter_on_a_node_that_is_overfull() -> None:
    assert check(replace(NEED, requests={"memory": 0}), changed(taken={"memory": 9 << 30})).now


def test_a_device_is_taken_also_by_who_got_it_before_the_vendors_plugin_came() -> None:
    vendor = NodeAccelerator(NPU, "npu.intel.com/accel", OfferedBy.VENDOR)
    state = changed(
        accelerators={NPU: vendor},
        allocatable={**node("n").allocatable, "npu.intel.com/accel": 1, own(NPU): 0},
        taken={own(NPU): 1},
    )
    assert said(ON_NPU, state) == (["0 of 1 npu.intel.com/accel free, 1 needed"], True)


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "for", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "for", "value": "video"}, True),
        ({"key": "for", "operator": "Equal", "value": "audio"}, False),
        ({"key": "for"}, False),
        ({"key": "for", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "for", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_are_those_of_kubernetes(toleration: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    assert tolerated(Taint("for", "video", "NoSchedule"), [Toleration.model_validate(toleration)]) is expected


def test_a_cordon_can_be_tolerated_too() -> None:
    toleration = Toleration(key="node.kubernetes.io/unschedulable", operator="Exists")
    assert check(replace(NEED, tolerations=[toleration]), changed(cordoned=True)).now


def test_what_a_variant_needs_is_what_was_measured_and_what_its_pod_asks_for() -> None:
    asked = wish(nodeSelector={"site": "a"}, tolerations=[{"operator": "Exists"}])
    need = need_of(variant("cpu", memory="1.5"), asked.placement, asked.requests)
    assert (need.model_memory, need.size, need.architecture) == (3 << 19, 100 << 20, "amd64")
    assert (need.node_selector, len(need.tolerations), sorted(need.cpu_features)) == ({"site": "a"}, 1, ["avx2"])


def fits(*names: str, state: NodeState = NUC, need: Need = NEED) -> list[Fit]:
    return [check(need, replace(state, name=name)) for name in names]


def test_equal_nodes_are_told_together_and_the_nearest_to_fitting_first() -> None:
    found = [
        *fits("a", "b", state=changed(architecture="arm64")),
        *fits("c", state=changed(taken={"cpu": 4000})),
        *fits("d", "e", need=replace(NEED, accelerator="coral")),
        *fits("f", need=replace(NEED, node_selector={"x": "y"})),
    ]
    assert told(NEED, found) == (
        "a replica on cpu needs 500m CPU, 1 GiB memory, architecture amd64, CPU features avx2; "
        "c: 0 of 4 CPU free; a, b: architecture arm64; 3 nodes: no coral (2), without label x=y (1)"
    )


def test_many_nodes_are_counted_and_ten_named() -> None:
    busy = fits(*(f"busy-{number:03d}" for number in range(300)), state=changed(taken={own(NPU): 1}), need=ON_NPU)
    full = [
        check(ON_NPU, changed(name=f"full-{number}", taken={"memory": (7 << 30) + (number + 1 << 20)}))
        for number in range(700)
    ]
    text = told(ON_NPU, [*busy, *full])
    assert "busy-000, busy-001" in text
    assert "busy-009 and 290 more nodes: 0 of 1 skerry.dev/intel-npu free" in text
    assert text.endswith("700 more nodes: too little memory")
    assert len(text) < 1000


@pytest.mark.parametrize("limit", [120, 300, 999])
def test_a_message_is_never_longer_than_it_may_be(limit: int) -> None:
    long = [f"{number}-{'x' * 240}" for number in range(20)]
    need = replace(NEED, cpu_features=frozenset(f"{number}{'f' * 60}" for number in range(60)))
    found = [check(need, changed(name=name, taken={"cpu": number})) for number, name in enumerate(long)]
    assert len(told(need, found, limit)) <= limit
    assert "20 nodes: CPU features missing" in told(need, found)
