"""Where replicas go at the sites that there are, and where they stay when something happens to a site."""

from dataclasses import replace

import pytest

from skerry.api.nodeprofile import OfferedBy
from skerry.api.reasons import DeploymentReason
from skerry.planning.nodes import NodeAccelerator, NodeState, Placed, Taint
from skerry.planning.placement import plan
from skerry.planning.plans import Plan, Settling, Wish
from tests.unit.planning.sites import NPU, node, occupied, own, pods, settled, unplugged, variant, where, wish

NUC = node("nuc", {NPU: 1})
PLAIN = node("plain")


def after(
    before: Plan, asked: Wish, nodes: list[NodeState], settling: Settling | None = None, *, healthy: bool | None = True
) -> Plan:
    """Plan again once a plan has been carried out."""
    there = pods(before, asked, healthy=healthy)
    return plan(asked, occupied(nodes, there), there, settling)


def test_a_nuc_runs_on_its_npu() -> None:
    found = plan(wish(), [NUC])
    assert where(found) == {NPU: {"nuc": 1}}
    assert (found.reason, found.waiting, found.groups[0].resource) == (None, 0, own(NPU))


def test_with_deny_a_second_replica_waits_for_a_second_npu_and_says_so() -> None:
    found = plan(wish(replicas=2), [NUC, PLAIN])
    assert where(found) == {NPU: {"nuc": 1}}
    assert (found.reason, found.waiting) == (DeploymentReason.NO_SPARE_ACCELERATOR, 1)
    assert found.message.startswith("1 of 2 replicas finds no place: a replica on intel-npu needs 1 device, ")
    assert "nuc: 0 of 1 skerry.dev/intel-npu free" in found.message
    assert "1 node: no intel-npu" in found.message
    assert found.message.endswith(". Placement.fallback is Deny; Allow would also use cpu")


def test_with_allow_it_runs_on_a_cpu() -> None:
    found = plan(wish(replicas=2, fallback="Allow"), [NUC, PLAIN])
    assert where(found) == {NPU: {"nuc": 1}, "cpu": {"plain": 1}}
    assert found.message == "1 on cpu until intel-npu is free"


def test_with_allow_the_cpu_is_the_last_resort_also_where_nobody_named_it() -> None:
    named = wish(replicas=2, accelerators=[NPU], fallback="Allow")
    assert where(plan(named, [NUC])) == {NPU: {"nuc": 1}, "cpu": {"nuc": 1}}
    assert where(plan(wish(replicas=2, accelerators=[NPU]), [NUC])) == {NPU: {"nuc": 1}}


def test_where_no_node_has_the_first_choice_the_next_one_counts() -> None:
    assert where(plan(wish(accelerators=["coral", NPU, "cpu"]), [PLAIN])) == {"cpu": {"plain": 1}}


def test_the_users_order_comes_before_the_models() -> None:
    assert where(plan(wish(accelerators=["cpu", NPU]), [NUC])) == {"cpu": {"nuc": 1}}


def test_a_jetson_gets_the_variant_for_its_architecture() -> None:
    gpu = NodeAccelerator("nvidia-jetson", "nvidia.com/gpu", OfferedBy.VENDOR)
    jetson = replace(
        node("jetson"),
        architecture="arm64",
        features=frozenset({"asimd"}),
        accelerators={"cpu": NodeAccelerator("cpu"), "nvidia-jetson": gpu},
        allocatable={**PLAIN.allocatable, "nvidia.com/gpu": 1},
    )
    requires = {"architecture": "arm64", "cpu_features": ["asimd"]}
    asked = wish(variant("nvidia-jetson", requires=requires), variant("cpu"), replicas=2, fallback="Allow")
    found = plan(asked, [jetson, PLAIN])
    assert where(found) == {"nvidia-jetson": {"jetson": 1}, "cpu": {"plain": 1}}
    assert found.groups[0].resource == "nvidia.com/gpu"
    alone = plan(wish(variant("cpu")), [jetson])
    assert (alone.reason, alone.waiting) == (DeploymentReason.DOES_NOT_FIT, 1)
    assert "architecture arm64 and no CPU features avx2" in alone.message


def test_two_identical_cards_take_one_replica_each() -> None:
    cards = node("box", {"intel-gpu": 2})
    asked = wish(variant("intel-gpu"), replicas=3)
    found = plan(asked, [cards])
    assert where(found) == {"intel-gpu": {"box": 2}}
    assert (found.reason, found.waiting) == (DeploymentReason.NO_SPARE_ACCELERATOR, 1)


