"""Devices that DRA drivers offer: counted by node, less those that claims have been given."""

from typing import Any

from skerry.api.labels import resource_of_class
from skerry.api.nodeprofile import OfferedBy
from skerry.planning.claims import offer, with_claims
from tests.unit.planning.sites import NPU, node

CLASS = "npu.example.com"
RESOURCE = resource_of_class(CLASS)
CLASSES = [{"metadata": {"name": CLASS}}]


def published(node_name: str, *devices: str, pool: str = "", generation: int = 1) -> dict[str, Any]:
    listed = [{"name": name} for name in devices]
    named = {"name": pool or node_name, "generation": generation, "resourceSliceCount": 1}
    return {"spec": {"driver": CLASS, "nodeName": node_name, "pool": named, "devices": listed}}


def claim(*devices: str, pool: str = "a", driver: str = CLASS) -> dict[str, Any]:
    results = [{"driver": driver, "pool": pool, "device": name, "request": "r"} for name in devices]
    return {"status": {"allocation": {"devices": {"results": results}}}}


def test_a_node_has_the_devices_of_its_slices_less_those_that_were_given() -> None:
    slices = [published("a", "0", "1", "2"), published("b", "0")]
    found = offer(CLASSES, slices, [claim("0"), claim("0", pool="elsewhere"), claim("1", driver="other"), {}])

    state = with_claims(node("a", {NPU: 3}), node("a", {NPU: 3}).accelerators[NPU], [CLASS], found)

    accelerator = state.accelerators[NPU]
    assert (accelerator.resource, accelerator.offered_by) == (RESOURCE, OfferedBy.VENDOR)
    assert state.spare_devices(accelerator) == 2


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    slices = [published("a", "0", "1", generation=1), published("a", "2", generation=2)]
    assert offer(CLASSES, slices, []).devices == {("a", CLASS): 1}


def test_a_device_that_skerrys_plugin_gave_before_is_not_given_again() -> None:
    before = node("a", {NPU: 1}, taken={f"skerry.dev/{NPU}": 1})
    state = with_claims(before, before.accelerators[NPU], [CLASS], offer(CLASSES, [published("a", "0")], []))
    assert state.spare_devices(state.accelerators[NPU]) == 0


def test_nothing_is_claimed_without_the_class_on_the_node_or_beside_the_vendors_plugin() -> None:
    state = node("a", {NPU: 1})
    accelerator = state.accelerators[NPU]
    assert with_claims(state, accelerator, [CLASS], offer([], [published("a", "0")], [])) is state
    assert with_claims(state, accelerator, [CLASS], offer(CLASSES, [published("b", "0")], [])) is state
    assert with_claims(state, accelerator, ["other.example.com"], offer(CLASSES, [published("a", "0")], [])) is state
    vendors = node("a", {NPU: 1}).accelerators[NPU].__class__(NPU, "example.com/npu", OfferedBy.VENDOR)
    assert with_claims(state, vendors, [CLASS], offer(CLASSES, [published("a", "0")], [])) is state
