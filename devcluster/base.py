"""Debian base images: on a published one where it can be pulled, else made by debootstrap."""

import os
import re
import shutil
from pathlib import Path

from devcluster import cache
from devcluster.engine import Engine, install_debian_packages
from devcluster.errors import MissingToolError
from devcluster.hosts import architecture, cache_folder
from devcluster.process import run, step

PUBLISHED = "docker.io/library/debian:{suite}-slim"
PACKAGES = {
    # Skerry's own images
    "trixie": ("ca-certificates",),
    # The nodes of the cluster: systemd 252 of bookworm still runs on cgroup v1, newer ones do not.
    "bookworm": (
        *("systemd", "systemd-sysv", "dbus", "iptables", "conntrack", "ethtool", "iproute2", "kmod", "mount"),
        *("procps", "runc", "ca-certificates", "curl", "jq", "pigz", "socat", "libseccomp2", "e2fsprogs", "hostname"),
    ),
}
EMPTIED = ("var/lib/apt/lists", "var/cache/apt", "var/log", "tmp", "dev", "proc", "sys")
RECIPE = "1"


def mirror(sources: Path = Path("/etc/apt")) -> str | None:
    """Return the Debian mirror that this machine uses, or None to let debootstrap choose."""
    for path in sorted([*sources.glob("sources.list.d/*.sources"), *sources.glob("sources.list")]):
        text = path.read_text(encoding="utf-8")
        if found := re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(\S+/debian/?)(?:\s|$)", text, re.MULTILINE):
            return found.group(1)
    return None


def reference_of(suite: str) -> str:
    """Return the reference of the base of a suite, which stands for what is in it."""
    return f"localhost/devcluster-base:{suite}-{cache.digest(RECIPE, *PACKAGES[suite])}"


def base(engine: Engine, suite: str) -> str:
    """Return the reference of a Debian image of the suite with the packages of `PACKAGES` and no apt lists."""
    reference = reference_of(suite)
    with cache.lock(cache_folder(), f"base-{suite}"):
        if not engine.has_image(reference) and not _from_published(engine, suite, reference):
            _from_packages(engine, suite, reference)
    return reference


def _from_published(engine: Engine, suite: str, reference: str) -> bool:
    """Add the packages to the published image, when it can be pulled."""
    published = PUBLISHED.format(suite=suite)
    if not engine.has_image(published) and not engine.pull(published):
        return False
    recipe = (
        f"FROM {published}\n"
        f"RUN apt-get update && apt-get install --yes --no-install-recommends {' '.join(PACKAGES[suite])} "
        "&& rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*\n"
    )
    with cache.scratch(cache_folder()) as folder, step(f"making a Debian {suite} base on {published}"):
        (folder / "context").mkdir()
        engine.build(recipe, folder / "context", reference)
    return True


def _from_packages(engine: Engine, suite: str, reference: str) -> None:
    """Make the whole root file system with debootstrap."""

    def make(work: Path) -> None:
        if os.geteuid() != 0:
            message = f"{PUBLISHED.format(suite=suite)} cannot be pulled, and making it with debootstrap needs root"
            raise MissingToolError(message)
        install_debian_packages({"debootstrap": "debootstrap"})
        root = work / "root"
        found = mirror()
        with step(f"making a Debian {suite} base with debootstrap"):
            run(
                *("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES[suite])}", suite, root),
                *([found] if found else []),
            )
        for leftover in EMPTIED:
            shutil.rmtree(root / leftover, ignore_errors=True)
            (root / leftover).mkdir()
        (root / "tmp").chmod(0o1777)
        run("tar", "--create", "--numeric-owner", "--file", work / "rootfs.tar", "--directory", root, ".")
        shutil.rmtree(root)

    key = cache.digest(RECIPE, suite, architecture(), *PACKAGES[suite])
    made = cache.folder(cache_folder() / "base", suite, key, make)
    with step(f"importing the Debian {suite} base"):
        engine.import_rootfs(made / "rootfs.tar", reference)
