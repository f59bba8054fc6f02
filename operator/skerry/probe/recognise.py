"""Which devices of a node the catalogue knows."""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from skerry.probe.entries import Entry
from skerry.probe.sources import classes, devicetree, pci, usb
from skerry.probe.sources.classes import ClassDevice
from skerry.probe.sources.pci import PciFunction
from skerry.probe.sources.tree import Tree
from skerry.probe.sources.usb import UsbDevice

_NOT_OF_IDS: Final = re.compile(r"[^A-Za-z0-9._:-]+")
_ID_LENGTH: Final = 63


@dataclass(frozen=True)
class Place:
    """One device of the node, whoever recognises it.

    Attributes:
        key: What is different for each.
        id: The API's id of it.
        hardware_id: Vendor and device, or the device tree's name.
        path: Its folder below `sys/devices`; empty for a whole board and for class devices that belong to no device.
        usb: Set for a device on the USB.
        board: Whether it is the board itself.
        class_devices: The devices of classes that drivers made for it.
    """

    key: str
    id: str
    hardware_id: str
    path: str = ""
    usb: UsbDevice | None = None
    board: bool = False
    class_devices: tuple[ClassDevice, ...] = ()


@dataclass(frozen=True)
class Recognised:
    """A device and the entry that knows it best."""

    entry: Entry
    place: Place


@dataclass(frozen=True)
class _Board:
    """What was seen in one look."""

    pci: tuple[PciFunction, ...]
    usb: tuple[UsbDevice, ...]
    classes: tuple[ClassDevice, ...]


class Recogniser:
    """Looks at the sources, and asks the catalogue only when something came or went."""

    def __init__(self, tree: Tree, entries: tuple[Entry, ...]) -> None:
        self._tree, self._entries = tree, entries
        # Only what the catalogue speaks of is looked at.
        matches = [match for entry in entries for _, match in entry.matches]
        names = {match["device"]["deviceClass"] for match in matches if match.get("device")}
        names.update(name for entry in entries for name in entry.classes)
        self._classes = [classes.devices(tree, name) for name in sorted(names)]
        self._pci, self._usb = pci.functions(tree), usb.devices(tree)
        self._compatible = devicetree.compatible(tree)
        self._seen: _Board | None = None
        self._recognised: tuple[Recognised, ...] = ()

    def look(self) -> tuple[Recognised, ...]:
        """Return each device that an entry matches with the entry that is the most specific, in order of ids."""
        class_devices = tuple(device for roster in self._classes for device in roster.look())
        board = _Board(self._pci.look(), self._usb.look(), class_devices)
        if board != self._seen:
            self._seen, self._recognised = board, self._ask(board)
        return self._recognised

    def _ask(self, board: _Board) -> tuple[Recognised, ...]:
        best: dict[str, tuple[tuple[int, int, str], Recognised]] = {}
        for entry in self._entries:
            for specificity, match in entry.matches:
                order = self._board_order(match)
                if order is None:
                    continue
                # Among entries that are as specific, the one of the device tree's earlier word, then the first by name.
                rank = (-specificity, order, entry.name)
                for place in self._places(match, board):
                    if place.key not in best or rank < best[place.key][0]:
                        best[place.key] = (rank, Recognised(entry, place))
        found = (recognised for _, recognised in best.values())
        return tuple(sorted(found, key=lambda each: (each.entry.name, each.place.id)))

    def _board_order(self, match: dict[str, Any]) -> int | None:
        """Return which word of the device tree a match means, 0 when it means none; None when the board is another."""
        wanted = (match.get("deviceTree") or {}).get("compatible")
        if wanted is None:
            return 0
        return next((index for index, word in enumerate(self._compatible) if word in wanted), None)

    def _places(self, match: dict[str, Any], board: _Board) -> Iterator[Place]:
        device = match.get("device")
        if match.get("pci"):
            functions = (function for function in board.pci if _is_function(function, match["pci"]))
            places = (_on_pci(function, board) for function in functions)
            yield from (place for place in places if not device or _has(place, device))
        elif match.get("usb"):
            places = (_on_usb(each, board) for each in board.usb if _is_usb(each, match["usb"]))
            yield from (place for place in places if not device or _has(place, device))
        elif device:
            yield from self._of_class(device, board)
        else:
            word = next(word for word in self._compatible if word in match["deviceTree"]["compatible"])
            soldered = tuple(each for each in board.classes if each.bus not in {"pci", "usb"})
            yield Place("board", _id(word), word, board=True, class_devices=soldered)

    def _of_class(self, wanted: dict[str, Any], board: _Board) -> Iterator[Place]:
        """Yield what class devices of the wanted kind belong to; all that belong to nothing are one device."""
        functions = {function.path: function for function in board.pci}
        alone: list[ClassDevice] = []
        seen: set[str] = set()
        for each in board.classes:
            if not _is_class_device(each, wanted):
                continue
            stick = next((stick for stick in board.usb if f"{each.parent}/".startswith(f"{stick.path}/")), None)
            if not each.parent:
                alone.append(each)
            elif each.parent in functions:
                yield _on_pci(functions[each.parent], board)
            elif stick is not None:
                yield _on_usb(stick, board)
            elif each.parent not in seen:
                seen.add(each.parent)
                yield self._soldered(each.parent, board)
        if alone:
            first = alone[0]
            key = f"{first.device_class} {first.name}"
            hardware = self._compatible[0] if self._compatible else first.name
            yield Place(key, _id(first.name), hardware, class_devices=tuple(alone))

    def _soldered(self, path: str, board: _Board) -> Place:
        own = tuple(each for each in board.classes if each.parent == path)
        words = self._tree.texts(f"{path}/of_node/compatible")
        name = path.rpartition("/")[2]
        return Place(path, _id(name), words[0] if words else name, path, class_devices=own)


def _on_pci(function: PciFunction, board: _Board) -> Place:
    own = tuple(each for each in board.classes if each.parent == function.path)
    hardware = f"{function.vendor}:{function.device}"
    return Place(f"pci {function.address}", _id(function.address), hardware, function.path, class_devices=own)


def _on_usb(device: UsbDevice, board: _Board) -> Place:
    # Class devices belong to an interface of the device.
    own = tuple(each for each in board.classes if f"{each.parent}/".startswith(f"{device.path}/"))
    hardware = f"{device.vendor}:{device.product}"
    return Place(f"usb {device.port}", _id(device.port), hardware, device.path, usb=device, class_devices=own)


def _is_function(function: PciFunction, wanted: dict[str, Any]) -> bool:
    devices, prefix = wanted.get("devices"), wanted.get("classPrefix")
    return (
        function.vendor == wanted["vendor"]
        and (not devices or function.device in devices)
        and (not prefix or function.class_code.startswith(prefix))
    )


def _is_usb(device: UsbDevice, wanted: dict[str, Any]) -> bool:
    return device.vendor == wanted["vendor"] and device.product in wanted["products"]


def _is_class_device(device: ClassDevice, wanted: dict[str, Any]) -> bool:
    drivers, names = wanted.get("drivers"), wanted.get("names")
    return (
        device.device_class == wanted["deviceClass"]
        and (not drivers or device.driver in drivers)
        and (not names or any(fnmatch.fnmatchcase(device.name, name) for name in names))
    )


def _has(place: Place, wanted: dict[str, Any]) -> bool:
    return any(_is_class_device(each, wanted) for each in place.class_devices)


def _id(text: str) -> str:
    """Return an id of the API's form for a name of the kernel's."""
    return _NOT_OF_IDS.sub("-", text).lstrip("._:-")[:_ID_LENGTH] or "unnamed"
