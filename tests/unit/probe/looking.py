"""Looking at boards."""

import os
from pathlib import Path
from typing import Any

from skerry.accelerators import matching
from skerry.probe.entries import entries_of
from skerry.probe.examine import Examiner, NodeFile
from skerry.probe.inventory import Inventory
from skerry.probe.recognise import Recogniser
from skerry.probe.sources.tree import Tree
from skerry.probe.vendors import Vendors
from tests.support.board import Board


def inventory(
    root: Path, board: Board, catalogue: list[dict[str, Any]], *, serves: bool = True, owned: bool = False
) -> Inventory:
    """Write a board and return what looks at it."""
    return looker(board.write(root), board, catalogue, serves=serves, owned=owned)


def looker(
    root: Path, board: Board, catalogue: list[dict[str, Any]], *, serves: bool = True, owned: bool = False
) -> Inventory:
    """Return what looks at a board that was written."""

    def node(path: str, status: os.stat_result) -> NodeFile | None:
        # Only root can make device files or give files to others: plain ones stand in, and the board knows the group.
        known = board.nodes.get(path.removeprefix("/"))
        return NodeFile(status.st_mode & 0o777, known[1]) if known else None

    tree = Tree(root)
    recogniser = Recogniser(tree, entries_of(catalogue, matching.specificity))
    examiner = Examiner(tree, tree, node, owned=owned)
    return Inventory(recogniser, examiner, Vendors(root / "var/lib/kubelet/device-plugins"), serves=serves)
