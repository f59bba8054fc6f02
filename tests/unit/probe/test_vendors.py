"""Whose device plugin offers what the probe found."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.probe.devices import NOBODY, SKERRY, VENDOR
from skerry.probe.vendors import CHECKPOINT, Vendors
from tests.support.boards import BOARDS
from tests.unit.probe.looking import inventory

Catalogue = list[dict[str, Any]]


def register(folder: Path, *resources: str) -> None:
    """Write the kubelet's file as the kubelet does: a new one each time."""
    folder.mkdir(parents=True, exist_ok=True)
    devices = {resource: ["id-0"] for resource in resources}
    new = folder / "new"
    new.write_text(json.dumps({"Data": {"PodDeviceEntries": None, "RegisteredDevices": devices}, "Checksum": 1}))
    new.rename(folder / CHECKPOINT)


@pytest.mark.parametrize(
    ("registered", "offered"),
    [
        (("gpu.intel.com/xe",), "gpu.intel.com/xe"),
        (("gpu.intel.com/xe", "gpu.intel.com/i915"), "gpu.intel.com/i915"),
        (("skerry.dev/intel-gpu", "nvidia.com/gpu"), ""),
        ((), ""),
    ],
)
def test_what_the_kubelet_knows_is_offered(registered: tuple[str, ...], offered: str, tmp_path: Path) -> None:
    register(tmp_path, *registered)

    assert Vendors(tmp_path).offered(["gpu.intel.com/i915", "gpu.intel.com/xe"]) == offered


def test_what_the_kubelet_learns_or_forgets_is_seen(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    seen = []
    for registered in [(), ("nvidia.com/gpu",), ("nvidia.com/gpu", "amd.com/gpu"), ()]:
        register(tmp_path, *registered)
        seen.append(vendors.offered(["nvidia.com/gpu"]))

    assert seen == ["", "nvidia.com/gpu", "nvidia.com/gpu", ""]


@pytest.mark.parametrize(
    ("socket", "resource"),
    [
        ("nvidia-gpu.sock", "nvidia.com/gpu"),
        ("gpu.intel.com-xe.sock", "gpu.intel.com/xe"),
        ("npu.intel.com-accel.sock", "npu.intel.com/accel"),
        ("amd.com_gpu", "amd.com/gpu"),
    ],
)
@pytest.mark.parametrize("checkpoint", [None, "", "[]", "null", '{"Data": {}}', '{"Data": {"RegisteredDevices": 7}}'])
def test_without_the_kubelets_word_the_names_of_sockets_tell(
    socket: str, resource: str, checkpoint: str | None, tmp_path: Path
) -> None:
    if checkpoint is not None:
        (tmp_path / CHECKPOINT).write_text(checkpoint)
    (tmp_path / "kubelet.sock").touch()
    vendors = Vendors(tmp_path)
    assert vendors.offered([resource]) == ""

    (tmp_path / socket).touch()
    assert vendors.offered([resource]) == resource
    assert vendors.offered(["example.com/gpu"]) == ""


def test_no_folder_is_no_vendor(tmp_path: Path) -> None:
    assert Vendors(tmp_path / "none").offered(["nvidia.com/gpu"]) == ""


@pytest.mark.parametrize(
    ("board", "serves", "registered", "expected"),
    [
        ("nvidia", True, "nvidia.com/gpu", ("nvidia.com/gpu", VENDOR)),
        ("nvidia", True, "other.com/gpu", ("skerry.dev/nvidia-gpu", SKERRY)),
        ("nvidia", False, "nvidia.com/gpu", ("nvidia.com/gpu", VENDOR)),
        ("nvidia", False, "other.com/gpu", ("", NOBODY)),
        ("coral-usb", True, "other.com/gpu", ("skerry.dev/coral-usb", SKERRY)),
        ("movidius", True, "other.com/gpu", ("", NOBODY)),  # reported only
        (
            "no-driver",
            True,
            "other.com/gpu",
            ("skerry.dev/coral-pcie", SKERRY),
        ),  # unhealthy devices are offered as such
    ],
)
def test_a_resource_is_offered_once(
    board: str,
    serves: bool,  # noqa: FBT001 - a parameter of pytest's
    registered: str,
    expected: tuple[str, str],
    tmp_path: Path,
    catalogue: Catalogue,
) -> None:
    register(tmp_path / "var/lib/kubelet/device-plugins", registered)

    found = inventory(tmp_path, BOARDS[board](), catalogue, serves=serves).look()[0]

    assert (found.resource_name, found.offered_by) == expected


def test_an_entry_without_device_files_is_not_offered(tmp_path: Path) -> None:
    entry = {"name": "gpu", "match": [{"pci": {"vendor": "10de", "classPrefix": "03"}}]}

    (found,) = inventory(tmp_path, BOARDS["nvidia"](), [entry]).look()

    assert (found.resource_name, found.offered_by) == ("", NOBODY)
