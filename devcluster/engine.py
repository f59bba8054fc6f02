"""The container engine: Docker where its daemon answers and can run kind's nodes, else Podman."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devcluster.errors import CommandError, MissingToolError
from devcluster.hosts import Host, cache_folder
from devcluster.process import run, say, step, succeeds

NETWORK = "skerry-devcluster"
# What Debian calls the things that are needed, and how to see that they are there: a program, or a file.
PODMAN_PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "iptables": "iptables",
    "netavark": "/usr/lib/podman/netavark",
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
}
QUICK_SECONDS = 15
PULL_SECONDS = 1800


@dataclass(frozen=True)
class Engine:
    """A container engine, with the environment that it needs here."""

    name: str
    env: dict[str, str]

    def run(self, *command: str | Path, timeout: float | None = None) -> str:
        """Run a command of the engine and return its stdout."""
        return run(self.name, *command, env=self.env, timeout=timeout)

    def succeeds(self, *command: str | Path, timeout: float | None = 60) -> bool:
        """Tell whether a command of the engine ends well."""
        return succeeds(self.name, *command, env=self.env, timeout=timeout)

    def has_image(self, reference: str) -> bool:
        """Tell whether the engine's store has the image."""
        return self.succeeds("image", "inspect", reference)

    def image_id(self, reference: str) -> str:
        """Return the id of an image, without its algorithm."""
        return self.run("image", "inspect", "--format", "{{.Id}}", reference).strip().removeprefix("sha256:")

    def tags(self, repository: str) -> list[str]:
        """Return the references of a repository in the store, the newest first."""
        listed = self.run("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={repository}")
        return [line for line in listed.split() if not line.endswith(":<none>")]

    def keep(self, repository: str, newest: int) -> None:
        """Remove all but the newest references of a repository that nothing uses."""
        for reference in self.tags(repository)[newest:]:
            self.succeeds("rmi", reference)

    def import_rootfs(self, tarball: Path, reference: str) -> None:
        """Make an image of one layer from the tar archive of a root file system."""
        self.run("import", tarball, reference)

    def build(self, recipe: str, context: Path, reference: str) -> None:
        """Build an image from the text of a Dockerfile."""
        dockerfile = context.with_name(f"{context.name}.Dockerfile")
        dockerfile.write_text(recipe, encoding="utf-8")
        self.run("build", "--quiet", "--tag", reference, "--file", dockerfile, context)

    def save(self, references: Iterable[str], archive: Path) -> None:
        """Write images as one archive that containerd can import; layers that they share are in it once."""
        extra = ("--multi-image-archive", "--format", "docker-archive") if self.name == "podman" else ()
        self.run("save", *extra, "--output", archive, *references)

    def pull(self, reference: str) -> bool:
        """Pull an image when its registry can be reached; whether it can is found out in seconds."""
        look = ("manifest", "inspect", f"docker://{reference}" if self.name == "podman" else reference)
        if not self.succeeds(*look, timeout=QUICK_SECONDS):
            return False
        with step(f"pulling {reference}"):
            return self.succeeds("pull", "--quiet", reference, timeout=PULL_SECONDS)


def _podman() -> Engine:
    settings = cache_folder() / "containers.conf"
    settings.write_text(Host.here().containers_conf(), encoding="utf-8")
    environment = {
        "CONTAINERS_CONF": str(settings),
        "KIND_EXPERIMENTAL_PROVIDER": "podman",
        "KIND_EXPERIMENTAL_PODMAN_NETWORK": NETWORK,
        "BUILDAH_ISOLATION": "chroot",
    }
    return Engine("podman", environment)


def docker_works(information: str, host: Host) -> bool:
    """Tell from `docker info --format '{{json .}}'` whether the daemon answers and can run privileged nodes.

    Where this machine may not raise limits, a privileged container fails: it asks for every capability.
    """
    try:
        found = json.loads(information)
    except ValueError:
        return False
    return bool(found.get("ServerVersion")) and not found.get("ServerErrors") and host.may_raise_limits


def _docker_information() -> str:
    try:
        return run("docker", "info", "--format", "{{json .}}", timeout=QUICK_SECONDS)
    except CommandError:
        return ""


def missing_packages(packages: Mapping[str, str], path: str | None = None) -> list[str]:
    """Return the packages whose program (on the given or the usual PATH) or file is not there."""
    return [name for name, evidence in packages.items() if not shutil.which(evidence, path=path)]


def install_debian_packages(packages: Mapping[str, str]) -> None:
    """Install with apt what is missing, where that is possible; elsewhere only the first one must be there.

    Raises:
        MissingToolError: The first one is missing and this is no Debian machine with root.
    """
    missing = missing_packages(packages)
    main = next(iter(packages))
    if not shutil.which("apt-get") or os.geteuid() != 0:
        if main in missing:
            message = (
                f"{main} not found, and this is not a Debian machine with root on which it can be installed for you: "
                f"install {' '.join(packages)}{', or Docker' if main == 'podman' else ''}"
            )
            raise MissingToolError(message)
        return
    if missing:
        with step(f"installing with apt-get: {' '.join(missing)}"):
            env = {"DEBIAN_FRONTEND": "noninteractive"}
            run("apt-get", "update", env=env)
            run("apt-get", "install", "--yes", "--no-install-recommends", *missing, env=env)


def _warn_of_dropped_traffic() -> None:
    """Say what to do where a Docker daemon has left a rule that keeps pods of two nodes apart."""
    rules = run("iptables", "-S", "FORWARD") if succeeds("iptables", "-S", "FORWARD") else ""
    if "-P FORWARD DROP" in rules:
        say(
            "!! the FORWARD policy of this machine is DROP (Docker sets it): pods of two nodes will not reach each "
            "other. Stop Docker and run `iptables -P FORWARD ACCEPT`, or let Docker run the cluster."
        )


@cache
def engine() -> Engine:
    """Return the engine of this machine, installed if need be."""
    if docker_works(_docker_information(), Host.here()):
        network = {"KIND_EXPERIMENTAL_DOCKER_NETWORK": NETWORK}
        return Engine("docker", network)
    if not shutil.which("podman"):
        say("== no Docker daemon that can run kind's nodes: using Podman")
    install_debian_packages(PODMAN_PACKAGES)
    if os.geteuid() == 0:
        Path("/lib/modules").mkdir(parents=True, exist_ok=True)  # kind mounts it into the nodes
        _warn_of_dropped_traffic()
    return _podman()
