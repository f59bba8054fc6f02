"""The catalogue's entries, as far as the probe needs them: from the JSON form, without pydantic."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What the probe needs of `skerry.accelerators.catalogue.AcceleratorEntry`.

    Attributes:
        name: Its name.
        matches: Ways to recognise it in the JSON form, each after its specificity.
        drivers: Kernel drivers with which it can be used; any when there are none.
        classes: Classes whose devices that belong to the accelerator a pod gets; each must give one at least.
        paths: Fixed device files that a pod gets, relative to `/dev`, as sets of globs: a path without wildcard must be
            there, and of each set one at least.
        memory_file: File below the device's folder with its memory in bytes; empty where there is none.
        vendor_resources: Extended resources of vendors' device plugins.
        schedulable: Whether anything can run models on it.
        usb: Whether it is recognised on the USB: its bus node is one of its device files.
    """

    name: str
    matches: tuple[tuple[int, dict[str, Any]], ...]
    drivers: tuple[str, ...]
    classes: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    memory_file: str
    vendor_resources: tuple[str, ...]
    schedulable: bool
    usb: bool

    @property
    def needs_files(self) -> bool:
        """Whether a pod needs device files."""
        return bool(self.classes or self.paths or self.usb)


def entry_of(document: dict[str, Any], specificity: Callable[[dict[str, Any]], int]) -> Entry:
    """Return one entry of the JSON form.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: It is not of the form.
    """
    # The labels of nodes are the operator's to match.
    matches = [match for match in document.get("match", []) if not match.get("nodeLabels")]
    for match in matches:
        _check(match)
    files = document.get("files", [])
    paths = (tuple(path.removeprefix("/dev/") for path in each.get("paths", [])) for each in files)
    return Entry(
        name=document["name"],
        matches=tuple((specificity(match), match) for match in matches),
        drivers=tuple(document.get("drivers", [])),
        classes=tuple(each["deviceClass"] for each in files if each.get("deviceClass")),
        paths=tuple(each for each in paths if each),
        memory_file=document.get("memoryFile") or "",
        vendor_resources=tuple(document.get("vendorResources", [])),
        schedulable=document.get("schedulable", True),
        usb=any(match.get("usb") for match in matches),
    )


def _check(match: dict[str, Any]) -> None:
    """Refuse what could not be looked for."""
    needed = {
        "pci": ("vendor",),
        "usb": ("vendor", "products"),
        "deviceTree": ("compatible",),
        "device": ("deviceClass",),
    }
    given = {part: match[part] for part in needed if match.get(part) is not None}
    missing = [f"{part}.{name}" for part in given for name in needed[part] if not given[part].get(name)]
    if missing or not given:
        message = f"a match needs {' and '.join(missing) or ' or '.join(needed)}"
        raise ValueError(message)


def entries_of(documents: Iterable[Any], specificity: Callable[[dict[str, Any]], int]) -> tuple[Entry, ...]:
    """Return the entries that can be recognised; the CPU, which every node has, has nothing to match.

    The chart's installation and the operator refuse entries that are not of the form, so one is only told here: a probe
    that ends over it would hide everything else that the node has.
    """
    found: list[Entry] = []
    for document in documents:
        try:
            entry = entry_of(document, specificity)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            sys.stderr.write(f"an entry of the catalogue is not of its form ({error!r}): {document!r:.200}\n")
            continue
        if entry.matches:
            found.append(entry)
    return tuple(found)
