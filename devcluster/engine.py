"""The container engine: Docker where its daemon answers and can run kind's nodes, else Podman."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import MissingToolError
from devcluster.hosts import Host, cache_folder
from devcluster.process import run, say, step, succeeds

DEBIAN_PACKAGES = ("podman", "netavark", "aardvark-dns", "runc", "debootstrap", "iptables")


@dataclass(frozen=True)
class Engine:
    """A container engine, with the environment that it needs here."""

    name: str
    env: dict[str, str]

    def run(self, *command: str | Path, timeout: float | None = None) -> str:
        """Run a command of the engine and return its stdout."""
        return run(self.name, *command, env=self.env, timeout=timeout)

    def succeeds(self, *command: str | Path) -> bool:
        """Tell whether a command of the engine ends well."""
        return succeeds(self.name, *command, env=self.env)

    def has_image(self, reference: str) -> bool:
        """Tell whether the engine's store has the image."""
        return self.succeeds("image", "inspect", reference)

    def image_id(self, reference: str) -> str:
        """Return the id of an image, without its algorithm."""
        return self.run("image", "inspect", "--format", "{{.Id}}", reference).strip().removeprefix("sha256:")

    def import_rootfs(self, tarball: Path, reference: str) -> None:
        """Make an image of one layer from the tar archive of a root file system."""
        self.run("import", tarball, reference)

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as an archive that containerd can import."""
        extra = ("--format", "docker-archive") if self.name == "podman" else ()
        self.run("save", *extra, "--output", archive, reference)


def _podman_environment() -> dict[str, str]:
    settings = cache_folder() / "containers.conf"
    settings.write_text(Host.here().containers_conf(), encoding="utf-8")
    return {
        "CONTAINERS_CONF": str(settings),
        "KIND_EXPERIMENTAL_PROVIDER": "podman",
        "BUILDAH_ISOLATION": "chroot",
    }


def _docker_works() -> bool:
    """Tell whether Docker's daemon answers and grants what a node needs; some sandboxes do not."""
    if not shutil.which("docker") or not succeeds("docker", "info", timeout=20):
        return False
    return Host.here().may_raise_limits


def install_debian_packages(*programs: str) -> None:
    """Install with apt what is missing, where that is possible.

    Raises:
        MissingToolError: A program is missing and this is no Debian machine with root.
    """
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        message = (
            f"{', '.join(missing)} not found: install Docker, or Podman with netavark, aardvark-dns and runc, "
            "and debootstrap (this is not a Debian machine with root, so it cannot be done for you)"
        )
        raise MissingToolError(message)
    with step(f"installing {' '.join(DEBIAN_PACKAGES)} with apt-get ({', '.join(missing)} not found)"):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=env)
        run("apt-get", "install", "--yes", "--no-install-recommends", *DEBIAN_PACKAGES, env=env)


def engine() -> Engine:
    """Return the engine of this machine, installed if need be."""
    if _docker_works():
        return Engine("docker", {})
    if not shutil.which("podman"):
        say("== no Docker daemon that can run kind's nodes: using Podman")
    install_debian_packages("podman", "runc", "iptables")
    if os.geteuid() == 0:
        Path("/lib/modules").mkdir(parents=True, exist_ok=True)  # kind mounts it into the nodes
    return Engine("podman", _podman_environment())
