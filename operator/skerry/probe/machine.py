"""What the machine is, read below a root folder, so that a whole board can be a folder in a test."""

from pathlib import Path
from typing import Any

from skerry.accelerators import cpu
from skerry.api import labels

_DMI = "sys/devices/virtual/dmi/id"
_DEVICE_TREE = "sys/firmware/devicetree/base"
_LIMIT = 256


def _text(path: Path) -> str:
    try:
        return path.read_bytes().split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()[:_LIMIT]
    except OSError:
        return ""


def memory_bytes(root: Path) -> int:
    """Return the node's memory in bytes, 0 where it cannot be read."""
    for line in _text_lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def profile(root: Path, *, version: str, architecture: str | None = None) -> dict[str, Any]:
    """Return the NodeProfile's status but for conditions and time, in the API's form."""
    found = cpu.read(root)
    vendor = _text(root / _DMI / "sys_vendor")
    model = _text(root / _DMI / "product_name") or _text(root / _DEVICE_TREE / "model")
    return {
        "probeVersion": version,
        "machine": {"vendor": vendor, "model": model, "architecture": architecture or cpu.architecture()},
        "cpu": {"model": found.model[:_LIMIT], "cores": found.cores, "features": list(found.features)},
        "memoryBytes": memory_bytes(root),
        "accelerators": [{"name": labels.CPU, "count": 1}],
    }
