"""Devices that the container runtime puts into containers itself."""

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.probe.devices import FoundDevice
from skerry.probe.plugin import DevicePlugins
from tests.unit.probe.plugin.conftest import POLL_SECONDS, names, until
from tests.unit.probe.plugin.devices import NPU, npu
from tests.unit.probe.plugin.kubelet import Kubelet

FIRST, SECOND = npu(0).id, npu(1).id


@pytest.fixture
def cdi(tmp_path: Path) -> Path:
    return tmp_path / "run" / "cdi"


@pytest.fixture
async def plugins(folder: Path, cdi: Path, said: list[str]) -> AsyncIterator[DevicePlugins]:
    made = DevicePlugins(folder, cdi, poll_seconds=POLL_SECONDS, say=said.append)
    yield made
    await asyncio.to_thread(made.close)


def spec(cdi: Path) -> dict[str, Any]:
    """Return what a container runtime reads."""
    document: dict[str, Any] = json.loads((cdi / "skerry.dev-intel-npu.json").read_text(encoding="utf-8"))
    return document


def block(folder: Path) -> None:
    """Put a file in the place of a folder: root may write everywhere else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way", encoding="ascii")


def paths(cdi: Path) -> dict[str, list[str]]:
    """Return the device files by device."""
    return {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
        for device in spec(cdi)["devices"]
    }


async def test_a_pod_gets_names_that_the_file_explains(kubelet: Kubelet, plugins: DevicePlugins, cdi: Path) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1)]})
    await until(lambda: kubelet.devices[NPU])

    answer = await kubelet.allocate(NPU, SECOND)

    assert [device.name for device in answer.cdi_devices] == [f"skerry.dev/intel-npu={SECOND}"]
    assert not answer.devices
    assert dict(answer.envs) == {"SKERRY_DEVICES_INTEL_NPU": SECOND}
    assert spec(cdi) == {
        "cdiVersion": "0.5.0",
        "kind": "skerry.dev/intel-npu",
        "devices": [
            {"name": key, "containerEdits": {"deviceNodes": [{"path": path, "permissions": "rw"}]}}
            for key, path in ((FIRST, "/dev/accel/accel0"), (SECOND, "/dev/accel/accel1"))
        ],
    }
    assert names(cdi) == ["skerry.dev-intel-npu.json"]
    assert (cdi / "skerry.dev-intel-npu.json").stat().st_mode & 0o777 == 0o644


async def test_a_device_that_came_back_elsewhere_keeps_its_name(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])

    plugins.offer({"intel-npu": [npu(0, file="/dev/accel/accel7")]})

    await until(lambda: paths(cdi) == {FIRST: ["/dev/accel/accel7"]})
    assert kubelet.lists[NPU] == [{FIRST: True}]


async def test_a_device_that_is_gone_is_left_out(kubelet: Kubelet, plugins: DevicePlugins, cdi: Path) -> None:
    plugins.offer({"intel-npu": [npu(0), npu(1, healthy=False)]})
    await until(lambda: kubelet.devices[NPU])
    assert set(paths(cdi)) == {FIRST, SECOND}

    plugins.offer({"intel-npu": [npu(1)]})
    await until(lambda: set(paths(cdi)) == {SECOND})
    plugins.offer({"intel-npu": []})
    await until(lambda: not names(cdi))


async def test_containers_start_while_a_vendor_serves_and_while_the_probe_is_away(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])

    plugins.offer({"intel-npu": None})
    await until(lambda: kubelet.lists[NPU] == [{FIRST: True}, {}])
    assert set(paths(cdi)) == {FIRST}
    await asyncio.to_thread(plugins.close)
    assert set(paths(cdi)) == {FIRST}


async def test_a_file_that_someone_removed_or_changed_is_written_again(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])
    file = cdi / "skerry.dev-intel-npu.json"

    file.unlink()
    await until(file.exists)
    file.write_text("{}", encoding="utf-8")
    await until(lambda: "devices" in spec(cdi))


async def test_where_no_file_can_be_written_pods_get_device_files(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path, said: list[str]
) -> None:
    block(cdi.parent)
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])

    answer = await kubelet.allocate(NPU, FIRST)
    assert [each.host_path for each in answer.devices] == ["/dev/accel/accel0"]
    assert not answer.cdi_devices
    assert [line for line in said if "has no CDI file" in line]
    cdi.parent.unlink()
    await until(lambda: names(cdi))
    assert (await kubelet.allocate(NPU, FIRST)).cdi_devices


async def test_a_file_that_can_no_longer_be_written_is_not_relied_on(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])
    assert (await kubelet.allocate(NPU, FIRST)).cdi_devices

    block(cdi)
    plugins.offer({"intel-npu": [npu(0), npu(1)]})
    await until(lambda: len(kubelet.devices[NPU]) == 2)

    answer = await kubelet.allocate(NPU, FIRST)
    assert [each.host_path for each in answer.devices] == ["/dev/accel/accel0"]
    assert not answer.cdi_devices


@pytest.mark.parametrize("key", ["trailing-", "0000:00:00.0"])
async def test_a_name_that_runtimes_refuse_is_not_written(
    kubelet: Kubelet, plugins: DevicePlugins, cdi: Path, key: str
) -> None:
    name = "intel-npu" if key == "trailing-" else "3d-npu"
    resource = f"skerry.dev/{name}"
    good, bad = npu(1), FoundDevice(name, key, healthy=True, files=("/dev/accel/accel0",))
    plugins.offer({name: [bad, dataclasses.replace(good, accelerator=name)]})
    await until(lambda: kubelet.devices[resource])

    answer = await kubelet.allocate(resource, key)

    assert [each.host_path for each in answer.devices] == ["/dev/accel/accel0"]
    assert not answer.cdi_devices
    assert names(cdi) == (["skerry.dev-intel-npu.json"] if name == "intel-npu" else [])
