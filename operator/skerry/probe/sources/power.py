"""What the node runs on, from `sys/class/power_supply`, and what counts its energy."""

import re
from typing import Final

from skerry.probe.sources.tree import Tree

_SUPPLIES: Final = "sys/class/power_supply"
_POWER_ZONES: Final = "sys/class/powercap"
_RAPL: Final = re.compile(r"intel-rapl:\d+")
_INA: Final = re.compile(r"ina\d+x?")


def source(tree: Tree) -> str:
    """Return `Mains`, `Battery` or `Unknown` (most machines without battery tell nothing).

    Batteries of mice and headsets have the scope `Device` and do not count.
    """
    battery = False
    for name in tree.names(_SUPPLIES):
        folder = f"{_SUPPLIES}/{name}"
        if tree.text(f"{folder}/scope") == "Device":
            continue
        kind = tree.text(f"{folder}/type")
        if kind == "Battery":
            battery = True
        elif kind and tree.number(f"{folder}/online"):
            return "Mains"
    return "Battery" if battery else "Unknown"


def energy_counter(tree: Tree) -> str:
    """Return `RAPL` where the CPU counts its energy, `INA` where a sensor chip of the board does, or `None`."""
    for zone in tree.names(_POWER_ZONES):
        if _RAPL.fullmatch(zone) and tree.status(f"{_POWER_ZONES}/{zone}/energy_uj") is not None:
            return "RAPL"
    for chip in tree.names("sys/class/hwmon"):
        if _INA.fullmatch(tree.text(f"sys/class/hwmon/{chip}/name")):
            return "INA"
    return "None"
