"""Models from a site's own places: a claim, a web server, a private registry with an authority of its own.

Skerry is installed as such a site would: with that registry instead of the embedded one, and without image volumes.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import yaml

from devcluster import Cluster
from skerry.store.settings import Credentials, Login, StoreSettings
from skerry.store.trees import sha256
from tests.registry.running import HTPASSWD, PASSWORD, USER
from tests.support import fileserver, models
from tests.support.installation import SYSTEM, Document, condition, eventually, forwarded, install, push_to
from tests.support.workspace import Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-elsewhere"
HOST = f"elsewhere.{NAMESPACE}.svc"
REGISTRY, FILES = f"{HOST}:5000", f"{HOST}:8443"
SECRET = "my-registry"
COPY = """
import pathlib, shutil
for path in pathlib.Path("/files").glob("*.*"):
    if path.is_file():
        shutil.copyfile(path, pathlib.Path("/claim", path.name))
"""


@dataclass(frozen=True)
class Place:
    """The namespace, and the digests of the files that are to be had from there."""

    space: Workspace
    model: str
    data: str

    def source(self, scheme: str) -> tuple[Document, Document]:
        """Return the parts of a spec that name model and data."""
        if scheme == "oci":
            return {"uri": f"oci://{REGISTRY}/models/good:1"}, {"uri": f"oci://{REGISTRY}/data/good:1"}
        where = f"https://{FILES}" if scheme == "https" else "pvc://files"
        model = {"uri": f"{where}/good.onnx", "sha256": self.model}
        return model, {"uri": f"{where}/data.npz", "sha256": self.data}


def container(name: str, image: str, command: list[str], mounts: dict[str, str]) -> Document:
    return {
        "name": name,
        "image": image,
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }


def objects(images: dict[str, str], files: dict[str, Path], authority: trustme.CA) -> list[Document]:
    """Return a claim, a registry and a web server, each with the files, as a site might have them."""
    certificate = authority.issue_cert(HOST, "localhost")
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/data"}},
        "auth": {"htpasswd": {"realm": "site", "path": "/config/htpasswd"}},
        "http": {"addr": ":5000", "tls": {"certificate": "/config/tls.crt", "key": "/config/tls.key"}},
    }
    texts = {
        "registry.json": json.dumps(config),
        "htpasswd": HTPASSWD,
        "tls.crt": b"".join(blob.bytes() for blob in certificate.cert_chain_pems).decode(),
        "tls.key": certificate.private_key_pem.bytes().decode(),
        "fileserver.py": Path(fileserver.__file__).read_text(encoding="utf-8"),
    }
    python = ["/opt/skerry/bin/python"]
    copy = [*python, "-c", COPY]
    serve = [*python, "/config/fileserver.py", "/claim", "/config/tls.crt", "/config/tls.key", USER, PASSWORD]
    registry = ["registry", "serve", "/config/registry.json"]
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [container("copy", images["server"], copy, {"files": "/files", "claim": "/claim"})],
        "containers": [
            container("registry", images["registry"], registry, {"config": "/config", "data": "/data"}),
            container("files", images["server"], serve, {"config": "/config", "claim": "/claim"}),
        ],
        "volumes": [
            {"name": "config", "secret": {"secretName": "config"}},
            {"name": "files", "configMap": {"name": "files"}},
            {"name": "data", "emptyDir": {}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "files"}},
        ],
    }
    encoded = {path.name: base64.b64encode(path.read_bytes()).decode() for path in files.values()}
    login = {"kind": "Secret", "type": "kubernetes.io/basic-auth", "metadata": {"name": "web"}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    ports = [{"name": name, "port": port} for name, port in (("registry", 5000), ("files", 8443))]
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "config"}, "stringData": texts},
        {"apiVersion": "v1", **login, "stringData": {"username": USER, "password": PASSWORD}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "binaryData": encoded},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "files"}, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "elsewhere", "labels": {"app": "site"}}, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "elsewhere"},
            "spec": {"selector": {"app": "site"}, "ports": ports},
        },
    ]


def fill(space: Workspace, files: dict[str, Path], authority: trustme.CA, work: Path) -> None:
    """Push the files into the private registry."""
    with forwarded(space.cluster, NAMESPACE, "elsewhere", 5000) as port:
        host = f"localhost:{port}"
        settings = StoreSettings(ca_bundle=authority.cert_pem.bytes().decode())
        push_to(host, files, settings, Credentials({host: Login(USER, PASSWORD)}), work)


def site_values(authority: trustme.CA) -> Document:
    """Return the values that such a site gives Helm."""
    return {
        "registry": {
            "embedded": {"enabled": False},
            "external": {"host": REGISTRY, "credentialsSecretName": SECRET},
        },
        "sources": {"caBundle": authority.cert_pem.bytes().decode()},
        "imageVolumes": "Never",
    }


@pytest.fixture(scope="module")
def place(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Skerry installed with a registry of the site's own."""
    work = tmp_path_factory.mktemp("elsewhere")
    authority = trustme.CA()
    files = {"models/good:1": models.classifier(work / "good.onnx"), "data/good:1": models.samples(work / "data.npz")}
    auths = json.dumps({"auths": {REGISTRY: {"username": USER, "password": PASSWORD}}})
    values = work / "values.yaml"
    values.write_text(yaml.safe_dump(site_values(authority)), encoding="utf-8")
    secret = ("create", "secret", "generic", SECRET, "--type=kubernetes.io/dockerconfigjson", "--namespace", SYSTEM)
    with workspace(skerry, NAMESPACE) as space:
        space.apply(*objects(skerry.images(), files, authority))
        eventually(lambda: condition(space.get("pod", "elsewhere"), "Ready")[0] == "True", "the site's servers run")
        fill(space, files, authority, work)
        skerry.kubectl("delete", "secret", SECRET, "--namespace", SYSTEM, "--ignore-not-found")
        skerry.kubectl(*secret, f"--from-literal=.dockerconfigjson={auths}")
        try:
            install(skerry, "--values", str(values))
            yield Place(space, sha256(work / "good.onnx"), sha256(work / "data.npz"))
        finally:
            install(skerry)
            skerry.kubectl("delete", "secret", SECRET, "--namespace", SYSTEM)


