"""Files of the Container Device Interface, by which the container runtime itself puts devices into containers.

Against device files in the kubelet's answer: the node in the container belongs to the container's user (a non-root pod
needs no group), and the path is looked up whenever a container starts, so that a device which came back under another
path is found. containerd reads them by default from 2.0 on, CRI-O does.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skerry.probe.devices import FoundDevice

FOLDER = Path("/var/run/cdi")
# The oldest that knows device names which begin with a digit, as PCI addresses do.
VERSION = "0.5.0"
_CLASS = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_DEVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")


def qualified(accelerator: str, device: str) -> str:
    """Return the name by which a container asks for a device."""
    return f"skerry.dev/{accelerator}={device}"


class SpecFile:
    """The file of one accelerator's devices. It outlives the process: containers start while the probe is away."""

    def __init__(self, folder: Path, accelerator: str) -> None:
        self.path = folder / f"skerry.dev-{accelerator}.json"
        self._accelerator = accelerator
        self._written: frozenset[str] = frozenset()
        self._text = ""
        self._mark: tuple[int, int] | None = None

    def names(self, devices: Iterable[FoundDevice]) -> list[str] | None:
        """Return the names of devices as a container asks for them; None when the file does not have them all."""
        wanted = list(devices)
        if not self._written.issuperset(device.id for device in wanted):
            return None
        return [qualified(self._accelerator, device.id) for device in wanted]

    def write(self, devices: Iterable[FoundDevice]) -> None:
        """Make the file say these devices, if it does not.

        A device that is gone is left out: its path may be another's by now. A runtime refuses a file without devices,
        so that there is none then.

        Raises:
            OSError: The file cannot be written; `names` then knows nothing.
        """
        fitting = {
            device.id: sorted(device.files)
            for device in devices
            if device.files and _CLASS.fullmatch(self._accelerator) and _DEVICE.fullmatch(device.id)
        }
        text = json.dumps(self._document(fitting), indent=1) + "\n" if fitting else ""
        if text == self._text and self._mark == _mark(self.path):
            return
        self._written = frozenset()
        if fitting:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Runtimes read *.json only.
            fresh = self.path.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(self.path)
        else:
            self.path.unlink(missing_ok=True)
        self._written, self._text, self._mark = frozenset(fitting), text, _mark(self.path)

    def _document(self, devices: dict[str, list[str]]) -> dict[str, Any]:
        return {
            "cdiVersion": VERSION,
            "kind": f"skerry.dev/{self._accelerator}",
            "devices": [
                {
                    "name": name,
                    "containerEdits": {"deviceNodes": [{"path": path, "permissions": "rw"} for path in files]},
                }
                for name, files in sorted(devices.items())
            ],
        }


def _mark(path: Path) -> tuple[int, int] | None:
    """Return what changes when someone replaces, rewrites or removes a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
