"""The catalogue's JSON form, and how specific a match is. Standard library only: the lean probe imports it."""

import json
from pathlib import Path
from typing import Any


def load(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file in the JSON form (`skerry.accelerators.catalogue.dump`).

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a JSON list.
    """
    documents = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(documents, list):
        message = f"a catalogue is a list of entries, not a {type(documents).__name__}"
        raise ValueError(message)  # noqa: TRY004 - the file's content is wrong, not a type of the program's
    return documents


def specificity(match: dict[str, Any]) -> int:
    """Return how specific a match is: ids outweigh all that is true of many devices, and each condition adds."""
    pci, usb, device = (match.get(part) or {} for part in ("pci", "usb", "device"))
    parts = [
        16 * bool(pci.get("devices") or usb.get("products")),
        (1 + len(pci.get("classPrefix") or "") // 2) if pci else 0,
        (1 + bool(device.get("drivers")) + 2 * bool(device.get("names"))) if device else 0,
        1 if match.get("deviceTree") else 0,
    ]
    return sum(parts)
