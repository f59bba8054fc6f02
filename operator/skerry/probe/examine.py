"""Whether a recognised device can be used now, and which device files it has."""

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from skerry.probe.devices import FoundDevice
from skerry.probe.entries import Entry
from skerry.probe.recognise import Place, Recognised
from skerry.probe.sources import devicetree, nvidia, usb
from skerry.probe.sources.tree import Tree

_FOR_MACHINES: Final = {"vfio-pci", "pci-stub", "pciback", "xen-pciback"}
"""Drivers that hold a device for a virtual machine."""
_NVIDIA: Final = re.compile(r"dev/nvidia\d+")
_WILDCARDS: Final = set("*?[")
_DEAD: Final = {"DEAD", "LAMED"}
"""What Coral's driver says of a card that does not answer; Linux, drivers/staging/gasket/gasket_core.c (until 5.19)."""
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP
_TEXT: Final = 256


@dataclass(frozen=True)
class NodeFile:
    """What a device file lets whom do: its mode as of `chmod`, and the number of the owning group."""

    mode: int
    group: int


LookAtFile = Callable[[str, os.stat_result], NodeFile | None]


def node_file(_path: str, status: os.stat_result) -> NodeFile | None:
    """Return what a file lets do; None when it is no character device.

    It is not opened to try: a container may open only the devices that it was given.
    """
    return NodeFile(status.st_mode & 0o777, status.st_gid) if stat.S_ISCHR(status.st_mode) else None


@dataclass(frozen=True)
class _Facts:
    """What stays as long as the device and its driver do: its attributes are not read again, that could wake it."""

    driver_version: str
    memory_bytes: int
    numa_node: int | None


