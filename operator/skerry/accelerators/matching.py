"""Which of several entries knows a device best. Standard library only: the lean probe imports it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Match = Mapping[str, Any]
"""A match of an entry in the JSON form of `skerry.accelerators.catalogue.Match`."""

_DEVICE_ID: Final = 100
_BOARD: Final = 40
_NAME: Final = 20
_DRIVER: Final = 10
_CLASS: Final = 2
_VENDOR: Final = 1


def load(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a catalogue in its JSON form.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a list of objects in JSON.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        message = f"{path} is not a list of entries"
        raise ValueError(message)
    return found


def specificity(match: Match) -> int:
    """Return how closely a match describes a device; of several that match, the largest wins.

    A device's id tells more than the board that it is on, that more than the name or the driver of a device class,
    those more than a class of the bus, and that more than the vendor alone.
    """
    pci, usb, device = (match.get(name) or {} for name in ("pci", "usb", "device"))
    return sum(
        (
            _DEVICE_ID * bool(pci.get("devices") or usb.get("products")),
            _BOARD * bool(match.get("deviceTree")),
            _NAME * bool(device.get("names")),
            _DRIVER * bool(device.get("drivers")),
            _CLASS * bool(pci.get("classPrefix") or device.get("deviceClass")),
            _VENDOR * bool(pci.get("vendor") or usb.get("vendor")),
        )
    )


def conflicts(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what two entries would both claim, with nothing to tell which of them knows it better."""
    matches = [(entry["name"], match) for entry in entries for match in entry.get("match", [])]
    for index, (name, match) in enumerate(matches):
        for other, another in matches[index + 1 :]:
            if name != other and specificity(match) == specificity(another) and (what := _both(match, another)):
                yield f"{name} and {other} both match {what}, and neither is more specific"


def _both(one: Match, other: Match) -> str:
    """Return what two matches of equal specificity have in common; nothing when no device can fulfil both."""
    parts = ("pci", "usb", "deviceTree", "device", "nodeLabels")
    if {part for part in parts if one.get(part)} != {part for part in parts if other.get(part)}:
        return ""
    words = []
    for part, find in zip(parts, (_pci, _usb, _tree, _device, _labels), strict=True):
        if one.get(part):
            if not (found := find(one[part], other[part])):
                return ""
            words.append(found)
    return " on ".join(words)


def _pci(one: Match, other: Match) -> str:
    if one["vendor"] != other["vendor"]:
        return ""
    prefixes = (one.get("classPrefix") or "", other.get("classPrefix") or "")
    if not prefixes[0].startswith(prefixes[1]) and not prefixes[1].startswith(prefixes[0]):
        return ""
    devices = sorted({*(one.get("devices") or ["*"])} & {*(other.get("devices") or ["*"])})
    return f"PCI {one['vendor']}:{','.join(devices)}" if devices else ""


def _usb(one: Match, other: Match) -> str:
    products = sorted({*one["products"]} & {*other["products"]})
    return f"USB {one['vendor']}:{','.join(products)}" if products and one["vendor"] == other["vendor"] else ""


def _tree(one: Match, other: Match) -> str:
    boards = sorted({*one["compatible"]} & {*other["compatible"]})
    return f"boards compatible with {', '.join(boards)}" if boards else ""


def _device(one: Match, other: Match) -> str:
    if one["deviceClass"] != other["deviceClass"]:
        return ""
    for part in ("drivers", "names"):
        mine, others = one.get(part) or [], other.get(part) or []
        if mine and others and not {*mine} & {*others}:
            return ""
    return f"devices of the class {one['deviceClass']}"


def _labels(one: Match, other: Match) -> str:
    # They speak of nodes: a node with other labels as well may have other accelerators as well.
    return f"nodes labelled {', '.join(sorted(one))}" if one == other else ""
