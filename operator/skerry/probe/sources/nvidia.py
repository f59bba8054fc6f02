"""What NVIDIA's driver tells of its GPUs, in `proc/driver/nvidia`: it makes no devices of a class."""

import re
from typing import Final

from skerry.probe.sources.tree import Tree

_MINOR: Final = re.compile(r"^Device Minor:\s*(\d+)", re.MULTILINE)


def file(proc: Tree, address: str) -> str:
    """Return the device file of the GPU at a PCI address, relative to `/dev`; empty where the driver does not tell."""
    information = proc.data(f"proc/driver/nvidia/gpus/{address}/information").decode("utf-8", errors="replace")
    minor = _MINOR.search(information)
    return f"nvidia{minor[1]}" if minor else ""
