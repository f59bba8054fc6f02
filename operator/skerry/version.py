"""The version of Skerry, as it was installed."""

import importlib.metadata


def version() -> str:
    """Return the distribution's version, or 0+unknown where it runs from a plain folder."""
    try:
        return importlib.metadata.version("skerry")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
