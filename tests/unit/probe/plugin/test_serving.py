"""Devices as the kubelet gets to know them, and as pods get them."""

import dataclasses

import pytest
from grpclib import GRPCError, Status

from skerry.probe.devices import FoundDevice
from skerry.probe.plugin import DevicePlugins
from tests.unit.probe.plugin.conftest import until
from tests.unit.probe.plugin.devices import NPU, TPU, npu, tpu
from tests.unit.probe.plugin.kubelet import Kubelet

FIRST, SECOND = npu(0).id, npu(1).id


async def test_the_kubelet_is_told_the_devices_at_once(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1, healthy=False)]})

    await until(lambda: kubelet.devices[NPU] == {FIRST: True, SECOND: False})
    request = kubelet.registered[0]
    assert (request.version, request.resource_name, request.endpoint) == ("v1beta1", NPU, "skerry-intel-npu.sock")
    asked = kubelet.clients[NPU].options
    assert asked == request.options
    assert request.options.get_preferred_allocation_available
    assert not request.options.pre_start_required


async def test_every_change_is_told_and_nothing_else(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.lists[NPU] == [{FIRST: True}])
    for _ in range(20):
        plugins.offer({"intel-npu": [npu(0)]})
        # What the kubelet is not told of changes nothing for it.
        plugins.offer({"intel-npu": [dataclasses.replace(npu(0), driver_version="2")]})
    plugins.offer({"intel-npu": [npu(0, healthy=False)]})

    await until(lambda: not kubelet.healthy(NPU))
    assert kubelet.lists[NPU] == [{FIRST: True}, {FIRST: False}]


async def test_a_device_that_vanished_stays_listed_as_unhealthy_until_it_is_back(
    kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1)]})
    await until(lambda: kubelet.healthy(NPU) == {FIRST, SECOND})

    plugins.offer({"intel-npu": [npu(1)]})
    await until(lambda: kubelet.devices[NPU] == {FIRST: False, SECOND: True})
    plugins.offer({"intel-npu": []})
    await until(lambda: kubelet.devices[NPU] == {FIRST: False, SECOND: False})
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU] == {FIRST: True, SECOND: False})
    plugins.offer({})
    await until(lambda: kubelet.devices[NPU] == {FIRST: False, SECOND: False})


async def test_a_device_without_files_is_of_no_use(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [FoundDevice("intel-npu", FIRST, healthy=True)]})

    await until(lambda: kubelet.devices[NPU] == {FIRST: False})


async def test_the_kubelet_is_told_to_which_numa_node_a_device_is_near(
    kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    plugins.offer({"intel-npu": [dataclasses.replace(npu(0), numa_node=0), npu(1)]})

    await until(lambda: kubelet.messages[NPU])
    near = {each.ID: [node.ID for node in each.topology.nodes] for each in kubelet.messages[NPU][0].devices}
    assert near == {FIRST: [0], SECOND: []}


async def test_a_pod_gets_exactly_the_files_of_its_devices(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    shared = [dataclasses.replace(npu(number), files=(f"/dev/nvidia{number}", "/dev/nvidiactl")) for number in range(3)]
    plugins.offer({"intel-npu": shared})
    await until(lambda: kubelet.devices[NPU])

    answer = await kubelet.allocate(NPU, SECOND, FIRST)

    assert [(each.host_path, each.container_path, each.permissions) for each in answer.devices] == [
        ("/dev/nvidia0", "/dev/nvidia0", "rw"),
        ("/dev/nvidiactl", "/dev/nvidiactl", "rw"),
        ("/dev/nvidia1", "/dev/nvidia1", "rw"),
    ]
    assert dict(answer.envs) == {"SKERRY_DEVICES_INTEL_NPU": f"{FIRST},{SECOND}"}
    assert not answer.cdi_devices


async def test_a_device_that_moved_is_handed_out_under_its_new_path(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])

    plugins.offer({"intel-npu": [npu(0, file="/dev/accel/accel7")], "coral-pcie": [tpu()]})

    await until(lambda: kubelet.devices[TPU])
    assert [each.host_path for each in (await kubelet.allocate(NPU, FIRST)).devices] == ["/dev/accel/accel7"]


@pytest.mark.parametrize(
    ("key", "status", "text"),
    [
        ("0000:00:09.0", Status.NOT_FOUND, "0000:00:09.0 is unknown: this node has 0000:00:00.0, 0000:00:01.0"),
        ("0000:00:01.0", Status.FAILED_PRECONDITION, "0000:00:01.0 is unhealthy: no driver is bound"),
        ("0000:00:02.0", Status.FAILED_PRECONDITION, "0000:00:02.0 is gone from this node"),
    ],
)
async def test_a_device_that_cannot_be_had_is_refused_with_the_reason(
    kubelet: Kubelet, plugins: DevicePlugins, key: str, status: Status, text: str
) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1), npu(2)]})
    await until(lambda: kubelet.devices[NPU])
    plugins.offer({"intel-npu": [npu(0), npu(1, healthy=False, message="no driver is bound")]})
    await until(lambda: kubelet.healthy(NPU) == {FIRST})

    with pytest.raises(GRPCError) as caught:
        await kubelet.allocate(NPU, FIRST, key)

    assert caught.value.status is status
    assert caught.value.message == f"{NPU}: {text}"


