"""Devices as the kubelet gets to know them."""

from skerry.probe.devices import FoundDevice
from skerry.probe.plugin import DevicePlugins
from tests.unit.probe.plugin.conftest import until
from tests.unit.probe.plugin.kubelet import Kubelet

NPU = "skerry.dev/intel-npu"


def npu(number: int = 0, *, healthy: bool = True, message: str = "", path: str = "") -> FoundDevice:
    return FoundDevice(
        accelerator="intel-npu",
        id=f"0000:00:0{number}.0",
        healthy=healthy,
        message=message,
        files=(path or f"/dev/accel/accel{number}",),
    )


async def test_the_kubelet_is_told_the_devices_at_once(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1, healthy=False)]})

    await until(lambda: kubelet.devices[NPU] == {"0000:00:00.0": True, "0000:00:01.0": False})
    request = kubelet.registered[0]
    assert (request.version, request.resource_name, request.endpoint) == ("v1beta1", NPU, "skerry-intel-npu.sock")
