"""What the probe found: the contract between recognising devices, publishing them and offering them to the kubelet."""

from dataclasses import dataclass
from typing import Any, Final

NOBODY: Final = "Nobody"
SKERRY: Final = "Skerry"
VENDOR: Final = "Vendor"
"""Whose device plugin offers a resource, in the API's words (`skerry.api.nodeprofile.OfferedBy`)."""


@dataclass(frozen=True)
class FoundDevice:
    """One device that an entry of the catalogue recognised.

    Attributes:
        accelerator: Name of the entry.
        id: What stays the same while the device stays where it is, also over re-enumeration: PCI address
            (`0000:00:0b.0`), USB port path (`2-3`), name of the platform or class device, or the device tree's name.
            Unique within the accelerator.
        healthy: Whether it can be used now.
        message: Why it cannot be used; empty when it can.
        files: Absolute paths on the host of the device files that a pod gets, sorted, each once: `/dev/accel/accel0`.
            Those that are there; all of them when the device is healthy. They change when a device re-enumerates
            (USB: `/dev/bus/usb/002/005` becomes `/dev/bus/usb/002/006`), while the id stays.
        groups: Numbers of the groups one of which a pod that is not root needs to open the files, where not everybody
            may: those of the files' owners, sorted.
        hardware_id: Vendor and device as `8086:643e`, or the device tree's name.
        driver: Kernel driver that is bound; empty when there is none.
        driver_version: Version of the driver, where it tells one.
        memory_bytes: Memory of its own in bytes; 0 where there is none or none is told.
        numa_node: Number of the NUMA node that it is near to; None where there is but one, or none is told.
    """

    accelerator: str
    id: str
    healthy: bool
    message: str = ""
    files: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    hardware_id: str = ""
    driver: str = ""
    driver_version: str = ""
    memory_bytes: int = 0
    numa_node: int | None = None

    def wire(self) -> dict[str, Any]:
        """Return what is published, in the API's form."""
        return {
            "id": self.id,
            "hardwareId": self.hardware_id,
            "driver": self.driver,
            "driverVersion": self.driver_version,
            "memoryBytes": self.memory_bytes,
            "groups": list(self.groups)[:16],
            "health": "Healthy" if self.healthy else "Unhealthy",
            "message": self.message,
        }


@dataclass(frozen=True)
class FoundAccelerator:
    """An accelerator that the node has, with its devices, healthy or not.

    Attributes:
        name: Name of the entry.
        resource_name: Extended resource that a pod asks for: the vendor's, or `skerry.dev/<name>`; empty when nobody
            offers one.
        offered_by: NOBODY, SKERRY or VENDOR. Skerry's device plugin serves the accelerator exactly when this is SKERRY.
        devices: Sorted by id, at least one.
    """

    name: str
    resource_name: str
    offered_by: str
    devices: tuple[FoundDevice, ...]

    def wire(self) -> dict[str, Any]:
        """Return what is published, in the API's form."""
        return {
            "name": self.name,
            "count": sum(device.healthy for device in self.devices),
            "resourceName": self.resource_name,
            "offeredBy": self.offered_by,
            "devices": [device.wire() for device in self.devices],
        }
