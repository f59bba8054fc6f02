"""What the probe reads of machines of each kind."""

from pathlib import Path

import pytest

from skerry.accelerators import cpu
from skerry.api.nodeprofile import NodeProfileStatus
from skerry.probe.machine import profile
from skerry.probe.publish import status_of
from tests.unit.probe.boards import ARCHITECTURES, BOARDS, EXPECTED, build

NOW = "2026-11-21T08:00:00Z"


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_told_as_it_is(board: str, tmp_path: Path) -> None:
    architecture = cpu.architecture(ARCHITECTURES.get(board, "x86_64"))

    found = profile(build(tmp_path, board), version="1.2.3", architecture=architecture)

    assert found == EXPECTED[board]


@pytest.mark.parametrize("board", BOARDS)
def test_the_status_is_of_the_api(board: str, tmp_path: Path) -> None:
    status = status_of(profile(build(tmp_path, board), version="1.2.3", architecture="amd64"), {}, NOW)

    assert NodeProfileStatus.model_validate(status).wire() == status


def test_names_that_firmware_pads_and_overdoes_are_cut(tmp_path: Path) -> None:
    root = build(tmp_path, "xeon")
    dmi = root / "sys/devices/virtual/dmi/id"
    (dmi / "sys_vendor").write_bytes(b"  Example Corp \0\xff\xff rest\n")
    (dmi / "product_name").write_text("x" * 1000, encoding="utf-8")

    machine = profile(root, version="1")["machine"]

    assert machine["vendor"] == "Example Corp"
    assert machine["model"] == "x" * 256


def test_this_machine_can_be_read() -> None:
    found = profile(Path("/"), version="1")

    assert found["cpu"]["cores"] > 0
    assert found["memoryBytes"] > 0
    assert found["machine"]["architecture"] == cpu.architecture()
