"""PCI functions, from `sys/bus/pci/devices`."""

from dataclasses import dataclass
from typing import Final

from skerry.probe.sources.roster import Roster
from skerry.probe.sources.tree import Tree

FOLDER: Final = "sys/bus/pci/devices"


@dataclass(frozen=True)
class PciFunction:
    """One function: its address, ids of four hexadecimal digits, class code of six, and folder below `sys/devices`."""

    address: str
    vendor: str
    device: str
    class_code: str
    path: str


def functions(tree: Tree) -> Roster[PciFunction]:
    """Return the functions of a node; one whose ids cannot be read is none, the class code may be empty."""

    def read(address: str) -> PciFunction | None:
        path = tree.resolve(f"{FOLDER}/{address}")
        if path is None:
            return None
        vendor, device = (tree.hexadecimal(f"{path}/{name}") for name in ("vendor", "device"))
        if not vendor or not device:
            return None
        code = tree.hexadecimal(f"{path}/class")
        return PciFunction(address, vendor.zfill(4), device.zfill(4), code.zfill(6) if code else "", path)

    return Roster(tree, FOLDER, read)