def test_of_two_cards_the_one_that_is_unplugged_loses_its_replica() -> None:
    cards = node("box", {"intel-gpu": 2})
    asked = wish(variant("intel-gpu"), replicas=2)
    first, second = pods(plan(asked, [cards]), asked)
    there = [replace(first, device_healthy=False), second]
    found = plan(asked, occupied([unplugged(cards, "intel-gpu")], there), there)
    assert where(found) == {"intel-gpu": {"box": 1}}
    assert [(item.replica, item.why) for item in found.leaving] == [(there[0], "its device on node box is not healthy")]


def test_a_healthy_replica_is_not_moved_for_the_device_of_another_deployment() -> None:
    cards = node("box", {"intel-gpu": 2})
    asked = wish(variant("intel-gpu"))
    mine = pods(plan(asked, [cards]), asked)
    of_another = Placed("other", "box", "intel-gpu", "a", own("intel-gpu"), {own("intel-gpu"): 1})
    left = occupied([unplugged(cards, "intel-gpu")], [*mine, of_another])
    assert plan(asked, left, mine).leaving == ()


@pytest.mark.parametrize("healthy", [False, None])
def test_a_device_that_is_unplugged_moves_its_replica_at_once(healthy: bool | None) -> None:  # noqa: FBT001
    other = node("other", {NPU: 1})
    asked = wish(accelerators=[NPU])
    before = plan(asked, [NUC])
    found = after(before, asked, [unplugged(NUC, NPU), other], healthy=healthy)
    assert where(found) == {NPU: {"other": 1}}
    assert len(found.leaving) == 1


def test_without_another_device_it_waits_or_falls_back_as_the_user_says() -> None:
    for fallback, expected in (("Deny", {}), ("Allow", {"cpu": {"nuc": 1}})):
        asked = wish(fallback=fallback)
        found = after(plan(asked, [NUC]), asked, [unplugged(NUC, NPU)], healthy=False)
        assert where(found) == expected
    denied = after(plan(wish(), [NUC]), wish(), [unplugged(NUC, NPU)], healthy=False)
    assert denied.reason is DeploymentReason.NO_SPARE_ACCELERATOR
    assert "0 of 1 skerry.dev/intel-npu can be used (the device is gone)" in denied.message


def test_a_device_that_comes_back_is_used_once_it_has_stayed() -> None:
    asked = wish(fallback="Allow")
    on_cpu = plan(asked, [unplugged(NUC, NPU)])
    assert where(on_cpu) == {"cpu": {"nuc": 1}}
    early = after(on_cpu, asked, [NUC], settled([NUC], 45.0))
    assert (where(early), early.look_again_seconds) == ({"cpu": {"nuc": 1}}, 15.0)
    rolling = after(on_cpu, asked, [NUC], settled([NUC], rolling=True))
    assert (where(rolling), rolling.look_again_seconds) == ({"cpu": {"nuc": 1}}, None)
    late = after(on_cpu, asked, [NUC], settled([NUC], 60.0))
    assert (where(late), late.look_again_seconds) == ({NPU: {"nuc": 1}}, None)
    assert late.leaving[0].why == "intel-npu on node nuc is preferred and free"


def test_a_better_node_that_joins_takes_one_replica_and_the_other_goes_on_serving() -> None:
    asked = wish(replicas=2)
    on_cpus = plan(asked, [PLAIN])
    found = after(on_cpus, asked, [PLAIN, NUC], settled([NUC]))
    assert where(found) == {NPU: {"nuc": 1}, "cpu": {"plain": 1}}
    assert (found.waiting, len(found.leaving)) == (0, 1)
    assert found.message.startswith("1 on cpu until intel-npu is free")


def test_an_equal_node_that_joins_moves_nothing() -> None:
    asked = wish(variant("cpu"), replicas=4)
    found = after(plan(asked, [PLAIN]), asked, [PLAIN, node("new")], settled([PLAIN, node("new")]))
    assert (where(found), found.leaving) == ({"cpu": {"plain": 4}}, ())


def test_a_replica_on_a_node_that_is_cut_off_moves_where_there_is_room_and_else_stays() -> None:
    asked = wish(variant("cpu"))
    lost = replace(PLAIN, ready=False)
    before = plan(asked, [PLAIN])
    found = after(before, asked, [lost, node("other")])
    assert where(found) == {"cpu": {"other": 1}}
    assert [item.why for item in found.leaving] == ["node plain is not ready"]
    assert where(after(found, asked, [PLAIN, node("other")])) == {"cpu": {"other": 1}}, "it does not go back"
    alone = after(before, asked, [lost])
    assert (where(alone), alone.leaving) == ({"cpu": {"plain": 1}}, ())


