"""What holds of every plan, whatever the site."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.api.edgedeployment import Fallback, PlacementMode
from skerry.api.quantities import added
from skerry.api.types import Requirements
from skerry.planning.fit import check, compatible, in_scope, need_of
from skerry.planning.nodes import NodeState, Placed, Taint
from skerry.planning.placement import plan
from skerry.planning.plans import Plan, Settling, Wish, options
from tests.unit.planning.sites import node, occupied, own, pods, settled, unplugged, variant, wish

ACCELERATORS = ("intel-npu", "intel-gpu", "cpu")
EXAMPLES = settings(max_examples=100, deadline=None)
COUNT = st.integers(min_value=0, max_value=2)


@st.composite
def a_node(draw: st.DrawFn, name: str) -> NodeState:
    """A node with few resources, so that they run out, in one of the states that a node may be in."""
    counts = {found: draw(COUNT) for found in ACCELERATORS[:2]}
    devices = {found: many for found, many in counts.items() if many}
    taken = {own(found): draw(st.integers(0, many)) for found, many in devices.items()}
    state = node(
        name,
        devices,
        room={
            "cpu": draw(st.sampled_from(["200m", "1", "2"])),
            "memory": draw(st.sampled_from(["128Mi", "1Gi", "2Gi"])),
        },
        taken={**taken, "cpu": draw(st.sampled_from([0, 300])), "pods": 1},
        taints=draw(st.sampled_from([(), (), (), (Taint("dedicated", "", "NoSchedule"),)])),
        labels=draw(st.sampled_from([{}, {"site": "a"}, {"site": "b"}, {"site": "b", "skip": "yes"}])),
        architecture=draw(st.sampled_from(["amd64", "amd64", "amd64", "arm64"])),
        features=frozenset(draw(st.sampled_from([("avx2",), ("avx2", "amx"), ()]))),
        ready=draw(st.sampled_from([True, True, True, False])),
        cordoned=draw(st.sampled_from([False, False, False, True])),
    )
    broken = draw(st.booleans())
    return unplugged(state, next(iter(devices))) if devices and broken else state


@st.composite
def sites(draw: st.DrawFn, largest: int = 6) -> list[NodeState]:
    """Up to six nodes."""
    return [draw(a_node(f"n{number}")) for number in range(draw(st.integers(0, largest)))]


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    """A deployment of variants for some accelerators, each with requirements of its own."""
    found = draw(st.permutations(ACCELERATORS))[: draw(st.integers(1, 3))]
    features: list[list[str]] = [[], ["avx2"], ["amx"]]
    needs = [Requirements(architecture="amd64", cpu_features=draw(st.sampled_from(features))) for _ in found]
    placement: dict[str, Any] = {
        "accelerators": draw(st.sampled_from([[], list(ACCELERATORS), ["cpu", "intel-gpu"], ["intel-gpu"]])),
        "fallback": draw(st.sampled_from(Fallback)),
        "nodeSelector": draw(st.sampled_from([None, None, {"site": "b"}])),
    }
    if draw(st.booleans()):
        placement |= {"mode": "PerNode"}
    else:
        placement |= {"replicas": draw(st.integers(0, 8)), "topologyKey": draw(st.sampled_from([None, "site"]))}
    return wish(*(variant(name, requires=need) for name, need in zip(found, needs, strict=True)), **placement)


@st.composite
def placed(draw: st.DrawFn, nodes: Sequence[NodeState]) -> list[Placed]:
    """Pods of the deployment where they may be by whatever history, also on nodes that are gone."""
    found = []
    for number in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from(ACCELERATORS))
        resource = "" if name == "cpu" else own(name)
        where = draw(st.sampled_from(["gone", *(state.name for state in nodes)]))
        digest = draw(st.sampled_from("12"))
        requests = {**wish().requests, **({resource: 1} if resource else {})}
        health = draw(st.sampled_from([True, None, False])) if resource else None
        pod = Placed(f"p{number}", where, name, f"oci://r/{name}@sha256:{digest}", resource, requests, health)
        found.append(pod)
    return found


@st.composite
def situations(draw: st.DrawFn) -> tuple[Wish, list[NodeState], list[Placed], Settling]:
    """A deployment, the nodes, its pods on them, and for how long accelerators have been free."""
    nodes = draw(sites())
    there = draw(placed(nodes))
    return draw(wishes()), occupied(nodes, there), there, draw(settlings(nodes))


def settlings(nodes: Sequence[NodeState]) -> st.SearchStrategy[Settling]:
    """Nothing has been free for long, or everything, or everything while a rollout goes on."""
    return st.sampled_from([Settling(), settled(nodes), settled(nodes, rolling=True)])


def seats(found: Plan) -> Counter[tuple[str, str]]:
    """Return how many replicas there are by accelerator and node."""
    return Counter(
        {(group.accelerator, name): many for group in found.groups for name, many in group.replicas_on.items()}
    )


@given(situations())
@EXAMPLES
def test_never_more_than_allocatable(situation: tuple[Wish, list[NodeState], list[Placed], Settling]) -> None:
    asked, nodes, there, settling = situation
    found = plan(asked, nodes, there, settling)
    known = {state.name: state for state in nodes}
    before = Counter(pod.node for pod in there)
    use: dict[str, dict[str, int]] = {}
    for pod in pods(found, asked):
        use[pod.node] = added(use.get(pod.node, {}), pod.requests)
    mine = {name: [pod for pod in there if pod.node == name] for name in known}
    for name, wanted in use.items():
        state = known[name]
        others = added(state.taken, {})
        for pod in mine[name]:
            others = added(others, {resource: -many for resource, many in pod.requests.items()})
        now = sum(many for (_, where), many in seats(found).items() if where == name)
        for resource, many in wanted.items():
            total = others.get(resource, 0) + many
            # What runs already is not stopped when a node has got smaller; but nothing is added there.
            runs = sum(pod.requests.get(resource, 0) for pod in mine[name])
            assert total <= state.allocatable.get(resource, 0) or (many <= runs and now <= before[name])


@given(situations())
@EXAMPLES
def test_only_on_nodes_that_can_run_the_variant(
    situation: tuple[Wish, list[NodeState], list[Placed], Settling],
) -> None:
    asked, nodes, there, settling = situation
    found = plan(asked, nodes, there, settling)
    known = {state.name: state for state in nodes}
    needs = {item.accelerator: need_of(item, asked.placement, asked.requests) for item in asked.variants}
    for (accelerator, name), many in seats(found).items():
        kept = sum(pod.node == name and pod.accelerator == accelerator for pod in there)
        assert list(compatible(needs[accelerator], known[name])) == []
        assert list(in_scope(needs[accelerator], known[name], staying=kept >= many)) == []


@given(situations())
@EXAMPLES
def test_every_replica_has_a_place_or_an_explanation(
    situation: tuple[Wish, list[NodeState], list[Placed], Settling],
) -> None:
    asked, nodes, there, settling = situation
    found = plan(asked, nodes, there, settling)
    assert len(found.message) < 1000
    assert found.waiting >= 0
    if asked.placement.mode is PlacementMode.REPLICAS:
        assert found.wanted == asked.placement.replicas
    if found.waiting:
        assert found.reason is not None
        assert found.message
    if found.waiting and options(asked):
        assert found.refusals
    for refusal in found.refusals:
        assert all(fit.reasons for fit in refusal.fits), "where nothing is in the way a replica would have been placed"
        if asked.placement.mode is PlacementMode.REPLICAS:
            assert [fit.node for fit in refusal.fits] == [state.name for state in nodes]
    stays = seats(found)
    moved = Counter((item.replica.accelerator, item.replica.node) for item in found.leaving)
    for place, many in Counter((pod.accelerator, pod.node) for pod in there).items():
        assert many - moved[place] <= stays[place], "a pod stays in the plan, or it leaves with a reason"
    assert all(item.why for item in found.leaving)


@given(situations(), st.randoms(use_true_random=False))
@EXAMPLES
def test_the_order_of_what_is_observed_does_not_matter(
    situation: tuple[Wish, list[NodeState], list[Placed], Settling], random: Any
) -> None:
    asked, nodes, there, settling = situation
    found = plan(asked, nodes, there, settling)
    random.shuffle(nodes)
    random.shuffle(there)
    assert plan(asked, nodes, there, settling) == found


@given(sites(), wishes())
@EXAMPLES
def test_with_deny_only_the_most_preferred_accelerator_is_used(nodes: list[NodeState], asked: Wish) -> None:
    denied = replace(asked, placement=asked.placement.model_copy(update={"fallback": Fallback.DENY}))
    ranked = options(denied)
    found = seats(plan(denied, nodes))
    has = {
        state.name: [
            option.accelerator
            for option in ranked
            if option.accelerator in state.accelerators
            and not [*in_scope(option.need, state), *compatible(option.need, state)]
        ]
        for state in nodes
    }
    if asked.placement.mode is PlacementMode.PER_NODE:
        assert all(accelerator == has[name][0] for accelerator, name in found)
    else:
        first = next(
            (item.accelerator for item in ranked if any(item.accelerator in names for names in has.values())), ""
        )
        assert {accelerator for accelerator, _ in found} <= {first}


@given(situations())
@EXAMPLES
def test_with_deny_nothing_new_is_put_on_a_later_accelerator(
    situation: tuple[Wish, list[NodeState], list[Placed], Settling],
) -> None:
    asked, nodes, there, settling = situation
    denied = replace(asked, placement=asked.placement.model_copy(update={"fallback": Fallback.DENY}))
    found = seats(plan(denied, nodes, there, settling))
    fresh = seats(plan(denied, [replace(state, taken={}, ready=True, cordoned=False) for state in nodes]))
    before = Counter((pod.accelerator, pod.node) for pod in there)
    if asked.placement.mode is PlacementMode.REPLICAS:
        best = {accelerator for accelerator, _ in fresh}
        for place, many in found.items():
            assert place[0] in best or not best or many <= before[place]


@given(sites(), wishes())
@EXAMPLES
def test_a_plan_that_is_carried_out_stays(nodes: list[NodeState], asked: Wish) -> None:
    found = plan(asked, nodes)
    there = pods(found, asked)
    for settling in (Settling(), settled(nodes, rolling=True), settled(nodes)):
        again = plan(asked, occupied(nodes, there), there, settling)
        assert (again.leaving, seats(again), again.waiting) == ((), seats(found), found.waiting)


@given(sites(), wishes(), st.data())
@EXAMPLES
def test_one_node_less_moves_only_what_was_there(nodes: list[NodeState], asked: Wish, data: st.DataObject) -> None:
    there = pods(plan(asked, nodes), asked)
    gone = data.draw(st.sampled_from(["none", *(state.name for state in nodes)]))
    left = [state for state in occupied(nodes, there) if state.name != gone]
    found = plan(asked, left, there, Settling())
    assert {item.replica.node for item in found.leaving} <= {gone}
    assert len(found.leaving) == sum(pod.node == gone for pod in there)


@given(sites(), wishes(), a_node("new"))
@EXAMPLES
def test_one_node_more_moves_nothing_but_to_a_better_accelerator(
    nodes: list[NodeState], asked: Wish, new: NodeState
) -> None:
    before = plan(asked, nodes)
    there = pods(before, asked)
    later = [*occupied(nodes, there), new]
    found = plan(asked, later, there, Settling())
    assert found.leaving == (), "not before it has been free for long enough"
    assert found.placed >= before.placed
    moved = plan(asked, later, there, settled([new]))
    ranks = {option.accelerator: option.rank for option in options(asked)}
    assert moved.placed >= before.placed
    if moved.leaving:
        better = {ranks[accelerator] for accelerator, name in seats(moved) if name == new.name}
        assert all(min(better) < ranks[item.replica.accelerator] for item in moved.leaving)


@given(sites(), wishes(), st.data())
@EXAMPLES
def test_one_device_less_moves_one_replica_at_the_most(
    nodes: list[NodeState], asked: Wish, data: st.DataObject
) -> None:
    there = pods(plan(asked, nodes), asked, healthy=None)
    lost = [(state, name) for state in nodes for name in state.accelerators if state.allocatable.get(own(name), 0)]
    if not lost:
        return
    state, name = data.draw(st.sampled_from(lost))
    left = [unplugged(one, name) if one.name == state.name else one for one in occupied(nodes, there)]
    found = plan(asked, left, there, Settling())
    assert len(found.leaving) <= 1
    assert all(item.replica.node == state.name and item.replica.accelerator == name for item in found.leaving)


@given(sites(), wishes())
@EXAMPLES
def test_what_fits_now_would_fit_were_the_node_empty(nodes: list[NodeState], asked: Wish) -> None:
    for option in options(asked):
        for state in nodes:
            fit = check(option.need, state)
            empty = check(option.need, replace(state, taken={}))
            assert fit.ever == empty.ever
            assert not fit.now or empty.now
