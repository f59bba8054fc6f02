"""The image of the cluster's nodes: a published one, or one built from sources with the same parts."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster import cache, parts
from devcluster.base import base, reference_of
from devcluster.engine import Engine
from devcluster.hosts import architecture, cache_folder
from devcluster.process import run, say, step

# The first that can be pulled is taken; the second is the default of the pinned kind.
PUBLISHED = (
    f"docker.io/kindest/node:{parts.KUBERNETES_VERSION}",
    "docker.io/kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5",
)
BUILT = "localhost/devcluster-node"
REPOSITORY = "devcluster.local/k8s"
LOCAL_PATH_IMAGE = f"devcluster.local/local-path-provisioner:{parts.LOCAL_PATH_VERSION}"
BUILD_LABEL = "dev.skerry.devcluster=node-build"
HELPER_IMAGE = f"{REPOSITORY}/kube-proxy:{parts.KUBERNETES_VERSION}"
FILES = Path(__file__).parent / "files"
NODE_PARTS = ("kubernetes", "containerd", "etcd", "coredns", "cni", "local-path", "pause")


@dataclass(frozen=True)
class NodeImage:
    """What nodes are made of.

    Attributes:
        reference: The image in the engine's store.
        repository: Where kubeadm finds the components' images in it, if that is not its default.
    """

    reference: str
    repository: str | None


def _image_names(kubeadm: Path) -> dict[str, str]:
    """Return the full references that kubeadm expects, by the name of the component."""
    listed = run(
        *(kubeadm, "config", "images", "list", "--image-repository", REPOSITORY),
        *("--kubernetes-version", parts.KUBERNETES_VERSION),
    )
    return {line.rsplit("/", 1)[1].split(":")[0]: line for line in listed.split()}


def _component_images(engine: Engine, folder: Path, built: dict[str, Path]) -> dict[str, str]:
    """Build one image a component, FROM scratch but for kube-proxy, and save all of them; return the references."""
    names = _image_names(built["kubernetes"] / "kubeadm")
    programs = {
        "kube-apiserver": built["kubernetes"] / "kube-apiserver",
        "kube-controller-manager": built["kubernetes"] / "kube-controller-manager",
        "kube-scheduler": built["kubernetes"] / "kube-scheduler",
        "kube-proxy": built["kubernetes"] / "kube-proxy",
        "etcd": built["etcd"] / "etcd",
        "coredns": built["coredns"] / "coredns",
    }
    context = folder / "context"
    context.mkdir()
    shutil.copy2(built["pause"] / "pause", context)
    shutil.copy2(built["local-path"] / "local-path-provisioner", context)
    recipes = {
        names["pause"]: 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n',
        LOCAL_PATH_IMAGE: "FROM scratch\nCOPY local-path-provisioner /usr/bin/local-path-provisioner\n"
        'ENV PATH=/usr/bin\nENTRYPOINT ["/usr/bin/local-path-provisioner"]\n',
    }
    for name, program in programs.items():
        shutil.copy2(program, context / name)
        start = f"FROM {base(engine, 'bookworm')}" if name == "kube-proxy" else "FROM scratch"
        entry = 'ENTRYPOINT ["/usr/local/bin/coredns"]\n' if name == "coredns" else ""
        path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        recipes[names[name]] = f"{start}\nCOPY {name} /usr/local/bin/{name}\nENV PATH={path}\n{entry}"
    images = folder / "images"
    images.mkdir()
    for reference, recipe in recipes.items():
        engine.build(recipe, context, reference)
    engine.save(recipes, images / "components.tar")
    shutil.rmtree(context)
    return names


def _node_dockerfile(raw: str) -> str:
    return f"""FROM {raw}
