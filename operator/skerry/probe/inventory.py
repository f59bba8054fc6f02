"""The accelerators of the node, from all that the probe can see."""

from skerry.probe.devices import NOBODY, SKERRY, VENDOR, FoundAccelerator, FoundDevice
from skerry.probe.entries import Entry
from skerry.probe.examine import Examiner
from skerry.probe.recognise import Recogniser
from skerry.probe.vendors import Vendors

MOST_ACCELERATORS = 31
MOST_DEVICES = 64
"""What a NodeProfile takes besides the CPU."""


class Inventory:
    """Looks for accelerators."""

    def __init__(self, recogniser: Recogniser, examiner: Examiner, vendors: Vendors, *, serves: bool) -> None:
        """Take the parts; `serves` says whether Skerry's own device plugin runs."""
        self._recogniser, self._examiner, self._vendors, self._serves = recogniser, examiner, vendors, serves

    def look(self) -> tuple[FoundAccelerator, ...]:
        """Return the accelerators that are there now, healthy or not, sorted by name."""
        found: dict[str, tuple[Entry, dict[str, FoundDevice]]] = {}
        for recognised in self._recogniser.look():
            device = self._examiner.examine(recognised)
            _, devices = found.setdefault(recognised.entry.name, (recognised.entry, {}))
            # Ids are made from names of the kernel's; two that differ in odd letters only would be one.
            devices.setdefault(device.id, device)
        several = sorted(found.items())[:MOST_ACCELERATORS]
        return tuple(
            self._accelerator(entry, tuple(devices.values())[:MOST_DEVICES]) for _, (entry, devices) in several
        )

    def _accelerator(self, entry: Entry, devices: tuple[FoundDevice, ...]) -> FoundAccelerator:
        resource, offered_by = "", NOBODY
        if vendor := self._vendors.offered(entry.vendor_resources):
            resource, offered_by = vendor, VENDOR
        elif self._serves and entry.schedulable and entry.needs_files:
            resource, offered_by = f"skerry.dev/{entry.name}", SKERRY
        return FoundAccelerator(entry.name, resource, offered_by, devices)
