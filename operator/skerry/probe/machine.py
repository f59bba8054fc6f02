"""What the machine is and how it does, in the API's form."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from skerry.accelerators import cpu
from skerry.api import labels, machines
from skerry.probe.devices import NOBODY, FoundAccelerator
from skerry.probe.sources import devicetree, memory, power, thermal
from skerry.probe.sources.tree import Tree

_DMI: Final = "sys/devices/virtual/dmi/id"
_LIMIT: Final = 256

READ_SECONDS: Final = 60.0
"""What drifts is read, and so published, at most once in that time; half of it more at random."""
DEGREES: Final = 2
"""Temperatures that differ by less are the same."""
MEMORY_SHARE: Final = 32
"""Free memory that differs by less than that share of the memory is the same."""


class Machine:
    """The machine below a root; what seldom changes or only drifts is read once a minute."""

    def __init__(
        self,
        root: Path,
        *,
        version: str,
        proc_root: Path | None = None,
        architecture: str | None = None,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the folder with `sys`, and the one with `proc` where that is another."""
        self._tree, self._proc_root = Tree(root), proc_root or root
        self._proc = Tree(self._proc_root)
        self._version, self._architecture = version, architecture or machines.architecture()
        self._now, self._jitter = now, jitter
        self._due = now()
        self._read: dict[str, Any] = {}

    def profile(self, found: Sequence[FoundAccelerator] = ()) -> dict[str, Any]:
        """Return the NodeProfile's status but for conditions and time, in the API's form."""
        if self._now() >= self._due:
            self._due = self._now() + READ_SECONDS * (1 + self._jitter() / 2)
            self._read = self._facts()
        every = {"name": labels.CPU, "count": 1, "resourceName": "", "offeredBy": NOBODY, "devices": []}
        accelerators = [every, *(accelerator.wire() for accelerator in found)]
        return {
            **self._read,
            "powerSource": power.source(self._tree),
            # A column of kubectl shows one value, not a list.
            "acceleratorSummary": " ".join(f"{each['name']}:{each['count']}" for each in accelerators)[:_LIMIT],
            "accelerators": accelerators,
        }

    def _facts(self) -> dict[str, Any]:
        processor = cpu.read(self._proc_root)
        total, available = memory.read(self._proc)
        model = self._tree.text(f"{_DMI}/product_name") or devicetree.model(self._tree)
        facts: dict[str, Any] = {
            "probeVersion": self._version,
            "machine": {
                "vendor": self._tree.text(f"{_DMI}/sys_vendor")[:_LIMIT],
                "model": model[:_LIMIT],
                "architecture": self._architecture,
            },
            "cpu": {
                "model": processor.model[:_LIMIT],
                "cores": processor.cores,
                "features": list(processor.features),
            },
            "memoryBytes": total,
            "memoryAvailableBytes": self._settled("memoryAvailableBytes", available, total // MEMORY_SHARE),
            "energyCounter": power.energy_counter(self._tree),
        }
        temperature = thermal.read(self._tree)
        if temperature is not None:
            facts["temperatureCelsius"] = self._settled("temperatureCelsius", temperature, DEGREES)
        return facts

    def _settled(self, name: str, value: int, step: int) -> int:
        """Return what was told before as long as the value is about the same."""
        before: int | None = self._read.get(name)
        return value if before is None or abs(value - before) >= max(step, 1) else before