def test_a_replica_leaves_a_node_that_is_gone() -> None:
    asked = wish(variant("cpu"))
    found = after(plan(asked, [PLAIN]), asked, [node("other")])
    assert (where(found), found.leaving[0].why) == ({"cpu": {"other": 1}}, "node plain is gone")


def test_nothing_moves_while_a_node_is_cordoned_its_probe_or_its_kubelet_restarts() -> None:
    asked = wish()
    before = plan(asked, [NUC])
    spare = node("spare", {NPU: 1})
    no_profile = replace(NUC, profiled=False, accelerators={}, features=frozenset())
    no_plugin = replace(NUC, allocatable={**NUC.allocatable, own(NPU): 0})
    for restarting in (replace(NUC, cordoned=True), no_profile, no_plugin):
        found = after(before, asked, [restarting, spare], healthy=None)
        assert (where(found), found.leaving) == ({NPU: {"nuc": 1}}, ())


def test_a_vendors_plugin_that_takes_over_does_not_interrupt_what_runs() -> None:
    asked = wish(replicas=2)
    before = plan(asked, [node("nuc", {NPU: 2})])
    vendor = NodeAccelerator(NPU, "npu.intel.com/accel", OfferedBy.VENDOR, healthy=2, total=2)
    swapped = replace(
        NUC,
        accelerators={**NUC.accelerators, NPU: vendor},
        allocatable={**PLAIN.allocatable, own(NPU): 0, "npu.intel.com/accel": 2},
    )
    found = after(before, asked, [swapped], healthy=None)
    assert (found.leaving, [group.resource for group in found.groups]) == ((), [own(NPU)])
    third = wish(replicas=3)
    there = pods(before, asked, healthy=None)
    assert plan(third, occupied([swapped], there), there).waiting == 1, "both devices are in use"


def test_a_new_variant_stays_on_the_nodes_of_the_old_one() -> None:
    asked = wish(variant("cpu"), replicas=2)
    nodes = [node(name) for name in "abcd"]
    before = plan(asked, nodes)
    newer = replace(asked, variants=[variant("cpu", artifact="oci://r/cpu@sha256:2")])
    there = pods(before, asked)
    found = plan(newer, occupied(nodes, there), there)
    assert (where(found), found.leaving) == (where(before), ())
    assert found.groups[0].artifact == "oci://r/cpu@sha256:2"


def test_what_no_node_can_ever_hold_is_said_with_the_figures() -> None:
    asked = wish(variant("cpu"), requests={"memory": 16 << 30, "pods": 1}, replicas=2)
    found = plan(asked, [node("a"), node("b", room={"memory": "4Gi"})])
    assert (found.reason, found.groups) == (DeploymentReason.DOES_NOT_FIT, ())
    assert found.message == (
        "2 of 2 replicas find no place: a replica on cpu needs 16 GiB memory, architecture amd64, CPU features avx2; "
        "a: 8 GiB memory in all; b: 4 GiB memory in all"
    )


def test_more_devices_than_any_node_has_do_not_fit() -> None:
    found = plan(wish(requests={own(NPU): 2, "pods": 1}), [NUC])
    assert found.reason is DeploymentReason.DOES_NOT_FIT
    assert "needs 2 skerry.dev/intel-npu" in found.message
    assert "nuc: 1 of 1 skerry.dev/intel-npu can be used" in found.message


def test_replicas_are_spread_over_sites_also_where_some_run_already() -> None:
    nodes = [node(f"{site}{number}", labels={"site": site}) for site in "abc" for number in range(2)]
    asked = wish(variant("cpu"), replicas=3, topologyKey="site")
    before = plan(asked, nodes)
    assert sorted(name[0] for name in where(before)["cpu"]) == ["a", "b", "c"]
    more = wish(variant("cpu"), replicas=6, topologyKey="site")
    there = pods(before, asked)
    grown = plan(more, occupied(nodes, there), there)
    assert where(grown)["cpu"] == {state.name: 1 for state in nodes}
    shrunk = after(grown, asked, nodes)
    assert sorted(name[0] for name in where(shrunk)["cpu"]) == ["a", "b", "c"]


def test_nodes_without_the_topology_label_are_the_last_resort() -> None:
    nodes = [node("nowhere"), node("a", labels={"site": "a"}, room={"pods": "2"})]
    found = plan(wish(variant("cpu"), replicas=3, topologyKey="site"), nodes)
    assert where(found) == {"cpu": {"a": 2, "nowhere": 1}}


