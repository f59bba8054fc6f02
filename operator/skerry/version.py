"""The version of Skerry."""

from typing import Final

VERSION: Final = "0.1.0"
"""A test holds pyproject.toml and the chart to it. In an image Skerry is a plain folder without metadata."""


def version() -> str:
    """Return the version of Skerry."""
    return VERSION
