"""The development cluster itself: what everything else relies on, and what it does when something went wrong.

What disturbs goes on in a second cluster, so that the one that other tests use is left in peace.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster, ClusterError, parts
from devcluster.base import base
from devcluster.errors import CommandError
from devcluster.process import succeeds

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
NAMESPACE = "devcluster-test"
SECONDS = 180


def eventually(look: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until something is found; a command that fails meanwhile is asked again."""
    deadline = time.monotonic() + seconds
    last: CommandError | None = None
    while True:
        try:
            if look():
                return
        except CommandError as error:
            last = error
        if time.monotonic() > deadline:
            pytest.fail(f"not after {seconds} s: {what}; last: {last}")
        time.sleep(0.5)


def pod(name: str, node: str, image: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "command": ["bash", "-euc", script], **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **spec,
        },
    }


def registry_pod(node: str, image: str) -> dict[str, Any]:
    settings = {
        "REGISTRY_HTTP_ADDR": ":5000",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/data",
        "OTEL_TRACES_EXPORTER": "none",
    }
    found = pod("registry", node, image, "", volumes=[{"name": "data", "emptyDir": {}}])
    found["spec"]["securityContext"] = {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 65532}
    found["spec"]["containers"] = [
        {
            "name": "main",
            "image": image,
            "command": ["registry", "serve", "/config/config.yml"],
            "env": [{"name": name, "value": value} for name, value in settings.items()],
            "ports": [{"containerPort": 5000}],
            "readinessProbe": {"httpGet": {"path": "/v2/", "port": 5000}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/config"}],
        }
    ]
    found["spec"]["volumes"].append({"name": "config", "configMap": {"name": "registry"}})
    return found


def registry_objects(node: str, image: str) -> list[dict[str, Any]]:
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/data"}},
        "http": {"addr": ":5000"},
    }
    metadata = {"name": "registry", "namespace": NAMESPACE}
    service = {"type": "NodePort", "selector": {"app": "registry"}, "ports": [{"port": 5000}]}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yml": yaml.safe_dump(config)}},
        registry_pod(node, image),
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--filename", "-", text="---\n".join(yaml.safe_dump(each) for each in objects))


def ready(cluster: Cluster, name: str) -> None:
    cluster.kubectl("wait", "--namespace", NAMESPACE, "--for=condition=Ready", f"pod/{name}", f"--timeout={SECONDS}s")


def output(cluster: Cluster, name: str) -> str:
    """Return what a pod printed, once it has ended well."""
    cluster.kubectl(
        *("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded"),
        *(f"pod/{name}", f"--timeout={SECONDS}s"),
    )
    return cluster.kubectl("logs", "--namespace", NAMESPACE, name)


def namespace(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    eventually(
        lambda: cluster.get("serviceaccount", "default", "--namespace", NAMESPACE), "the default service account"
    )
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=SECONDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    found = Cluster.default()
    found.up()
    found.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=SECONDS)
    yield from namespace(found)


@pytest.fixture(scope="module")
def shell(cluster: Cluster) -> str:
    """An image with a shell, loaded."""
    image = base(cluster.engine, "trixie")
    cluster.load([image])
    return image


@pytest.fixture(scope="module")
def registry(cluster: Cluster) -> str:
    """A registry that runs on the first worker; its NodePort."""
    image = cluster.images("registry")["registry"]
    cluster.load([image])
    apply(cluster, *registry_objects(cluster.nodes[1], image))
    ready(cluster, "registry")
    service = cluster.get("service", "registry", "--namespace", NAMESPACE)[0]
    return str(service["spec"]["ports"][0]["nodePort"])


def test_a_second_up_finds_the_cluster_well_and_leaves_it_alone(cluster: Cluster) -> None:
    before = [node["metadata"]["uid"] for node in cluster.get("nodes")]

    cluster.up()

    assert [node["metadata"]["uid"] for node in cluster.get("nodes")] == before
    assert cluster.healthy()


def test_workers_are_two_sites(cluster: Cluster) -> None:
    labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in cluster.get("nodes")}
    assert [labels[node].get("topology.kubernetes.io/zone") for node in cluster.nodes] == [None, "site-a", "site-b"]


