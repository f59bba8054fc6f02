"""What the probe reads of machines of each kind."""

from pathlib import Path
from typing import Any

import pytest

from skerry.api import machines
from skerry.api.nodeprofile import NodeProfileStatus
from skerry.probe.devices import SKERRY, FoundAccelerator, FoundDevice
from skerry.probe.machine import READ_SECONDS, Machine
from skerry.probe.publish import status_of
from tests.support.board import Board
from tests.support.boards import BOARDS, build

NOW = "2026-11-21T08:00:00Z"

_XEON_FEATURES = [
    *("amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_vnni", "avx512f"),
    *("f16c", "fma"),
]
EXPECTED: dict[str, dict[str, Any]] = {
    "xeon": {
        "machine": {"vendor": "Dell Inc.", "model": "PowerEdge XR4510c", "architecture": "amd64"},
        "cpu": {"model": "Intel(R) Xeon(R) Silver 4410T", "cores": 4, "features": _XEON_FEATURES},
        "memoryBytes": 65536000 * 1024,
        "memoryAvailableBytes": 60000000 * 1024,
    },
    "raspberry": {
        "machine": {"vendor": "", "model": "Raspberry Pi 5 Model B Rev 1.0", "architecture": "arm64"},
        "cpu": {
            "model": "Raspberry Pi 5 Model B Rev 1.0",
            "cores": 4,
            "features": ["asimd", "asimddp", "asimdhp"],
        },
        "memoryBytes": 8255488 * 1024,
        "memoryAvailableBytes": 6000000 * 1024,
    },
    "jetson-orin": {
        "machine": {"vendor": "", "model": "NVIDIA Jetson Orin Nano Developer Kit", "architecture": "arm64"},
        "cpu": {"model": "implementer 0x41 part 0xd42", "cores": 4, "features": ["asimd", "asimddp", "asimdhp"]},
        "memoryBytes": 7802880 * 1024,
        "memoryAvailableBytes": 5000000 * 1024,
    },
    "armv7": {
        "machine": {"vendor": "", "model": "FriendlyARM NanoPi NEO", "architecture": "arm"},
        "cpu": {"model": "ARMv7 Processor rev 5 (v7l)", "cores": 4, "features": []},
        "memoryBytes": 505540 * 1024,
        "memoryAvailableBytes": 0,
    },
    "bare": {
        "machine": {"vendor": "", "model": "", "architecture": "amd64"},
        "cpu": {"model": "", "cores": 0, "features": []},
        "memoryBytes": 0,
        "memoryAvailableBytes": 0,
    },
}
REST = {
    "probeVersion": "1.2.3",
    "powerSource": "Unknown",
    "energyCounter": "None",
    "acceleratorSummary": "cpu:1",
    "accelerators": [{"name": "cpu", "count": 1, "resourceName": "", "offeredBy": "Nobody", "devices": []}],
}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def machine(board: Board, root: Path, clock: Clock | None = None, jitter: float = 0.0) -> Machine:
    architecture = machines.architecture(board.machine)
    made = board.write(root)
    return Machine(made, version="1.2.3", architecture=architecture, now=clock or Clock(), jitter=lambda: jitter)


@pytest.mark.parametrize("board", EXPECTED)
def test_a_board_is_told_as_it_is(board: str, tmp_path: Path) -> None:
    assert machine(BOARDS[board](), tmp_path).profile() == {**REST, **EXPECTED[board]}


@pytest.mark.parametrize("board", BOARDS)
def test_the_status_is_of_the_api(board: str, tmp_path: Path) -> None:
    status = status_of(machine(BOARDS[board](), tmp_path).profile(), {}, NOW)

    assert NodeProfileStatus.model_validate(status).wire() == status


def test_accelerators_come_after_the_cpu(tmp_path: Path) -> None:
    device = FoundDevice(accelerator="npu", id="accel0", healthy=True, files=("/dev/accel/accel0",))
    found = FoundAccelerator("npu", "skerry.dev/npu", SKERRY, (device,))

    _, npu = machine(Board(), tmp_path).profile([found])["accelerators"]

    assert (npu["name"], npu["count"], npu["resourceName"], npu["offeredBy"]) == ("npu", 1, "skerry.dev/npu", "Skerry")
    assert "files" not in npu["devices"][0]


def test_names_that_firmware_pads_and_overdoes_are_cut(tmp_path: Path) -> None:
    board = Board().firmware("", "x" * 1000)
    board.file("sys/devices/virtual/dmi/id/sys_vendor", b"  Example Corp \0\xff\xff rest\n")

    told = machine(board, tmp_path).profile()["machine"]

    assert told["vendor"] == "Example Corp"
    assert told["model"] == "x" * 256


def test_this_machine_can_be_read() -> None:
    found = Machine(Path("/"), version="1").profile()

    assert found["cpu"]["cores"] > 0
    assert 0 < found["memoryAvailableBytes"] < found["memoryBytes"]
    assert found["machine"]["architecture"] == machines.architecture()


