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
    # The images with llama.cpp, which no release of Debian has yet
    "sid": ("ca-certificates",),
}
# What apt is told in a base, over and above what Debian says. A mirror of sid that is a few days behind counts as
# expired to apt, though its signatures are good; releases have no such date.
APT_SETTINGS = {"sid": 'Acquire::Check-Valid-Until "false";\n'}
APT_FILE = "etc/apt/apt.conf.d/50devcluster"
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
    return f"localhost/devcluster-base:{suite}-{cache.digest(*_recipe(suite))}"


def _recipe(suite: str) -> list[str]:
    """Return what a base is made by."""
    return [RECIPE, *PACKAGES[suite], *([APT_SETTINGS[suite]] if suite in APT_SETTINGS else [])]


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
    with cache.scratch(cache_folder()) as folder, step(f"making a Debian {suite} base on {published}"):
        context = folder / "context"
        context.mkdir()
        engine.build(_dockerfile(published, suite, context), context, reference)
    return True


def _dockerfile(published: str, suite: str, context: Path) -> str:
    """Write what a base on the published image is made of into the context, and return its Dockerfile."""
    settings = ""
    if suite in APT_SETTINGS:
        (context / "apt.conf").write_text(APT_SETTINGS[suite], encoding="utf-8")
        settings = f"COPY apt.conf /{APT_FILE}\n"
    return (
        f"FROM {published}\n{settings}"
        f"RUN apt-get update && apt-get install --yes --no-install-recommends {' '.join(PACKAGES[suite])} "
        "&& rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*\n"
    )


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
        settle(root, suite)
        run("tar", "--create", "--numeric-owner", "--file", work / "rootfs.tar", "--directory", root, ".")
        shutil.rmtree(root)

    first, *rest = _recipe(suite)
    key = cache.digest(first, suite, architecture(), *rest)
    made = cache.folder(cache_folder() / "base", suite, key, make)
    with step(f"importing the Debian {suite} base"):
        engine.import_rootfs(made / "rootfs.tar", reference)


def settle(root: Path, suite: str) -> None:
    """Write apt's settings into a fresh root file system, and empty what an image is better without."""
    if suite in APT_SETTINGS:
        (root / APT_FILE).parent.mkdir(parents=True, exist_ok=True)
        (root / APT_FILE).write_text(APT_SETTINGS[suite], encoding="utf-8")
    for leftover in EMPTIED:
        shutil.rmtree(root / leftover, ignore_errors=True)
        (root / leftover).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
