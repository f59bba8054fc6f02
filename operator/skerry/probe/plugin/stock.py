"""What one resource has to give. Pure: told what was found, asked what to list and what to hand out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skerry.probe.devices import FoundDevice

Offer = Mapping[str, Sequence[FoundDevice] | None]
"""What to offer, by accelerator; None: it is left to somebody else's plugin."""


class RefusedError(Exception):
    """A device cannot be handed out; the message says which, and why."""


class UnknownDeviceError(RefusedError):
    """The resource never had the device."""


@dataclass(frozen=True)
class Listed:
    """A device as the kubelet is told of it; `numa_node` is None where there is but one node."""

    id: str
    healthy: bool
    numa_node: int | None = None


class Stock:
    """The devices of one resource.

    A device that vanished stays listed as unhealthy while the process lives: were it dropped, the node's capacity would
    shrink, and the kubelet would call its pod's device healthy, as it does with every device that it does not know.
    """

    def __init__(self, accelerator: str) -> None:
        self.accelerator = accelerator
        self._present: dict[str, FoundDevice] = {}
        self._vanished: set[str] = set()
        self._left = False

    @property
    def resource(self) -> str:
        """The extended resource."""
        return f"skerry.dev/{self.accelerator}"

    @property
    def present(self) -> list[FoundDevice]:
        """The devices that are there, healthy or not, sorted by id."""
        return [self._present[key] for key in sorted(self._present)]

    def update(self, found: Sequence[FoundDevice] | None) -> None:
        """Take what was found; None leaves the devices, which stay as they are, to somebody else's plugin."""
        self._left = found is None
        if found is None:
            return
        present = {device.id: device for device in found}
        self._vanished = (self._vanished | self._present.keys()) - present.keys()
        self._present = present

    def listed(self) -> tuple[Listed, ...]:
        """Return what to tell the kubelet, sorted by id: nothing when the devices are left to somebody else."""
        if self._left:
            return ()
        found = {device.id: Listed(device.id, not _ailment(device), device.numa_node) for device in self.present}
        gone = {key: Listed(key, healthy=False) for key in self._vanished}
        return tuple(device for _, device in sorted((found | gone).items()))

    def take(self, ids: Iterable[str]) -> list[FoundDevice]:
        """Return devices to hand out, sorted by id.

        Raises:
            UnknownDeviceError: There never was such a device.
            RefusedError: A device is unhealthy, gone, or left to somebody else's plugin.
        """
        return [self._take(key) for key in sorted(set(ids))]

    def _take(self, key: str) -> FoundDevice:
        if self._left:
            message = f"{self.resource}: {key} is left to another device plugin: ask for the resource of that one"
            raise RefusedError(message)
        if key in self._vanished:
            message = f"{self.resource}: {key} is gone from this node"
            raise RefusedError(message)
        device = self._present.get(key)
        if device is None:
            message = f"{self.resource}: {key} is unknown: this node has {', '.join(sorted(self._present)) or 'none'}"
            raise UnknownDeviceError(message)
        if ailment := _ailment(device):
            message = f"{self.resource}: {key} is unhealthy: {ailment}"
            raise RefusedError(message)
        return device


def _ailment(device: FoundDevice) -> str:
    """Return why a device cannot be handed out; empty when it can."""
    if not device.healthy:
        return device.message or "no reason is known"
    return "" if device.files else "it has no device files"


def once(offer: Offer) -> tuple[dict[str, tuple[FoundDevice, ...] | None], list[str]]:
    """Return the offer with each device only in the first accelerator that has it, and a line on each one left out.

    An id tells a place on the node, so that one id is one device whatever recognised it.
    """
    kept: dict[str, tuple[FoundDevice, ...] | None] = {}
    lines: list[str] = []
    owners: dict[str, str] = {}
    for accelerator, found in offer.items():
        if found is None:
            kept[accelerator] = None
            continue
        twice = [device.id for device in found if owners.setdefault(device.id, accelerator) != accelerator]
        lines += [f"{key} is offered as {owners[key]} already, and not as {accelerator} as well" for key in twice]
        kept[accelerator] = tuple(device for device in found if device.id not in twice)
    return kept, lines
