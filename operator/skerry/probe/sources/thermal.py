"""Temperatures, from `sys/class/thermal`, or from `sys/class/hwmon` on machines whose thermal zones tell none."""

import re
from collections.abc import Iterator
from typing import Final

from skerry.probe.sources.tree import Tree

_INPUT: Final = re.compile(r"temp\d+_input")
_PLAUSIBLE: Final = range(-40_000, 150_001)
"""In thousandths of a degree; sensors that are off or broken tell nonsense."""


def read(tree: Tree) -> int | None:
    """Return the highest temperature in whole degrees Celsius; None where none is told."""
    for source in (_zones, _sensors):
        plausible = [value for path in source(tree) if (value := tree.number(path)) is not None and value in _PLAUSIBLE]
        if plausible:
            return round(max(plausible) / 1000)
    return None


def _zones(tree: Tree) -> Iterator[str]:
    for name in tree.names("sys/class/thermal"):
        if name.startswith("thermal_zone"):
            yield f"sys/class/thermal/{name}/temp"


def _sensors(tree: Tree) -> Iterator[str]:
    for chip in tree.names("sys/class/hwmon"):
        for name in tree.names(f"sys/class/hwmon/{chip}"):
            if _INPUT.fullmatch(name):
                yield f"sys/class/hwmon/{chip}/{name}"
