"""The board, as its device tree says.

Read from `sys/firmware/devicetree`: `/proc/device-tree` points there, and containers do not see `/sys/firmware` of
their own `/sys`, but they see it below another mount point.
"""

from typing import Final

from skerry.probe.sources.tree import Tree

_FOLDER: Final = "sys/firmware/devicetree/base"


def model(tree: Tree) -> str:
    """Return the board's name; empty on machines without a device tree."""
    return tree.text(f"{_FOLDER}/model")


def compatible(tree: Tree) -> tuple[str, ...]:
    """Return what the board is compatible with, the most specific first."""
    return tree.texts(f"{_FOLDER}/compatible")


def driver(tree: Tree, names: tuple[str, ...]) -> str:
    """Return the first of the drivers that serves the board: bound to a platform device, or loaded; else nothing.

    Nvidia's driver for Jetson binds as `gk20a` and is the module `nvgpu`.
    """
    for name in names:
        folder = f"sys/bus/platform/drivers/{name}"
        # Each bound device is a link in the driver's folder; so is the driver's module.
        if any(each != "module" and tree.target(f"{folder}/{each}") for each in tree.names(folder)):
            return name
        if tree.status(f"sys/module/{name.replace('-', '_')}") is not None:
            return name
    return ""
