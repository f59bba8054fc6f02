"""USB devices, from `sys/bus/usb/devices`."""

from dataclasses import dataclass
from typing import Final

from skerry.probe.sources.roster import Roster
from skerry.probe.sources.tree import Tree

FOLDER: Final = "sys/bus/usb/devices"


@dataclass(frozen=True)
class UsbDevice:
    """One device.

    Attributes:
        port: Path of ports from the bus on, as `2-3.1`: it stays when the device re-enumerates.
        vendor: Four hexadecimal digits.
        product: Four hexadecimal digits.
        file: Its device file below the root, `dev/bus/usb/002/005`: it changes when the device re-enumerates.
        path: Folder below `sys/devices`.
    """

    port: str
    vendor: str
    product: str
    file: str
    path: str


def devices(tree: Tree) -> Roster[UsbDevice]:
    """Return the devices of a node but for root hubs; one whose ids or numbers cannot be read is none."""

    def read(port: str) -> UsbDevice | None:
        path = tree.resolve(f"{FOLDER}/{port}")
        if path is None:
            return None
        vendor, product = (tree.hexadecimal(f"{path}/{name}") for name in ("idVendor", "idProduct"))
        bus, number = (tree.number(f"{path}/{name}") for name in ("busnum", "devnum"))
        if not vendor or not product or bus is None or number is None:
            return None
        return UsbDevice(port, vendor.zfill(4), product.zfill(4), f"dev/bus/usb/{bus:03}/{number:03}", path)

    return Roster(tree, FOLDER, read, wanted=_is_device)


def driver(tree: Tree, device: UsbDevice) -> str:
    """Return the driver of the first interface that has one; empty when none has."""
    interfaces = (name for name in tree.names(device.path) if name.startswith(f"{device.port}:"))
    drivers = (tree.target(f"{device.path}/{name}/driver") for name in interfaces)
    return next((name for name in drivers if name), "")


def _is_device(name: str) -> bool:
    """Tell devices (`2-3.1`) from interfaces (`2-3.1:1.0`) and from the hubs at the root (`usb2`)."""
    return ":" not in name and not name.startswith("usb")