class Examiner:
    """Looks at devices."""

    def __init__(self, tree: Tree, proc: Tree, file: LookAtFile = node_file, *, owned: bool = False) -> None:
        """Take what to look at.

        Args:
            tree: The node.
            proc: The node as well, where `proc` is below another root.
            file: What a device file is; tests have regular files in place of them.
            owned: Whether pods get device files as their own, whatever their mode on the host (the Container Device
                Interface does so).
        """
        self.tree = tree
        self._proc, self._file, self._owned = proc, file, owned
        self._facts: dict[str, tuple[Recognised, str, _Facts]] = {}

    def examine(self, recognised: Recognised) -> FoundDevice:
        """Return the device as it is now."""
        entry, place = recognised.entry, recognised.place
        driver = self._driver(entry, place)
        files, groups, problem = self._files(entry, place)
        problem = _driver_problem(entry, place, driver) or self._state_problem(place) or problem
        facts = self._facts_of(recognised, driver)
        return FoundDevice(
            accelerator=entry.name,
            id=place.id,
            healthy=not problem,
            message=problem[:_TEXT],
            files=files,
            groups=groups,
            hardware_id=place.hardware_id[:_TEXT],
            driver=driver[:_TEXT],
            driver_version=facts.driver_version,
            memory_bytes=facts.memory_bytes,
            numa_node=facts.numa_node,
        )

    def _facts_of(self, recognised: Recognised, driver: str) -> _Facts:
        entry, place = recognised.entry, recognised.place
        known = self._facts.get(place.key)
        if known is not None and known[:2] == (recognised, driver):
            return known[2]
        node = self.tree.number(f"{place.path}/numa_node") if place.path else None
        facts = _Facts(
            driver_version=self._version(driver, place)[:_TEXT],
            memory_bytes=self._memory(entry, place),
            numa_node=node if node is not None and node >= 0 else None,
        )
        # A driver that is starting tells its device's memory later.
        if facts.memory_bytes or not entry.memory_file:
            self._facts[place.key] = (recognised, driver, facts)
        return facts

    def _driver(self, entry: Entry, place: Place) -> str:
        if place.board:
            return devicetree.driver(self.tree, entry.drivers)
        if place.usb is not None:
            return usb.driver(self.tree, place.usb)
        return self.tree.target(f"{place.path}/driver") if place.path else ""

    def _version(self, driver: str, place: Place) -> str:
        told = self.tree.text(f"{place.path}/driver/module/version") if place.path and place.usb is None else ""
        return told or (self.tree.text(f"sys/module/{driver.replace('-', '_')}/version") if driver else "")

    def _memory(self, entry: Entry, place: Place) -> int:
        if not entry.memory_file or not place.path:
            return 0
        return max(0, self.tree.number(f"{place.path}/{entry.memory_file}") or 0)

    def _state_problem(self, place: Place) -> str:
        for device in place.class_devices:
            state = self.tree.text(f"{device.path}/status") if device.device_class == "apex" else ""
            if state in _DEAD:
                return f"{device.name} is {state}, says its driver"
        return ""

    def _files(self, entry: Entry, place: Place) -> tuple[tuple[str, ...], tuple[int, ...], str]:
        """Return the device files on the host, the groups that may open them, and what is wrong with them."""
        problems: list[str] = []
        files: dict[str, NodeFile] = {}
        for path in self._wanted(entry, place, problems):
            # The link of a device that is gone leads nowhere; one out of /dev leads to something else.
            resolved = self.tree.resolve(path)
            status = self.tree.status(path)
            found = self._file(f"/{path}", status) if status is not None else None
            if resolved is None or not resolved.startswith("dev/") or status is None:
                problems.append(f"/{path} is missing")
            elif found is None:
                problems.append(f"/{path} is not a device file")
            else:
                files[f"/{resolved}"] = found
        groups: set[int] = set()
        for path, found in sorted(files.items()):
            if self._owned or found.mode & _OTHERS == _OTHERS:
                continue
            if found.mode & _GROUP == _GROUP and found.group:
                groups.add(found.group)
            else:
                problems.append(f"only root may open {path} (mode {found.mode:04o}): give it to a group by a udev rule")
        return tuple(sorted(files)), tuple(sorted(groups)), problems[0] if problems else ""

    def _wanted(self, entry: Entry, place: Place, problems: list[str]) -> Iterator[str]:
        """Yield the device files that there must be, below the root, and tell what has none."""
        if place.usb is not None:
            yield place.usb.file
        for wanted in entry.classes:
            own = [device.file for device in place.class_devices if device.device_class == wanted]
            if not own:
                problems.append(f"the driver made no device of class {wanted}")
            yield from own
        for patterns in entry.paths:
            found = [path for pattern in patterns for path in self._glob(pattern) if not self._is_anothers(path, place)]
            if not found:
                problems.append(f"there is no /dev/{' or /dev/'.join(patterns)}")
            yield from found

    def _is_anothers(self, path: str, place: Place) -> bool:
        """Tell the file of another GPU of NVIDIA's from those that all GPUs share."""
        if not _NVIDIA.fullmatch(path):
            return False
        own = nvidia.file(self._proc, place.path.rpartition("/")[2])
        return bool(own) and path != f"dev/{own}"

    def _glob(self, pattern: str) -> list[str]:
        """Return the paths that a pattern means: those that are there, or itself when it has no wildcard."""
        paths = ["dev"]
        for part in pattern.split("/"):
            if part in {"", ".", ".."}:
                return []
            if _WILDCARDS.isdisjoint(part):
                paths = [f"{path}/{part}" for path in paths]
            else:
                paths = [f"{path}/{name}" for path in paths for name in fnmatch.filter(self.tree.names(path), part)]
        return paths


def _driver_problem(entry: Entry, place: Place, driver: str) -> str:
    if driver in _FOR_MACHINES:
        return f"driver {driver} holds it for a virtual machine"
    # What is no device in the kernel's eyes has no driver that one could see: that it is there says enough.
    if not entry.drivers or driver in entry.drivers or not (place.path or place.board):
        return ""
    needed = " or ".join(entry.drivers)
    return f"driver {driver} is bound, but {needed} is needed" if driver else f"no driver is bound: it needs {needed}"
