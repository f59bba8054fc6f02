"""Character devices that drivers made, by class, from `sys/class`.

Device files are where the kernel itself puts them (`DEVNAME` of `uevent`): the kernel's devtmpfs is what every
distribution's udev starts from.
"""

import re
from dataclasses import dataclass
from typing import Final

from skerry.probe.sources import pci
from skerry.probe.sources.roster import Roster
from skerry.probe.sources.tree import Tree

_FOLDERS: Final = {"drm-render": "sys/class/drm"}
_NAMES: Final = {"accel": re.compile(r"accel\d+"), "drm-render": re.compile(r"renderD\d+")}
_FILES: Final = {"accel": "accel/{}", "drm-render": "dri/{}"}
_DEVICE_NAME: Final = re.compile(r"^DEVNAME=(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class ClassDevice:
    """One device of a class.

    Attributes:
        device_class: Name of the class in the catalogue's words (`skerry.accelerators.catalogue.DeviceClass`).
        name: As `renderD128`.
        file: Its device file below the root.
        path: Its folder below `sys/devices`.
        parent: Folder of the device that it belongs to; empty where it belongs to none.
        bus: Bus of the parent, as `pci` or `platform`.
        driver: Driver of the parent.
    """

    device_class: str
    name: str
    file: str
    path: str
    parent: str
    bus: str
    driver: str


def devices(tree: Tree, device_class: str) -> Roster[ClassDevice]:
    """Return the devices of a class; one that leads out of the root is none."""
    folder = _FOLDERS.get(device_class, f"sys/class/{device_class}")
    pattern = _NAMES.get(device_class)

    def read(name: str) -> ClassDevice | None:
        path = tree.resolve(f"{folder}/{name}")
        if path is None:
            return None
        parent = _parent(tree, path)
        return ClassDevice(
            device_class=device_class,
            name=name,
            file=_file(tree, device_class, name, path),
            path=path,
            parent=parent,
            bus=tree.target(f"{parent}/subsystem") if parent else "",
            driver=tree.target(f"{parent}/driver") if parent else "",
        )

    return Roster(tree, folder, read, wanted=lambda name: pattern is None or pattern.fullmatch(name) is not None)


def _parent(tree: Tree, path: str) -> str:
    if tree.target(f"{path}/device"):
        return tree.resolve(f"{path}/device") or ""
    # Hailo's driver makes its devices without a parent, but tells the PCI address.
    # https://github.com/hailo-ai/hailort-drivers, linux/pcie/src/sysfs.c
    address = tree.text(f"{path}/board_location")
    return (tree.resolve(f"{pci.FOLDER}/{address}") or "") if address and "/" not in address else ""


def _file(tree: Tree, device_class: str, name: str, path: str) -> str:
    told = _DEVICE_NAME.search(tree.data(f"{path}/uevent").decode("utf-8", errors="replace"))
    return "dev/" + (told[1].strip() if told else _FILES.get(device_class, "{}").format(name))
