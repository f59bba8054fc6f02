"""The image of the cluster's nodes: a published one, or one built from sources with the same parts."""

import json
import shutil
from pathlib import Path

from devcluster import cache, parts
from devcluster.base import base
from devcluster.engine import Engine
from devcluster.hosts import Host, architecture, cache_folder
from devcluster.process import run, step

REPOSITORY = "devcluster.local/k8s"
LOCAL_PATH_IMAGE = "devcluster.local/local-path-provisioner:v0.0.30"
HELPER_IMAGE = f"{REPOSITORY}/kube-proxy:{parts.KUBERNETES_VERSION}"
FILES = Path(__file__).parent / "files"
NODE_PARTS = ("kubernetes", "containerd", "etcd", "coredns", "cni", "local-path")
PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


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
    (context / "pause.c").write_text(PAUSE, encoding="utf-8")
    run("gcc", "-static", "-Os", "-s", "-o", context / "pause", context / "pause.c")
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
    for number, (reference, recipe) in enumerate(recipes.items()):
        dockerfile = folder / f"Dockerfile.{number}"
        dockerfile.write_text(recipe, encoding="utf-8")
        engine.run("build", "--quiet", "--tag", reference, "--file", dockerfile, context)
        engine.save(reference, images / f"{number}.tar")
    shutil.rmtree(context)
    return names


def _containerd_config(pause: str) -> str:
    text = (FILES / "containerd.toml").read_text(encoding="utf-8")
    host = Host.here()
    return text.replace("@PAUSE@", pause).replace("@RESTRICT_OOM@", str(host.restrict_oom_score).lower())


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
        ("cni", ("bridge", "loopback", "host-local", "portmap"), built["cni"]),
    ):
        (context / name).mkdir()
        for program in programs:
            shutil.copy2(source / program, context / name / program)
    (context / "config.toml").write_text(_containerd_config(pause), encoding="utf-8")
    (context / "manifests").mkdir()
    storage = (FILES / "storage.yaml").read_text(encoding="utf-8")
    storage = storage.replace("@IMAGE@", LOCAL_PATH_IMAGE).replace("@HELPER@", HELPER_IMAGE)
    (context / "manifests" / "default-storage.yaml").write_text(storage, encoding="utf-8")
    (context / "version").write_text(parts.KUBERNETES_VERSION, encoding="utf-8")
    (work / "Dockerfile.node").write_text(_node_dockerfile(base(engine, "bookworm")), encoding="utf-8")
    engine.run("build", "--quiet", "--tag", tag, "--file", work / "Dockerfile.node", context)


def _with_images(engine: Engine, images: Path, raw: str, tag: str) -> None:
    """Import the components' images into the node image's containerd, and commit that."""
    name = f"devcluster-node-build-{tag.rsplit(':', 1)[1]}"
    engine.succeeds("rm", "--force", name)
    script = (
        "containerd >/tmp/containerd.log 2>&1 & "
        "for i in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done; "
        'for archive in /images/*.tar; do ctr -n k8s.io images import --no-unpack "$archive" || exit 1; done; '
        "ctr -n k8s.io images ls -q; kill %1; wait; rm -f /tmp/containerd.log"
    )
    try:
        engine.run(
            *("run", "--name", name, "--privileged", "--network", "none", "--volume", f"{images}:/images:ro"),
            *("--entrypoint", "/bin/bash", raw, "-c", script),
        )
        entrypoint = json.dumps(["/usr/local/bin/entrypoint", "/sbin/init"])
        engine.run("commit", "--change", f"ENTRYPOINT {entrypoint}", "--change", "CMD []", name, tag)
    finally:
        engine.succeeds("rm", "--force", name)


def published(engine: Engine) -> str | None:
    """Return the published node image, when it is here or can be pulled soon."""
    reference = f"kindest/node:{parts.KUBERNETES_VERSION}"
    if engine.has_image(reference):
        return reference
    registry = f"docker.io/{reference}"
    if engine.name == "docker" and engine.succeeds("pull", "--quiet", registry):
        return reference
    return None


def key() -> str:
    """Return the digest of all that a node image is made from."""
    pins = [path for name in (*NODE_PARTS, "kind") for path in sorted(parts.PARTS[name].folder.glob("go.*"))]
    here = [Path(__file__), Path(__file__).with_name("base.py"), *sorted(FILES.iterdir())]
    return cache.digest(architecture(), str(Host.here().restrict_oom_score), *pins, *here)


def node_image(engine: Engine) -> str:
    """Return the reference of the node image; this is the one place that chooses between published and built."""
    if reference := published(engine):
        return reference
    tag = f"localhost/devcluster-node:{key()}"
    if engine.has_image(tag):
        return tag
    built = {name: parts.build(name) for name in NODE_PARTS}
    work = cache_folder() / "node-build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with step("making the node image"):
            raw = f"localhost/devcluster-node-raw:{key()}"
            names = _component_images(engine, work, built)
            _raw_node(engine, work, built, names["pause"], raw)
            _with_images(engine, work / "images", raw, tag)
            for reference in (raw, LOCAL_PATH_IMAGE, *names.values()):
                engine.succeeds("rmi", "--force", reference)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return tag