def test_only_nodes_that_the_user_means_are_used() -> None:
    taint = Taint("dedicated", "vision", "NoSchedule")
    nodes = [node("a"), node("b", labels={"zone": "x"}), node("c", labels={"zone": "x"}, taints=[taint])]
    chosen = plan(wish(variant("cpu"), replicas=2, nodeSelector={"zone": "x"}), nodes)
    assert where(chosen) == {"cpu": {"b": 2}}
    tolerated = {"key": "dedicated", "operator": "Exists"}
    more = plan(wish(variant("cpu"), replicas=2, nodeSelector={"zone": "x"}, tolerations=[tolerated]), nodes)
    assert where(more) == {"cpu": {"b": 1, "c": 1}}


def test_an_accelerator_whose_variant_no_node_can_run_does_not_count() -> None:
    for_arm = variant(NPU, requires={"architecture": "arm64"})
    assert where(plan(wish(for_arm, variant("cpu")), [NUC])) == {"cpu": {"nuc": 1}}


def test_a_node_with_room_for_one_can_still_change_to_its_better_accelerator() -> None:
    small = node("nuc", {NPU: 1}, room={"memory": "512Mi"})
    asked = wish(fallback="Allow")
    on_cpu = plan(asked, [unplugged(small, NPU)])
    early = after(on_cpu, asked, [small], settled([small], 50.0))
    assert (where(early), early.look_again_seconds) == ({"cpu": {"nuc": 1}}, 10.0)
    assert where(after(on_cpu, asked, [small], settled([small]))) == {NPU: {"nuc": 1}}


def test_a_replica_that_cannot_change_keeps_its_room() -> None:
    small = node("nuc", {NPU: 1}, room={"memory": "512Mi"}, taken={own(NPU): 1})
    asked = wish(replicas=2, fallback="Allow")
    found = after(plan(asked, [small]), asked, [small], settled([small]))
    assert (where(found), found.waiting) == ({"cpu": {"nuc": 1}}, 1)


def test_a_new_variant_is_not_rolled_out_on_a_cordoned_node() -> None:
    asked = wish(variant("cpu"))
    newer = wish(variant("cpu", artifact="oci://r/cpu@sha256:2"))
    there = pods(plan(asked, [PLAIN]), asked)
    found = plan(newer, occupied([replace(PLAIN, cordoned=True), node("other")], there), there)
    assert where(found) == {"cpu": {"other": 1}}
    assert [item.why for item in found.leaving] == ["node plain: the node is cordoned"]


def test_of_two_replicas_for_one_device_the_one_stays_whose_device_is_known_to_work() -> None:
    cards = node("box", {"intel-gpu": 2})
    asked = wish(variant("intel-gpu"), replicas=2)
    first, second = pods(plan(asked, [cards]), asked)
    there = [replace(first, device_healthy=None), second]
    found = plan(asked, occupied([unplugged(cards, "intel-gpu")], there), there)
    assert [item.replica.name for item in found.leaving] == [first.name]
    assert found.leaving[0].why == "node box: 1 of 2 intel-gpu can be used (the device is gone)"


def test_a_taint_evicts_or_only_keeps_away_as_it_says() -> None:
    asked = wish(variant("cpu"))
    before = plan(asked, [PLAIN])
    for effect, expected in (("NoSchedule", "plain"), ("NoExecute", "other")):
        tainted = replace(PLAIN, taints=(Taint("for", "video", effect),))
        assert where(after(before, asked, [tainted, node("other")])) == {"cpu": {expected: 1}}


@pytest.mark.parametrize("mode", ["Replicas", "PerNode"])
def test_an_accelerator_of_other_nodes_than_the_user_means_does_not_count(mode: str) -> None:
    nodes = [NUC, node("plain", labels={"site": "a"})]
    assert where(plan(wish(mode=mode, nodeSelector={"site": "a"}), nodes)) == {"cpu": {"plain": 1}}
    dedicated = replace(NUC, taints=(Taint("dedicated", "video", "NoSchedule"),))
    assert where(plan(wish(mode=mode), [dedicated, PLAIN])) == {"cpu": {"plain": 1}}


def test_deployments_draw_different_nodes_of_equal_ones_and_the_same_when_others_come_and_go() -> None:
    def drawn(key: str, numbers: range) -> str:
        found = plan(replace(wish(variant("cpu")), key=key), [node(f"n{number}") for number in numbers])
        return found.groups[0].nodes[0]

    before = {f"vision/m{number}": drawn(f"vision/m{number}", range(20)) for number in range(20)}
    assert len(set(before.values())) > 5
    after = {key: drawn(key, range(15)) for key in before}
    left = {f"n{number}" for number in range(15)}
    assert {key: name for key, name in before.items() if name in left}.items() <= after.items()