COPY files/ /
COPY bin/ /usr/bin/
COPY containerd/ /usr/local/bin/
COPY cni/ /opt/cni/bin/
COPY config.toml /etc/containerd/config.toml
COPY manifests/ /kind/manifests/
COPY version /kind/version
RUN chmod 755 /kind /kind/bin /kind/bin/* /usr/local/bin/* /usr/bin/kube* /opt/cni/bin/* \\
 && mkdir -p /etc/containerd/certs.d /etc/kubernetes/manifests /etc/cni/net.d /var/lib/kubelet \\
 && find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete \\
 && rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \\
    /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \\
    /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \\
 && echo ReadKMsg=no >> /etc/systemd/journald.conf \\
 && ln -sf /lib/systemd/systemd /sbin/init \\
 && systemctl enable kubelet.service containerd.service undo-mount-hacks.service \\
 && systemctl mask systemd-binfmt.service
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
"""


def _raw_node(engine: Engine, work: Path, built: dict[str, Path], pause: str, tag: str) -> None:
    """Build the node image without the components' images in it."""
    context = work / "node"
    context.mkdir()
    kind_files = parts.module_folder("kind", "sigs.k8s.io/kind") / "images" / "base" / "files"
    shutil.copytree(kind_files, context / "files")
    run("chmod", "-R", "u+w", context / "files")
    for name, programs, source in (
        ("bin", ("kubeadm", "kubelet", "kubectl"), built["kubernetes"]),
        ("containerd", ("containerd", "ctr", "containerd-shim-runc-v2"), built["containerd"]),
        ("cni", tuple(parts.PARTS["cni"].packages), built["cni"]),
    ):
        (context / name).mkdir()
        for program in programs:
            shutil.copy2(source / program, context / name / program)
    containerd = (FILES / "containerd.toml").read_text(encoding="utf-8").replace("@PAUSE@", pause)
    (context / "config.toml").write_text(containerd, encoding="utf-8")
    (context / "manifests").mkdir()
    storage = (FILES / "storage.yaml").read_text(encoding="utf-8")
    storage = storage.replace("@IMAGE@", LOCAL_PATH_IMAGE).replace("@HELPER@", HELPER_IMAGE)
    (context / "manifests" / "default-storage.yaml").write_text(storage, encoding="utf-8")
    (context / "version").write_text(parts.KUBERNETES_VERSION, encoding="utf-8")
    engine.build(_node_dockerfile(base(engine, "bookworm")), context, tag)


def _with_images(engine: Engine, images: Path, raw: str, tag: str) -> None:
    """Import the components' images into the node image's containerd, and commit that."""
    for leftover in engine.run("ps", "--all", "--quiet", "--filter", f"label={BUILD_LABEL}").split():
        engine.succeeds("rm", "--force", "--volumes", leftover)
    name = f"devcluster-node-build-{tag.rsplit(':', 1)[1]}"
    script = (
        "containerd >/tmp/containerd.log 2>&1 & "
        "for i in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done; "
        'for archive in /images/*.tar; do ctr -n k8s.io images import --no-unpack "$archive" || exit 1; done; '
        "ctr -n k8s.io images ls -q; kill %1; wait; rm -f /tmp/containerd.log"
    )
    try:
        engine.run(
            *(
                "run",
                "--name",
                name,
                "--label",
                BUILD_LABEL,
                "--privileged",
                "--network",
                "none",
                "--volume",
                f"{images}:/images:ro",
            ),
            *("--entrypoint", "/bin/bash", raw, "-c", script),
        )
        entrypoint = json.dumps(["/usr/local/bin/entrypoint", "/sbin/init"])
        engine.run(
            "commit",
            "--change",
            "LABEL dev.skerry.devcluster=node",
            "--change",
            f"ENTRYPOINT {entrypoint}",
            "--change",
            "CMD []",
            name,
            tag,
        )
    finally:
        engine.succeeds("rm", "--force", "--volumes", name)


def key() -> str:
    """Return the digest of all that a node image is made from."""
    recipe = [Path(__file__), *sorted(FILES.iterdir()), *sorted(parts.PARTS["kind"].folder.iterdir())]
    return cache.digest(architecture(), reference_of("bookworm"), *map(parts.key, NODE_PARTS), *recipe)


def node_image(engine: Engine) -> NodeImage:
    """Return the image for the nodes: the one place that chooses between a published and a built one.

    What is in the engine's store is taken first, so that the choice stays the same and costs no time.
    """
    for reference in PUBLISHED:
        if engine.has_image(reference):
            return NodeImage(reference, None)
    built = NodeImage(f"{BUILT}:{key()}", REPOSITORY)
    with cache.lock(cache_folder(), "node-image"):
        if engine.has_image(built.reference):
            return built
        for reference in PUBLISHED:
            if engine.pull(reference):
                return NodeImage(reference, None)
        _build(engine, built.reference)
    engine.keep(BUILT, newest=1)
    return built


def _build(engine: Engine, tag: str) -> None:
    say("== making the nodes from source: about a quarter of an hour on 2 cores, once; it needs 12 GB of disk")
    built = {name: parts.build(name) for name in NODE_PARTS}
    raw = f"{BUILT}-raw:{tag.rsplit(':', 1)[1]}"
    with cache.scratch(cache_folder()) as work, step("making the node image"):
        names = _component_images(engine, work, built)
        _raw_node(engine, work, built, names["pause"], raw)
        _with_images(engine, work / "images", raw, tag)
        for reference in (raw, LOCAL_PATH_IMAGE, *names.values()):
            engine.succeeds("rmi", "--force", reference)
