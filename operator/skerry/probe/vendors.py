"""Which extended resources vendors' device plugins offer on the node.

The probe may not read its Node, which would say so. The kubelet keeps a file of the resources that are registered with
it (`kubelet_internal_checkpoint`), which root may read: a resource is in it from its plugin's first list of devices
until five minutes after the plugin went away (Kubernetes, pkg/kubelet/cm/devicemanager). So a vendor's plugin that
restarts keeps its devices, and one that was uninstalled gives them free.

The file is the kubelet's own affair. Where it cannot be read or understood, the names of the plugins' sockets tell:
most are named after the resource in some way (`nvidia-gpu.sock`, `gpu.intel.com-xe.sock`, `amd.com_gpu`). The socket of
a plugin that was killed may stay behind and then still counts. Where the folder cannot be seen, nobody offers anything.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from skerry.probe.sources.tree import Stamp, Tree

FOLDER: Final = Path("/var/lib/kubelet/device-plugins")
CHECKPOINT: Final = "kubelet_internal_checkpoint"
_LIMIT: Final = 8 * 2**20
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")


class Vendors:
    """Says what is registered; the kubelet's file is read only when it changed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._tree = Tree(folder)
        self._stamp: Stamp | None = None
        self._registered: frozenset[str] | None = None

    def offered(self, resources: Iterable[str]) -> str:
        """Return the first of the resources that a plugin offers; empty when none does."""
        registered = self._checkpoint()
        if registered is not None:
            return next((resource for resource in resources if resource in registered), "")
        sockets = {_plain(name.removesuffix(".sock")) for name in self._tree.names("")}
        return next((resource for resource in resources if _socket_names(resource) & sockets), "")

    def _checkpoint(self) -> frozenset[str] | None:
        """Return the registered resources; None where that is not told."""
        status = self._tree.status(CHECKPOINT)
        if status is None:
            self._stamp = None
            return None
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._registered = stamp, _registered(self._tree.data(CHECKPOINT, _LIMIT))
        return self._registered


def _registered(data: bytes) -> frozenset[str] | None:
    try:
        return frozenset(json.loads(data)["Data"]["RegisteredDevices"] or ())
    except (ValueError, KeyError, TypeError):
        return None


def _plain(name: str) -> str:
    return _SEPARATORS.sub("-", name.lower())


def _socket_names(resource: str) -> set[str]:
    """Return what plugins call the socket of a resource: with its whole domain, or with the vendor's name only."""
    domain, _, name = resource.partition("/")
    return {_plain(f"{domain}-{name}"), _plain(f"{domain.split('.')[-2:][0]}-{name}")}