def test_when_fewer_are_wanted_those_on_later_accelerators_go_first() -> None:
    asked = wish(replicas=3, fallback="Allow")
    before = plan(asked, [NUC, PLAIN])
    assert where(after(before, wish(fallback="Allow"), [NUC, PLAIN])) == {NPU: {"nuc": 1}}
    none = after(before, wish(replicas=0), [NUC, PLAIN])
    assert (none.groups, none.reason, len(none.leaving)) == ((), None, 3)


@pytest.mark.parametrize("mode", ["Replicas", "PerNode"])
def test_a_label_of_the_users_keeps_replicas_off_a_node(mode: str) -> None:
    kept = node("kept", labels={"skerry.dev/accelerator.cpu": "false"})
    marked = node("marked", labels={"skerry.dev/accelerator.cpu": "true"})
    assert where(plan(wish(variant("cpu"), mode=mode), [kept, marked])) == {"cpu": {"marked": 1}}
    nowhere = plan(wish(variant("cpu")), [kept])
    assert "kept off by label skerry.dev/accelerator.cpu=false" in nowhere.message


def test_one_on_each_node_on_the_best_that_it_has() -> None:
    arm = replace(node("arm"), architecture="arm64")
    found = plan(wish(mode="PerNode"), [NUC, PLAIN, arm])
    assert where(found) == {NPU: {"nuc": 1}, "cpu": {"plain": 1}}
    assert (found.wanted, found.reason) == (2, None)
    assert found.message == "nodes that match but can run no variant: 1"


def test_on_each_node_deny_waits_for_the_best_and_allow_takes_the_next() -> None:
    busy = node("nuc", {NPU: 1}, taken={own(NPU): 1})
    denied = plan(wish(mode="PerNode"), [busy, PLAIN])
    assert where(denied) == {"cpu": {"plain": 1}}
    assert (denied.reason, denied.waiting) == (DeploymentReason.NO_SPARE_ACCELERATOR, 1)
    allowed = plan(wish(mode="PerNode", fallback="Allow"), [busy, PLAIN])
    assert where(allowed) == {"cpu": {"nuc": 1, "plain": 1}}
    asked = wish(mode="PerNode", fallback="Allow")
    early = after(allowed, asked, [NUC, PLAIN], settled([NUC], 20.0))
    assert (where(early), early.look_again_seconds) == (where(allowed), 40.0)
    assert early.message == "1 on cpu until intel-npu is free"
    rolling = after(allowed, asked, [NUC, PLAIN], settled([NUC], rolling=True))
    assert (where(rolling), rolling.look_again_seconds) == (where(allowed), None)
    late = after(allowed, asked, [NUC, PLAIN], settled([NUC]))
    assert where(late) == {NPU: {"nuc": 1}, "cpu": {"plain": 1}}


def test_on_each_node_one_that_is_cut_off_keeps_its_replica_and_a_new_one_gets_one() -> None:
    asked = wish(mode="PerNode")
    found = after(plan(asked, [PLAIN]), asked, [replace(PLAIN, ready=False), node("new")])
    assert (where(found), found.leaving) == ({"cpu": {"new": 1, "plain": 1}}, ())


def test_when_replicas_become_one_on_each_node_the_others_leave() -> None:
    before = plan(wish(variant("cpu"), replicas=3), [PLAIN])
    found = after(before, wish(variant("cpu"), mode="PerNode"), [PLAIN])
    assert (where(found), len(found.leaving)) == ({"cpu": {"plain": 1}}, 2)
    smaller = node("plain", {NPU: 1}, room={"memory": "512Mi"})
    assert where(after(before, wish(mode="PerNode"), [smaller], settled([smaller]))) == {NPU: {"plain": 1}}


@pytest.mark.parametrize("mode", ["Replicas", "PerNode"])
def test_without_nodes_or_variants_the_reason_says_what_is_waited_for(mode: str) -> None:
    assert plan(wish(mode=mode), []).reason is DeploymentReason.WAITING_FOR_ACCELERATOR
    unpublished = plan(wish(variant("cpu", artifact=None), mode=mode), [PLAIN])
    assert unpublished.reason is DeploymentReason.WAITING_FOR_MODEL
    other = plan(wish(variant("cpu"), mode=mode, accelerators=[NPU]), [PLAIN])
    assert other.reason is DeploymentReason.WAITING_FOR_ACCELERATOR
    assert other.message == "the model has variants for cpu, placement.accelerators wants intel-npu"
    nowhere = plan(wish(mode=mode, nodeSelector={"site": "x"}), [PLAIN])
    assert nowhere.reason is DeploymentReason.DOES_NOT_FIT