async def test_devices_on_one_card_go_together(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    pair, single = [tpu(1, 0), tpu(1, 1)], tpu(2, 0)
    plugins.offer({"coral-pcie": [*pair, single]})
    await until(lambda: kubelet.devices[TPU])

    assert await kubelet.prefer(TPU, 2) == [device.id for device in pair]
    assert await kubelet.prefer(TPU, 1) == [single.id]
    assert await kubelet.prefer(TPU, 2, must=(pair[1].id,)) == [device.id for device in pair]


async def test_every_resource_has_a_socket_and_a_list_of_its_own(
    kubelet: Kubelet, plugins: DevicePlugins, said: list[str]
) -> None:
    plugins.offer({"intel-npu": [npu(0)], "coral-pcie": [tpu(1)]})
    await until(lambda: kubelet.devices[NPU] and kubelet.devices[TPU])

    plugins.offer({"intel-npu": [npu(0)], "coral-pcie": [tpu(2)]})

    await until(lambda: len(kubelet.lists[TPU]) == 2)
    assert len(kubelet.lists[NPU]) == 1
    assert {request.endpoint for request in kubelet.registered} == {"skerry-intel-npu.sock", "skerry-coral-pcie.sock"}
    assert [each.host_path for each in (await kubelet.allocate(TPU, tpu(2).id)).devices] == ["/dev/apex_20"]
    assert sorted(said) == [f"{TPU} is registered with the kubelet", f"{NPU} is registered with the kubelet"]


async def test_a_vendor_that_takes_over_ends_the_offer_and_not_the_pods(
    kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU))

    plugins.offer({"intel-npu": None})

    # What is not listed the kubelet calls healthy; while somebody serves it starts containers again.
    await until(lambda: kubelet.lists[NPU] == [{FIRST: True}, {}])
    with pytest.raises(GRPCError, match="is left to another device plugin"):
        await kubelet.allocate(NPU, FIRST)
    assert NPU in kubelet.clients
    assert len(kubelet.registered) == 1
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU) == {FIRST})


async def test_what_the_node_never_had_is_not_offered(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"nvidia-gpu": None, "hailo-8": (), "intel-npu": [npu(0)]})

    await until(lambda: kubelet.devices[NPU])
    assert [request.resource_name for request in kubelet.registered] == [NPU]


async def test_no_device_is_offered_twice(kubelet: Kubelet, plugins: DevicePlugins, said: list[str]) -> None:
    same = dataclasses.replace(npu(0), accelerator="coral-pcie")
    plugins.offer({"intel-npu": [npu(0)], "coral-pcie": [tpu(1), same]})

    await until(lambda: kubelet.devices[NPU] and kubelet.devices[TPU])
    assert kubelet.devices == {NPU: {FIRST: True}, TPU: {tpu(1).id: True}}
    assert f"{FIRST} is offered as intel-npu already, and not as coral-pcie as well" in said