def test_no_node_has_a_way_out(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert cluster.engine.run("exec", node, "ip", "route", "show", "default") == ""
        assert not cluster.engine.succeeds("exec", node, "ip", "route", "get", "192.0.2.1")


def test_no_registry_is_configured_on_the_nodes(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert cluster.engine.run("exec", node, "sh", "-c", "ls /etc/containerd/certs.d 2>/dev/null || true") == ""


def test_a_pod_reaches_a_service_of_another_node_by_name(cluster: Cluster, registry: str, shell: str) -> None:
    assert registry
    script = (
        f"exec 3<>/dev/tcp/registry.{NAMESPACE}.svc.cluster.local/5000; "
        "printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    )
    apply(cluster, pod("client", cluster.nodes[2], shell, script))
    assert "200 OK" in output(cluster, "client")


def test_a_claim_is_bound_and_keeps_what_a_pod_wrote(cluster: Cluster, shell: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}]
    mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    node = cluster.nodes[2]

    apply(cluster, claim, pod("writer", node, shell, "echo kept > /data/file", volumes=volumes, container=mounted))
    output(cluster, "writer")
    apply(cluster, pod("reader", node, shell, "cat /data/file", volumes=volumes, container=mounted))

    assert output(cluster, "reader") == "kept\n"


def test_a_node_mounts_an_image_from_a_registry_that_runs_on_another(
    cluster: Cluster, registry: str, shell: str, tmp_path: Path
) -> None:
    # An image of its own: once the kubelet has pulled an image from a registry, it no longer trusts a preloaded one
    # with the same content under another name (ImagePulledRecord): pushing one that the cluster needs would break that.
    engine = cluster.engine
    (tmp_path / "hello").write_text("hello", encoding="utf-8")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY hello /hello\n", encoding="utf-8")
    forward = subprocess.Popen(
        [
            *(str(parts.kubectl()), "--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE),
            *("port-forward", "pod/registry", ":5000"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert forward.stdout is not None
        port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
        pushed = f"localhost:{port}/models/hello:1"
        engine.run("build", "--quiet", "--tag", pushed, str(tmp_path))
        engine.run("push", *(["--tls-verify=false"] if engine.name == "podman" else []), pushed)
        engine.run("rmi", pushed)
    finally:
        forward.terminate()
        forward.wait()
        if forward.stdout:
            forward.stdout.close()
    reference = f"localhost:{registry}/models/hello:1"
    volumes = [{"name": "model", "image": {"reference": reference, "pullPolicy": "Always"}}]
    mounted = {"volumeMounts": [{"name": "model", "mountPath": "/model"}]}

    apply(cluster, pod("mount", cluster.nodes[2], shell, "find /model -type f", volumes=volumes, container=mounted))

    assert output(cluster, "mount").strip().endswith("/hello")


def test_an_image_is_loaded_once_and_again_when_its_content_changed(cluster: Cluster, tmp_path: Path) -> None:
    reference = "localhost/devcluster-test:same"
    engine = cluster.engine
    (tmp_path / "context").mkdir()

    def build(text: str) -> str:
        (tmp_path / "context" / "file").write_text(text, encoding="utf-8")
        engine.build("FROM scratch\nCOPY file /file\n", tmp_path / "context", reference)
        cluster.load([reference])
        listed = engine.run("exec", cluster.nodes[2], "ctr", "-n", "k8s.io", "images", "ls", f"name=={reference}")
        return next(word for word in listed.split() if word.startswith("sha256:"))

    try:
        first = build("one")
        assert build("one") == first
        assert build("two") != first
    finally:
        engine.succeeds("rmi", reference)
        for node in cluster.nodes:
            engine.succeeds("exec", node, "ctr", "-n", "k8s.io", "images", "rm", reference)


def test_an_archive_is_loaded(cluster: Cluster, tmp_path: Path) -> None:
    reference = "localhost/devcluster-test:archived"
    engine = cluster.engine
    (tmp_path / "context").mkdir()
    engine.build("FROM scratch\nLABEL a=b\n", tmp_path / "context", reference)
    engine.save([reference], tmp_path / "image.tar")
    engine.run("rmi", reference)

    cluster.load([tmp_path / "image.tar"])

    for node in cluster.nodes:
        listed = engine.run("exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q", f"name=={reference}")
        assert listed.strip() == reference
        engine.run("exec", node, "ctr", "-n", "k8s.io", "images", "rm", reference)


def test_an_unknown_node_is_named(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no node 'nobody' in cluster skerry: it has skerry-control-plane, "):
        cluster.cut("nobody")


@pytest.fixture(scope="module")
def spare() -> Iterator[Cluster]:
    """A second cluster, to which things happen, and whose first `up` was killed with everything half made."""
    spare = Cluster.default("skerry-test")
    spare.down()
    first = subprocess.Popen(
        [sys.executable, "-m", "devcluster", "--name", spare.name, "up"], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: spare.engine.succeeds("container", "inspect", spare.nodes[0]), "a node's container", 1800)
    finally:
        first.kill()
        first.wait()
    spare.up()
    yield spare
    spare.down()


def test_up_cleans_after_a_killed_one(spare: Cluster) -> None:
    assert spare.healthy()


def test_a_cut_node_is_alone_until_it_is_restored(spare: Cluster) -> None:
    image = base(spare.engine, "trixie")
    spare.load([image])
    near, far = spare.nodes[1:]
    holder = namespace(spare)
    next(holder)
    apply(spare, pod("near", near, image, "sleep inf"), pod("far", far, image, "sleep inf"))
    for name in ("near", "far"):
        ready(spare, name)
    address = spare.get("pod", "far", "--namespace", NAMESPACE)[0]["status"]["podIP"]
    addresses = spare.get("node", far)[0]["status"]["addresses"]
    node_address = next(each["address"] for each in addresses if each["type"] == "InternalIP")

    def reaches(target: str) -> bool:
        # A closed port that answers is as good as an open one: something is there.
        script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/9'; test $? -ne 124"
        return succeeds(parts.kubectl(), *access, "exec", "near", "--", "bash", "-c", script)

    def node_reaches(target: str) -> bool:
        # By name, which may mean IPv6 as well: the port of the kubelet.
        script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/10250'"
        return spare.engine.succeeds("exec", near, "bash", "-c", script)

    access = ("--kubeconfig", str(spare.kubeconfig), "--namespace", NAMESPACE)
    assert reaches(address)
    assert reaches(node_address)
    assert node_reaches(far)

    spare.cut(far)
    assert not reaches(address)
    assert not reaches(node_address)
    assert not node_reaches(far)
    assert reaches(spare.get("pod", "near", "--namespace", NAMESPACE)[0]["status"]["podIP"])
    eventually(lambda: not spare.healthy(), "the API server misses the node")
    tasks = spare.engine.run("exec", far, "ctr", "-n", "k8s.io", "tasks", "ls")
    assert tasks.count("RUNNING") > 1  # what runs on it goes on

    spare.restore(far)
    eventually(spare.healthy, "the node is back")
    assert reaches(address)

    spare.cut(far)
    uids = [node["metadata"]["uid"] for node in spare.get("nodes")]
    spare.up()
    assert reaches(address)
    assert [node["metadata"]["uid"] for node in spare.get("nodes")] == uids  # mended, not made anew


def test_a_lost_kubeconfig_comes_back(spare: Cluster) -> None:
    uids = [node["metadata"]["uid"] for node in spare.get("nodes")]
    spare.kubeconfig.unlink()
    spare.up()
    assert [node["metadata"]["uid"] for node in spare.get("nodes")] == uids


def test_up_makes_a_cluster_whose_processes_were_killed_anew(spare: Cluster) -> None:
    for node in spare.nodes:
        state = json.loads(spare.engine.run("inspect", "--format", "{{json .State}}", node))
        for name in ("ConmonPid", "Pid"):
            if state.get(name):
                os.kill(state[name], signal.SIGKILL)
    assert not spare.healthy()
    spare.up()
    assert spare.healthy()


def test_down_leaves_nothing(spare: Cluster) -> None:
    spare.down()
    assert not spare.kubeconfig.exists()
    label = f"label=io.x-k8s.kind.cluster={spare.name}"
    assert spare.engine.run("ps", "--all", "--quiet", "--filter", label) == ""
    with pytest.raises(ClusterError, match="`python -m devcluster up` makes the cluster"):
        spare.kubectl("get", "nodes")
