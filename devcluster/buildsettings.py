"""What package managers inside image builds need of this machine: its CA bundle and its pip and apt settings.

They are mounted while an image is built and are no part of it. Nothing here ends up in an image but empty files at the
places of the mounts.
"""

import configparser
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from devcluster.process import run

# The first of these that names a file is the bundle.
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_FILE = Path("/etc/ssl/certs/ca-certificates.crt")  # where Debian's programs look, on the host and in the image
# Settings of pip that say how to reach packages; all others are the host's own business.
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
PIP_TARGET = "/etc/pip.conf"
PIP_CACHE = "/var/cache/pip"
APT_TARGET = "/etc/apt/apt.conf.d/99devcluster"
APT_KEYS = re.compile(r"^Acquire::(https?|ftp)::([\w.-]+::)*(Proxy|Timeout|C[Aa]Info)\b|^Acquire::Retries\b")
APT_BUNDLE = re.compile(r"^(\S+::CA[Ii]nfo|\S+::CaInfo) .*$")


def ca_bundle(environ: Mapping[str, str] = os.environ, usual: Path = CA_FILE) -> Path | None:
    """Return the CA bundle that programs of this machine use."""
    named = (Path(environ[name]) for name in CA_VARIABLES if environ.get(name))
    return next((path.resolve() for path in (*named, usual) if path.is_file()), None)


def pip_settings(files: Iterable[Path], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return pip's settings from its files, in their order, and from the environment, which wins."""
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        parser.read(path, encoding="utf-8")
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key: value for key, value in parser.items(section) if key in PIP_KEYS}
    for key in PIP_KEYS:
        if value := environ.get(f"PIP_{key.upper().replace('-', '_')}"):
            found[key] = value
    if "default-timeout" in found:
        found["timeout"] = found.pop("default-timeout")
    return found


def pip_conf(settings: Mapping[str, str], *, bundle: bool) -> str:
    """Return the text of a pip.conf for an image build."""
    lines = ["[global]", f"cache-dir = {PIP_CACHE}"]
    lines += [f"{key} = {value}".replace("\n", "\n  ") for key, value in sorted(settings.items())]
    if bundle:
        lines.append(f"cert = {CA_FILE}")
    return "\n".join(lines) + "\n"


def apt_conf(dump: str) -> str:
    """Return those lines of `apt-config dump` that say how to reach packages."""
    lines = [line for line in dump.splitlines() if APT_KEYS.match(line)]
    return "".join(APT_BUNDLE.sub(rf'\g<1> "{CA_FILE}";', line) + "\n" for line in lines)


def mounts(folder: Path, pip_cache: Path) -> list[str]:
    """Write the settings into a folder and return the arguments of `podman build` that mount them."""
    bundle = ca_bundle()
    environ_file = os.environ.get("PIP_CONFIG_FILE")
    files = [Path(name).expanduser() for name in (*PIP_FILES, *([environ_file] if environ_file else []))]
    pip = folder / "pip.conf"
    pip.write_text(pip_conf(pip_settings(files), bundle=bundle is not None), encoding="utf-8")
    apt = folder / "apt.conf"
    apt.write_text(apt_conf(run("apt-config", "dump") if shutil.which("apt-config") else ""), encoding="utf-8")
    mounted = [f"{pip}:{PIP_TARGET}:ro", f"{apt}:{APT_TARGET}:ro", f"{pip_cache}:{PIP_CACHE}"]
    if bundle is not None:
        mounted.append(f"{bundle}:{CA_FILE}:ro")
    return [word for mount in mounted for word in ("--volume", mount)]
