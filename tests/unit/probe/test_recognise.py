"""Which accelerators the probe finds on boards of each kind, and what it says of them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.api.nodeprofile import Accelerator
from skerry.probe.devices import FoundAccelerator, FoundDevice
from tests.support.board import Board, pci_folder
from tests.support.boards import BOARDS
from tests.unit.probe.looking import inventory

Catalogue = list[dict[str, Any]]
Look = Callable[..., tuple[FoundAccelerator, ...]]


@pytest.fixture
def look(tmp_path: Path, catalogue: Catalogue) -> Look:
    """Return what is found on a board."""

    number = itertools.count()

    def found(board: str | Board, **settings: Any) -> tuple[FoundAccelerator, ...]:
        made = BOARDS[board]() if isinstance(board, str) else board
        return inventory(tmp_path / str(next(number)), made, settings.pop("catalogue", catalogue), **settings).look()

    return found


def devices(found: tuple[FoundAccelerator, ...]) -> list[FoundDevice]:
    return [device for accelerator in found for device in accelerator.devices]


def in_short(found: tuple[FoundAccelerator, ...]) -> list[str]:
    """Return accelerator, id and device files of each device; with what is wrong in place of the files."""
    return [
        f"{each.accelerator} {each.id} " + (" ".join(each.files) if each.healthy else f"({each.message})")
        for each in devices(found)
    ]


_TEGRA = " ".join(f"/dev/nvhost-{name}" for name in ("as-gpu", "ctrl", "ctrl-gpu", "gpu", "prof-gpu")) + " /dev/nvmap"
_IGPU = " ".join(f"/dev/nvgpu/igpu0/{name}" for name in ("as", "channel", "ctrl", "dbg", "prof"))
_CORE_ULTRA = ["intel-gpu 0000:00:02.0 /dev/dri/renderD128", "intel-npu 0000:00:0b.0 /dev/accel/accel0"]

FOUND: dict[str, list[str]] = {
    "bare": [],
    "xeon": [],
    "raspberry": [],
    "armv7": [],
    "meteor-lake": _CORE_ULTRA,
    "arrow-lake": _CORE_ULTRA,
    "lunar-lake": _CORE_ULTRA,
    "panther-lake": _CORE_ULTRA,
    "arc": ["intel-gpu 0000:03:00.0 /dev/dri/renderD128"],
    "movidius": ["movidius 1-4 /dev/bus/usb/001/003"],
    "movidius-running": ["movidius 1-4 /dev/bus/usb/001/009"],
    "nvidia": ["nvidia-gpu 0000:01:00.0 /dev/nvidia-uvm /dev/nvidia0 /dev/nvidiactl"],
    "jetson-nano": [f"jetson-nano nvidia-tegra210 {_TEGRA}"],
    "jetson-xavier": [f"jetson-xavier nvidia-tegra194 {_TEGRA}"],
    "jetson-orin": [f"jetson-orin nvidia-tegra234 {_IGPU} {_TEGRA}"],
    "jetson-agx-orin": [f"jetson-orin nvidia-tegra234 {_IGPU} {_TEGRA}"],
    "jetson-thor": ["jetson-thor 0000:01:00.0 /dev/nvidia0 /dev/nvidiactl /dev/nvmap"],
    "amd-gpu": ["amd-gpu 0000:03:00.0 /dev/dri/renderD128 /dev/kfd"],
    "ryzen-ai": ["amd-gpu 0000:c1:00.0 /dev/dri/renderD128 /dev/kfd", "amd-npu 0000:c2:00.1 /dev/accel/accel0"],
    "hexagon": ["qualcomm-hexagon fastrpc-cdsp /dev/fastrpc-cdsp /dev/fastrpc-cdsp-secure"],
    "apple": ["apple-gpu 406400000.gpu /dev/dri/renderD128"],
    "hailo-8": ["hailo-8 0001:01:00.0 /dev/hailo0"],
    "hailo-10h": ["hailo-10h 0001:01:00.0 /dev/hailo0"],
    "coral-pcie": ["coral-pcie 0000:04:00.0 /dev/apex_0"],
    "coral-dual": ["coral-pcie 0000:04:00.0 /dev/apex_0", "coral-pcie 0000:05:00.0 /dev/apex_1"],
    "coral-usb": ["coral-usb 2-3 /dev/bus/usb/002/005"],
    "coral-usb-used": ["coral-usb 2-3 /dev/bus/usb/002/006"],
    "rk3588-vendor": ["rk3588-npu fdab0000.npu /dev/dri/renderD129"],
    "rk3588-mainline": ["rk3588-rocket rknn /dev/accel/accel0"],
    "mixed": [
        "coral-pcie 0000:05:00.0 /dev/apex_0",
        "coral-usb 2-3 /dev/bus/usb/002/007",
        "intel-gpu 0000:00:02.0 /dev/dri/renderD128",
        "intel-gpu 0000:03:00.0 /dev/dri/renderD129",
        "intel-npu 0000:00:0b.0 /dev/accel/accel0",
        "movidius 1-4 /dev/bus/usb/001/003",
        "nvidia-gpu 0000:01:00.0 /dev/nvidia-uvm /dev/nvidia0 /dev/nvidiactl",
    ],
    "two-arcs": ["intel-gpu 0000:03:00.0 /dev/dri/renderD128", "intel-gpu 0000:04:00.0 /dev/dri/renderD129"],
    "two-nvidias": [
        "nvidia-gpu 0000:01:00.0 /dev/nvidia-uvm /dev/nvidia0 /dev/nvidiactl",
        "nvidia-gpu 0000:41:00.0 /dev/nvidia-uvm /dev/nvidia1 /dev/nvidiactl",
    ],
    "no-driver": [
        "coral-pcie 0000:04:00.0 (no driver is bound: it needs apex)",
        "intel-npu 0000:00:0b.0 (no driver is bound: it needs intel_vpu)",
    ],
    "nouveau": ["nvidia-gpu 0000:01:00.0 (driver nouveau is bound, but nvidia is needed)"],
    "given-to-machine": ["nvidia-gpu 0000:01:00.0 (driver vfio-pci holds it for a virtual machine)"],
    "no-device-file": ["intel-npu 0000:00:0b.0 (the driver made no device of class accel)"],
    "root-only": [
        "intel-npu 0000:00:0b.0 (only root may open /dev/accel/accel0 (mode 0600): give it to a group by a udev rule)",
    ],
    "usb-root-only": [
        "coral-usb 2-3 (only root may open /dev/bus/usb/002/005 (mode 0664): give it to a group by a udev rule)",
    ],
    "dead-coral": ["coral-pcie 0000:04:00.0 (apex_0 is DEAD, says its driver)"],
    "unknown-device": [],
    "half-readable": [
        "coral-pcie 0000:06:00.0 (no driver is bound: it needs apex)",
        "intel-npu 0000:00:0b.0 /dev/accel/accel0",
    ],
}


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_has_what_it_has(board: str, look: Look) -> None:
    assert in_short(look(board)) == FOUND[board]


@pytest.mark.parametrize("board", BOARDS)
def test_what_is_found_is_of_the_api(board: str, look: Look) -> None:
    for accelerator in look(board):
        document = accelerator.wire()

        assert Accelerator.model_validate(document).wire() == document


@pytest.mark.parametrize(
    ("board", "expected"),
    [
        (
            "nvidia",
            {
                "hardware_id": "10de:27b8",
                "driver": "nvidia",
                "driver_version": "570.124.06",
                "numa_node": 0,
                "groups": (),
            },
        ),
        ("amd-gpu", {"hardware_id": "1002:7480", "driver": "amdgpu", "memory_bytes": 8573157376, "groups": (105,)}),
        ("hailo-8", {"driver": "hailo", "driver_version": "4.23.0", "numa_node": None}),
        ("rk3588-vendor", {"hardware_id": "rockchip,rk3588-rknpu", "driver": "RKNPU", "driver_version": "0.9.8"}),
        ("jetson-orin", {"hardware_id": "nvidia,tegra234", "driver": "nvgpu", "groups": (44,)}),
        ("hexagon", {"hardware_id": "qcom,qcs6490-rb3gen2", "driver": "", "groups": (985,)}),
        ("coral-usb", {"hardware_id": "1a6e:089a", "groups": (46,)}),
        ("nouveau", {"driver": "nouveau"}),
    ],
)
def test_what_is_told_of_a_device(board: str, expected: dict[str, Any], look: Look) -> None:
    (device,) = devices(look(board))

    assert {name: getattr(device, name) for name in expected} == expected


def test_a_device_keeps_its_id_when_it_re_enumerates(look: Look) -> None:
    (fresh,), (used,) = devices(look("coral-usb")), devices(look("coral-usb-used"))

    assert fresh.id == used.id
    assert fresh.files != used.files


def test_only_healthy_devices_count(look: Look) -> None:
    board = BOARDS["two-arcs"]().driver("pci", "vfio-pci", pci_folder("0000:04:00.0"))

    (arc,) = look(board)

    assert arc.wire()["count"] == 1
    assert [device["health"] for device in arc.wire()["devices"]] == ["Healthy", "Unhealthy"]


def test_files_that_a_runtime_gives_to_the_pod_may_be_roots_on_the_host(look: Look) -> None:
    for board in ("root-only", "usb-root-only"):
        (device,) = devices(look(board, owned=True))

        assert device.healthy


@pytest.mark.parametrize("reverse", [False, True])
def test_the_most_specific_entry_wins(reverse: bool, look: Look) -> None:  # noqa: FBT001 - a parameter of pytest's
    npu = {"vendor": "8086", "devices": ["7d1d"]}
    general: dict[str, Any] = {"name": "any-intel", "match": [{"pci": {"vendor": "8086", "classPrefix": "12"}}]}
    special: dict[str, Any] = {"name": "this-npu", "match": [{"pci": npu}]}
    entries = [general, special][:: -1 if reverse else 1]

    assert [each.accelerator for each in devices(look("meteor-lake", catalogue=entries))] == ["this-npu"]


def test_a_device_is_one_whether_its_bus_or_its_driver_tells(look: Look) -> None:
    entries: Catalogue = [
        {"name": "by-bus", "match": [{"pci": {"vendor": "8086", "classPrefix": "03"}}]},
        {"name": "by-driver", "match": [{"device": {"deviceClass": "drm-render", "drivers": ["i915"]}}]},
    ]

    assert len(devices(look("meteor-lake", catalogue=entries))) == 1


def test_a_word_of_the_device_tree_that_is_earlier_is_more_specific(look: Look) -> None:
    entries: Catalogue = [
        {"name": "a-tegra", "match": [{"deviceTree": {"compatible": ["nvidia,tegra234"]}}]},
        {"name": "our-carrier", "match": [{"deviceTree": {"compatible": ["nvidia,p3767-0005"]}}]},
    ]

    assert [each.accelerator for each in devices(look("jetson-orin", catalogue=entries))] == ["our-carrier"]


def test_all_parts_of_a_match_must_hold(look: Look, catalogue: Catalogue) -> None:
    found = look("nvidia", catalogue=[entry for entry in catalogue if entry["name"] in {"jetson-thor", "apple-gpu"}])

    assert found == ()


def test_an_entry_that_is_nonsense_hides_no_other(
    look: Look, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    nonsense: list[Any] = [None, {"match": []}, {"name": "x", "match": [7]}, {"name": "y", "match": [{"pci": {}}]}]

    assert in_short(look("arc", catalogue=[*nonsense, *catalogue])) == FOUND["arc"]
    assert capsys.readouterr().err.count("is not of its form") == len(nonsense)


def test_what_labels_of_nodes_say_is_not_for_the_probe(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    windows = {"nodeLabels": {"kubernetes.io/os": "windows"}}
    both = {**windows, "pci": {"vendor": "8086", "devices": ["e20b"]}}

    assert look("arc", catalogue=[{"name": "directml", "match": [windows, both]}]) == ()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["kfd"], "/dev/kfd is missing"),
        (["nv*", "x/*"], "there is no /dev/nv* or /dev/x/*"),
        (["../etc/passwd"], "there is no /dev/../etc/passwd"),
        (["log"], "/dev/log is not a device file"),
        (["out"], "/dev/out is missing"),
        (["odd"], "/dev/odd is missing"),
    ],
)
def test_device_files_that_are_missing_are_told(paths: list[str], message: str, look: Look) -> None:
    board = BOARDS["arc"]().file("dev/log", "text").file("etc/passwd", "root")
    board.links["dev/out"] = "../outside"
    board.node("dev/odd").links["dev/odd"] = "etc/odd"
    entry = {"name": "arc", "match": [{"pci": {"vendor": "8086", "classPrefix": "03"}}], "files": [{"paths": paths}]}

    (device,) = devices(look(board, catalogue=[entry]))

    assert (device.healthy, device.message, device.files) == (False, message, ())


def test_one_missing_file_leaves_the_others_in_sight(look: Look) -> None:
    board = BOARDS["amd-gpu"]()
    del board.nodes["dev/kfd"]

    (device,) = devices(look(board))

    assert (device.files, device.message) == (("/dev/dri/renderD128",), "/dev/kfd is missing")


def test_a_driver_that_serves_nothing_on_the_board_is_none(look: Look) -> None:
    board = Board().device_tree("Jetson", "nvidia,tegra234").attributes("sys/module/tegra", version="1")
    board.links["sys/bus/platform/drivers/gk20a/module"] = "sys/module/tegra"
    entry = {"name": "orin", "match": [{"deviceTree": {"compatible": ["nvidia,tegra234"]}}], "drivers": ["gk20a"]}

    assert in_short(look(board, catalogue=[entry])) == ["orin nvidia-tegra234 (no driver is bound: it needs gk20a)"]


def test_a_driver_that_is_bound_on_the_board_is_told(look: Look) -> None:
    board = Board().device_tree("Jetson", "nvidia,tegra234").platform("17000000.gpu", "gk20a")
    entry = {"name": "orin", "match": [{"deviceTree": {"compatible": ["nvidia,tegra234"]}}], "drivers": ["x", "gk20a"]}

    (device,) = devices(look(board, catalogue=[entry]))

    assert (device.healthy, device.driver) == (True, "gk20a")
