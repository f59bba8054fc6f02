"""What differs between machines, as data, in this one place."""

import os
import platform
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CAP_SYS_RESOURCE = 24
USUAL_NOFILE = 1_048_576

# Files that package managers of the host read, wanted inside image builds and mounted there, never copied.
BUILD_FILES = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
# Variables of the host that package managers inside image builds want as well.
BUILD_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_DEFAULT_TIMEOUT",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


@dataclass(frozen=True)
class Host:
    """The machine, as far as a cluster of containers cares."""

    unified_cgroups: bool
    may_raise_limits: bool
    nofile: int

    @staticmethod
    def here(root: Path = Path("/")) -> "Host":
        """Look at this machine."""
        status = (root / "proc/self/status").read_text(encoding="utf-8")
        effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
        return Host(
            unified_cgroups=(root / "sys/fs/cgroup/cgroup.controllers").exists(),
            may_raise_limits=bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1),
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )

    def containers_conf(self) -> str:
        """Return the settings with which Podman runs kind's nodes on this machine.

        Podman asks for more open files than a machine without CAP_SYS_RESOURCE grants; crun refuses hybrid cgroups; DNS
        between nodes needs netavark.
        """
        manager = "systemd" if self.unified_cgroups and Path("/run/systemd/system").exists() else "cgroupfs"
        nofile = USUAL_NOFILE if self.may_raise_limits else min(self.nofile, USUAL_NOFILE)
        return (
            "[containers]\n"
            f'default_ulimits = ["nofile={nofile}:{nofile}", "nproc={nofile}:{nofile}"]\n'
            "[engine]\n"
            'runtime = "runc"\n'
            f'cgroup_manager = "{manager}"\n'
            "[network]\n"
            'network_backend = "netavark"\n'
        )

    @property
    def restrict_oom_score(self) -> bool:
        """Whether containerd must not lower OOM scores, because it may not."""
        return not self.may_raise_limits


def architecture() -> str:
    """Return this machine's architecture in the words of Go, Debian and Kubernetes."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for everything that is built, made if need be."""
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "skerry-devcluster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_mounts() -> list[str]:
    """Return `--volume` and `--env` arguments that let package managers work inside image builds as on the host."""
    arguments: list[str] = []
    for name in BUILD_FILES:
        if Path(name).exists():
            arguments += ["--volume", f"{name}:{name}:ro"]
    for name in BUILD_VARIABLES:
        if value := os.environ.get(name):
            arguments += ["--env", f"{name}={value}"]
    return arguments
