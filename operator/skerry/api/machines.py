"""What a machine's architecture is called. Standard library only: the lean probe imports it."""

import platform
from typing import Final

_KUBERNETES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv8l": "arm"}


def architecture(machine: str | None = None) -> str:
    """Return a machine's architecture (this one's by default) in the words of OCI and Kubernetes."""
    name = machine or platform.machine()
    return _KUBERNETES.get(name, name)
