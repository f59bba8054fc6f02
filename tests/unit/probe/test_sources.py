"""What the probe makes of files that are not as they should be, and of devices that come and go."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.probe.sources import classes, pci, usb
from skerry.probe.sources.tree import Tree
from tests.support.board import Board, pci_folder
from tests.support.boards import BOARDS
from tests.unit.probe.looking import inventory, looker

Catalogue = list[dict[str, Any]]


def refuse(*_: object) -> None:
    raise PermissionError


def test_what_is_outside_of_the_root_is_not_seen(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("7")
    root = tmp_path / "root"
    root.mkdir()
    (root / "absolute").symlink_to(outside)
    (root / "relative").symlink_to("../outside")
    (root / "inside").symlink_to("folder")
    (root / "folder").mkdir()
    (root / "folder/word").write_text("here")
    tree = Tree(root)

    for name in ("absolute", "relative", "../outside"):
        assert tree.names(name) == []
        assert tree.stamps(name) == {}
        assert tree.text(f"{name}/secret") == ""
        assert tree.number(f"{name}/secret") is None
        assert tree.status(f"{name}/secret") is None
        assert tree.resolve(name) is None
        assert tree.target(name) == ""
    assert tree.text("inside/word") == "here"
    assert tree.resolve("inside/word") == "folder/word"
    assert tree.target("inside") == "folder"


def test_the_root_may_be_the_whole_machine_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("here")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)

    assert Tree(Path("/")).text(f"{tmp_path}/word".lstrip("/")) == "here"
    assert Tree(link).text("word") == "here"


@pytest.mark.parametrize(
    ("content", "text", "number", "hexadecimal"),
    [
        (b"", "", None, ""),
        (b"0x8086\n", "0x8086", 0x8086, "8086"),
        (b"8086\n", "8086", 8086, "8086"),
        (b" 12 \0 13", "12", 12, "12"),
        (b"\xff\xfe\0", "\N{REPLACEMENT CHARACTER}" * 2, None, ""),
        (b"one\ntwo\x1b[31m", "one two [31m", None, ""),
        (b"9" * 5000, "9" * 4096, None, ""),
    ],
)
def test_garbage_is_read_as_what_it_can_be(
    content: bytes, text: str, number: int | None, hexadecimal: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    tree = Tree(tmp_path)

    assert (tree.text("file"), tree.number("file"), tree.hexadecimal("file")) == (text, number, hexadecimal)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert Tree(tmp_path).text("pipe") == ""


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert Tree(tmp_path).text("a/vendor") == ""
    assert Tree(tmp_path).names("a") == []


@pytest.mark.parametrize("board", ["mixed", "jetson-orin", "hexagon", "hailo-8", "rk3588-vendor", "half-readable"])
@pytest.mark.parametrize("function", ["open", "scandir", "read", "fstat"])
def test_a_board_of_which_little_can_be_read_has_no_more_than_before(
    board: str, function: str, tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {each.name for each in inventory(tmp_path, BOARDS[board](), catalogue).look()}
    node = looker(tmp_path, BOARDS[board](), catalogue)

    with monkeypatch.context() as patch:
        patch.setattr(f"skerry.probe.sources.tree.os.{function}", refuse)
        found = {each.name for each in node.look()}

    assert found <= whole
    assert {each.name for each in node.look()} == whole


class Vanishing:
    """Removes a file of the board after so many system calls that look at it."""

    def __init__(self, victim: Path, after: int) -> None:
        self.victim, self.left = victim, after

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if self.left == 0:
                self.victim.unlink(missing_ok=True)
            self.left -= 1
            return function(*arguments, **more)

        return call


@pytest.mark.parametrize(
    "victim",
    [
        "sys/bus/pci/devices/0000:00:0b.0",
        f"{pci_folder('0000:00:0b.0')}/device",
        f"{pci_folder('0000:00:0b.0')}/driver",
        "sys/class/accel/accel0",
        "dev/accel/accel0",
    ],
)
def test_files_that_vanish_at_any_moment_are_no_error(
    victim: str, tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.path.realpath
    board = BOARDS["meteor-lake"]()
    file = tmp_path / victim
    for after in range(0, 90, 3):
        board.write(tmp_path)
        vanishing = Vanishing(file, after)
        with monkeypatch.context() as patch:
            patch.setattr("skerry.probe.sources.tree.os.path.realpath", vanishing.over(original))
            looker(tmp_path, board, catalogue).look()
        file.unlink(missing_ok=True)

        npus = [each for each in looker(tmp_path, board, catalogue).look() if each.name == "intel-npu"]

        assert not any(device.healthy for npu in npus for device in npu.devices)
    assert vanishing.left > 0


def test_a_device_that_is_unplugged_and_plugged_in_again_is_told(tmp_path: Path, catalogue: Catalogue) -> None:
    node = inventory(tmp_path, BOARDS["coral-usb"](), catalogue)
    (plugged,) = node.look()

    link = tmp_path / "sys/bus/usb/devices/2-3"
    link.unlink()
    assert node.look() == ()

    BOARDS["coral-usb-used"]().write(tmp_path)
    (again,) = node.look()
    assert plugged.devices[0].files == ("/dev/bus/usb/002/005",)
    assert again.devices[0].id == plugged.devices[0].id


def test_a_device_that_re_enumerates_between_two_looks_is_told(tmp_path: Path, catalogue: Catalogue) -> None:
    node = inventory(tmp_path, BOARDS["coral-usb"](), catalogue)
    (fresh,) = node.look()

    # The kernel makes link and folder anew.
    (tmp_path / "sys/bus/usb/devices/2-3").unlink()
    used = BOARDS["coral-usb-used"]()
    (used_now,) = looker(used.write(tmp_path), used, catalogue).look()
    (again,) = node.look()

    assert again.devices[0].hardware_id == used_now.devices[0].hardware_id == "18d1:9302"
    assert again.devices[0].id == fresh.devices[0].id


def test_a_driver_that_is_bound_later_makes_a_device_healthy(tmp_path: Path, catalogue: Catalogue) -> None:
    board = BOARDS["no-device-file"]()
    node = inventory(tmp_path, board, catalogue)
    assert [each.wire()["count"] for each in node.look()] == [0]

    board.class_device("accel", "accel0", pci_folder("0000:00:0b.0")).write(tmp_path)
    assert [each.wire()["count"] for each in node.look()] == [1]

    (tmp_path / pci_folder("0000:00:0b.0") / "driver").unlink()
    (tmp_path / "sys/class/accel/accel0").unlink()
    assert [each.devices[0].message for each in node.look()] == ["no driver is bound: it needs intel_vpu"]


def test_what_a_driver_tells_late_is_told_then(tmp_path: Path, catalogue: Catalogue) -> None:
    board = BOARDS["amd-gpu"]()
    memory = f"{pci_folder('0000:03:00.0')}/mem_info_vram_total"
    del board.files[memory]
    node = inventory(tmp_path, board, catalogue)
    assert [each.devices[0].memory_bytes for each in node.look()] == [0]

    board.file(memory, "8573157376\n").write(tmp_path)
    assert [each.devices[0].memory_bytes for each in node.look()] == [8573157376]


def test_another_driver_has_another_version(tmp_path: Path, catalogue: Catalogue) -> None:
    board = BOARDS["hailo-8"]()
    node = inventory(tmp_path, board, catalogue)
    node.look()

    board.driver("pci", "hailo1x", pci_folder("0001:01:00.0"), "hailo1x", "5.1.1").write(tmp_path)
    (device,) = node.look()[0].devices

    assert (device.driver, device.driver_version, device.healthy) == ("hailo1x", "5.1.1", False)


def test_devices_that_stay_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(BOARDS["mixed"]().write(tmp_path))
    looks: list[Callable[[], Any]] = [
        pci.functions(tree).look,
        usb.devices(tree).look,
        classes.devices(tree, "accel").look,
    ]
    before = [look() for look in looks]
    opened: list[str] = []

    def note(path: str, *_: object) -> int:
        opened.append(path)
        raise PermissionError

    monkeypatch.setattr("skerry.probe.sources.tree.os.open", note)

    after = [look() for look in looks]

    assert all(before)
    assert [one is other for one, other in zip(after, before, strict=True)] == [True, True, True]
    assert opened == []


def test_a_function_that_cannot_be_read_yet_is_read_later(tmp_path: Path) -> None:
    functions = pci.functions(Tree(Board().pci("0000:00:01.0", "8086:7d1d", "120000").write(tmp_path)))
    vendor = tmp_path / pci_folder("0000:00:01.0") / "vendor"
    vendor.write_text("")
    assert functions.look() == ()

    vendor.write_text("0x8086\n")
    assert [function.vendor for function in functions.look()] == ["8086"]
