"""Where commands print tables."""

from typing import Final, TextIO

from rich.console import Console

WIDE: Final = 120
WIDEST: Final = 200
"""Columns where there is no terminal, for tables that need them."""


def console(stdout: TextIO, width: int = WIDE) -> Console:
    """Return a console that writes as wide as the terminal, and as wide as is asked for elsewhere."""
    found = Console(file=stdout, highlight=False)
    return found if found.is_terminal else Console(file=stdout, highlight=False, width=width)
