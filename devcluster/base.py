"""Debian base images: pulled where an image registry can be reached, else made by debootstrap."""

import re
import shutil
from pathlib import Path

from devcluster import cache
from devcluster.engine import Engine, install_debian_packages
from devcluster.hosts import architecture, cache_folder
from devcluster.process import run, step

PULL_SECONDS = 20
PACKAGES = {
    # Skerry's own images
    "trixie": ("ca-certificates",),
    # The nodes of the cluster: systemd 252 of bookworm still runs on cgroup v1, newer ones do not.
    "bookworm": (
        *("systemd", "systemd-sysv", "dbus", "iptables", "conntrack", "ethtool", "iproute2", "kmod", "mount"),
        *("procps", "runc", "ca-certificates", "curl", "jq", "pigz", "socat", "libseccomp2", "e2fsprogs", "hostname"),
    ),
}
RECIPE = "1"


def mirror(sources: Path = Path("/etc/apt")) -> str | None:
    """Return the Debian mirror that this machine uses, or None to let debootstrap choose."""
    for path in sorted([*sources.glob("sources.list.d/*.sources"), *sources.glob("sources.list")]):
        text = path.read_text(encoding="utf-8")
        if found := re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(\S+/debian/?)(?:\s|$)", text, re.MULTILINE):
            return found.group(1)
    return None


def base(engine: Engine, suite: str) -> str:
    """Return the reference of a Debian image of the suite with the packages of `PACKAGES`."""
    reference = f"localhost/devcluster-base:{suite}-{cache.digest(RECIPE, *PACKAGES[suite])}"
    if engine.has_image(reference):
        return reference

    def make(work: Path) -> None:
        install_debian_packages("debootstrap")
        root = work / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES[suite])}", suite, str(root)]
        with step(f"making a Debian {suite} base with debootstrap"):
            run(*command, *([mirror() or ""] if mirror() else []))
        for leftover in ("var/lib/apt/lists", "var/cache/apt", "var/log", "tmp"):
            shutil.rmtree(root / leftover, ignore_errors=True)
            (root / leftover).mkdir(mode=0o1777 if leftover == "tmp" else 0o755)
        (root / "tmp").chmod(0o1777)
        for special in ("dev", "proc", "sys"):
            shutil.rmtree(root / special, ignore_errors=True)
            (root / special).mkdir()
        run("tar", "--create", "--numeric-owner", "--file", work / "rootfs.tar", "--directory", root, ".")
        shutil.rmtree(root)

    key = cache.digest(RECIPE, suite, architecture(), *PACKAGES[suite])
    made = cache.folder(cache_folder() / "base", suite, key, make)
    with step(f"importing the Debian {suite} base"):
        engine.import_rootfs(made / "rootfs.tar", reference)
    return reference
