"""What differs between machines, as data, in this one place."""

import os
import platform
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import MissingToolError

CAP_SYS_RESOURCE = 24
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Host:
    """The machine, as far as a cluster of containers cares.

    Attributes:
        unified_cgroups: It has cgroup v2 alone, not v1 or both.
        systemd: Systemd manages the cgroups of services.
        may_raise_limits: Programs may raise their limits and lower their OOM scores (CAP_SYS_RESOURCE).
        nofile: Open files that a program may have.
    """

    unified_cgroups: bool
    systemd: bool
    may_raise_limits: bool
    nofile: int

    @staticmethod
    def here(root: Path = Path("/")) -> "Host":
        """Look at this machine."""
        status = (root / "proc/self/status").read_text(encoding="utf-8")
        effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
        return Host(
            unified_cgroups=(root / "sys/fs/cgroup/cgroup.controllers").exists(),
            systemd=(root / "run/systemd/system").exists(),
            may_raise_limits=bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1),
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )

    def containers_conf(self) -> str:
        """Return the settings that Podman needs on this machine to run kind's nodes.

        DNS between nodes needs netavark. Podman asks for 1048576 open files, more than a machine without
        CAP_SYS_RESOURCE grants. crun, the usual runtime, refuses hybrid cgroups.
        """
        lines = []
        if not self.may_raise_limits:
            lines += ["[containers]", f'default_ulimits = ["nofile={self.nofile}:{self.nofile}", "nproc=20000:20000"]']
        lines += [
            "[engine]",
            f'cgroup_manager = "{"systemd" if self.unified_cgroups and self.systemd else "cgroupfs"}"',
        ]
        if not self.unified_cgroups:
            lines += ['runtime = "runc"']
        lines += ["[network]", 'network_backend = "netavark"']
        return "\n".join(lines) + "\n"

    def containerd_patches(self) -> list[str]:
        """Return what the nodes' containerd needs on this machine, as TOML for each version of its configuration."""
        if self.may_raise_limits:
            return []
        return [
            f'version = {version}\n[plugins."{plugin}"]\nrestrict_oom_score_adj = true\n'
            for version, plugin in ((2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.runtime"))
        ]


def architecture(machine: str = "") -> str:
    """Return a machine's architecture (default: this one's) in the words of Go, Debian and Kubernetes.

    Raises:
        MissingToolError: Nodes cannot be built for it.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        message = f"no nodes for the architecture {machine}: there are some for {', '.join(ARCHITECTURES)}"
        raise MissingToolError(message)
    return ARCHITECTURES[machine]


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for everything that is built, made if need be."""
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "skerry-devcluster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