def test_proc_may_be_below_another_root(tmp_path: Path) -> None:
    build(tmp_path, "xeon")

    found = Machine(tmp_path / "none", proc_root=tmp_path / "xeon", version="1").profile()

    assert found["memoryBytes"] == 65536000 * 1024
    assert found["cpu"]["cores"] == 4


def zone(board: Board, number: int, temperature: str) -> Board:
    return board.attributes(f"sys/class/thermal/thermal_zone{number}", temp=temperature)


@pytest.mark.parametrize(
    ("board", "temperature"),
    [
        (zone(zone(Board(), 0, "41500"), 1, "63900"), 64),
        (zone(zone(Board(), 0, "-274000"), 1, "-5400"), -5),
        (zone(Board(), 0, "41000").attributes("sys/class/hwmon/hwmon0", temp1_input="90000"), 41),
        (zone(Board(), 0, "garbage").attributes("sys/class/hwmon/hwmon0", temp1_input="90000"), 90),
        (zone(Board(), 0, "255000"), None),
        (Board(), None),
    ],
)
def test_the_temperature_is_the_highest_plausible_one(board: Board, temperature: int | None, tmp_path: Path) -> None:
    assert machine(board, tmp_path).profile().get("temperatureCelsius") == temperature


def supply(board: Board, name: str, **attributes: str) -> Board:
    return board.attributes(f"sys/class/power_supply/{name}", **attributes)


@pytest.mark.parametrize(
    ("board", "source"),
    [
        (supply(supply(Board(), "BAT0", type="Battery"), "AC", type="Mains", online="1"), "Mains"),
        (supply(supply(Board(), "BAT0", type="Battery"), "AC", type="Mains", online="0"), "Battery"),
        (supply(supply(Board(), "BAT0", type="Battery"), "usb-c", type="USB", online="1"), "Mains"),
        (supply(Board(), "hidpp_battery_0", type="Battery", scope="Device"), "Unknown"),
        (supply(Board(), "odd", type="Mains", online="\0\xff"), "Unknown"),
        (Board(), "Unknown"),
    ],
)
def test_the_source_of_power_is_told(board: Board, source: str, tmp_path: Path) -> None:
    assert machine(board, tmp_path).profile()["powerSource"] == source


@pytest.mark.parametrize(
    ("board", "counter"),
    [
        (Board().attributes("sys/class/powercap/intel-rapl:0", energy_uj="12"), "RAPL"),
        (Board().attributes("sys/class/powercap/intel-rapl:0", name="package-0"), "None"),
        (Board().attributes("sys/class/hwmon/hwmon3", name="ina3221"), "INA"),
        (Board().attributes("sys/class/hwmon/hwmon3", name="coretemp"), "None"),
    ],
)
def test_what_counts_energy_is_told(board: Board, counter: str, tmp_path: Path) -> None:
    assert machine(board, tmp_path).profile()["energyCounter"] == counter


def drifting(temperature: int, available: int) -> Board:
    return zone(Board().memory(32_000_000, available), 0, str(temperature))


@pytest.mark.parametrize(("jitter", "due"), [(0.0, READ_SECONDS), (1.0, READ_SECONDS * 1.5)])
def test_what_drifts_is_told_after_a_minute_or_somewhat_more(jitter: float, due: float, tmp_path: Path) -> None:
    clock = Clock()
    node = machine(drifting(40_000, 20_000_000), tmp_path, clock, jitter)
    node.profile()
    drifting(60_000, 10_000_000).write(tmp_path)

    clock.time = due - 0.1
    before = node.profile()
    clock.time = due
    after = node.profile()

    assert (before["temperatureCelsius"], before["memoryAvailableBytes"]) == (40, 20_000_000 * 1024)
    assert (after["temperatureCelsius"], after["memoryAvailableBytes"]) == (60, 10_000_000 * 1024)


def test_small_drifts_change_nothing_until_they_add_up(tmp_path: Path) -> None:
    clock = Clock()
    node = machine(drifting(40_000, 20_000_000), tmp_path, clock)
    first = node.profile()

    drifting(41_000, 19_500_000).write(tmp_path)
    clock.time += READ_SECONDS
    assert node.profile() == first

    drifting(42_000, 19_000_000).write(tmp_path)
    clock.time += READ_SECONDS
    last = node.profile()
    assert (last["temperatureCelsius"], last["memoryAvailableBytes"]) == (42, 19_000_000 * 1024)


def test_a_plug_that_is_pulled_is_told_at_once(tmp_path: Path) -> None:
    plugged = supply(supply(Board(), "BAT0", type="Battery"), "AC", type="Mains", online="1")
    node = machine(plugged, tmp_path)
    node.profile()
    supply(plugged, "AC", online="0").write(tmp_path)

    assert node.profile()["powerSource"] == "Battery"