@pytest.fixture(scope="module")
def models_applied(place: Place) -> Place:
    """All models at once, so that their Jobs run side by side."""
    for scheme in ("oci", "https", "pvc"):
        model, data = place.source(scheme)
        document = edge_model(scheme, evaluation=data)
        document["spec"]["source"] = {**model, **({"credentialsSecretName": "web"} if scheme == "https" else {})}
        place.space.apply(document)
    return place


@pytest.mark.parametrize("scheme", ["oci", "https", "pvc"])
def test_a_model_is_optimized_from_where_the_site_has_it(models_applied: Place, scheme: str) -> None:
    model = models_applied.space.until("edgemodel", scheme, "Optimized")

    (variant,) = model["status"]["variants"]
    assert variant["artifact"].startswith(f"oci://{REGISTRY}/models/{NAMESPACE}/{scheme}@sha256:")
    assert condition(model, "SourceVerified")[0] == "True"


def test_a_wrong_password_is_told(place: Place) -> None:
    model, data = place.source("https")
    document = edge_model("stranger", evaluation=data)
    document["spec"]["source"] = model
    place.space.apply(document)

    found = place.space.until("edgemodel", "stranger", "BadConfiguration")

    assert "denied access (401); check the credentials" in condition(found, "Ready")[2]


def test_a_variant_is_served_from_a_private_registry_without_image_volumes(models_applied: Place) -> None:
    space = models_applied.space
    space.until("edgemodel", "oci", "Optimized")
    space.apply(edge_deployment("private", "oci"))

    space.until("edgedeployment", "private", "Serving")

    (pod,) = space.listed("pods", "skerry.dev/deployment=private")
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["fetch"]
    secret = space.get("secret", "private-pull")
    assert secret["metadata"]["ownerReferences"][0]["kind"] == "EdgeDeployment"
    assert space.ask("private", "oci") == (2, models.CLASSES)
