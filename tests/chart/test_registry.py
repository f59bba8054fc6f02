"""The embedded registry: its two listeners, started as the chart describes them, on one folder."""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from devcluster import parts
from tests.chart.conftest import NAMESPACE, Render, Rendered

pytestmark = pytest.mark.registry

SECONDS = 30
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def login(rendered: Rendered, host: str) -> tuple[str, str]:
    """Return user and password that the Secret has for a host."""
    config = json.loads(rendered.of("Secret")["registry-push"]["stringData"][".dockerconfigjson"])
    found = config["auths"][host]
    assert base64.b64decode(found["auth"]).decode() == f"{found['username']}:{found['password']}"
    return found["username"], found["password"]


@dataclass(frozen=True)
class Listeners:
    """Clients of the two listeners, and the login of the first."""

    write: httpx.Client
    read: httpx.Client
    login: tuple[str, str]


def start(name: str, rendered: Rendered, folder: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a listener with the configuration of the chart, but for paths and port, and return its address."""
    text = rendered.of("ConfigMap")["registry"]["data"][f"{name}.yml"]
    text = text.replace("/data", str(folder / "data")).replace("/htpasswd/htpasswd", str(folder / "htpasswd"))
    config = yaml.safe_load(text)
    container = next(each for each in rendered.pods()["Deployment/registry"]["containers"] if each["name"] == name)
    assert [f":{port['containerPort']}" for port in container["ports"]] == [config["http"]["addr"]]
    config["http"]["addr"] = "127.0.0.1:0"
    config["log"]["level"] = "info"
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    log = folder / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [parts.build("registry") / "registry", "serve", path],
            stdout=stream,
            stderr=stream,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    deadline = time.monotonic() + SECONDS
    while (found := re.search(r"listening on ([0-9.]+:[0-9]+)", log.read_text(encoding="utf-8"))) is None:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.02)
    return process, found.group(1)


@pytest.fixture(scope="module")
def listeners(default: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "data").mkdir()
    htpasswd = default.of("Secret")["registry-htpasswd"]["stringData"]["htpasswd"]
    (folder / "htpasswd").write_text(htpasswd, encoding="utf-8")
    started = [start(name, default, folder) for name in ("write", "read")]
    write, read = (httpx.Client(base_url=f"http://{address}", trust_env=False) for _, address in started)
    with write, read:
        yield Listeners(write, read, login(default, f"registry.{NAMESPACE}.svc:5000"))
    for process, _ in started:
        process.terminate()
        process.wait()


def push(listeners: Listeners, tag: str) -> str:
    """Push an empty image and return its digest."""
    blob, digest = b"{}", "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    begun = listeners.write.post("/v2/models/x/blobs/uploads/", auth=listeners.login)
    assert begun.status_code == 202, begun.text
    place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
    assert listeners.write.put(place, content=blob, auth=listeners.login).status_code == 201
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": len(blob)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    done = listeners.write.put(
        f"/v2/models/x/manifests/{tag}",
        content=json.dumps(manifest),
        headers={"Content-Type": MANIFEST},
        auth=listeners.login,
    )
    assert done.status_code == 201, done.text
    return str(done.headers["docker-content-digest"])


def test_writing_needs_the_password_of_the_secret(listeners: Listeners) -> None:
    user, password = listeners.login

    assert listeners.write.get("/v2/").status_code == 401
    assert listeners.write.get("/v2/", auth=(user, password + "x")).status_code == 401
    assert listeners.write.get("/v2/", auth=(user, password)).status_code == 200


def test_what_is_pushed_is_there_for_nodes_at_once(listeners: Listeners) -> None:
    path = "/v2/models/x/manifests/new"
    headers = {"Accept": MANIFEST}
    assert listeners.read.get(path, headers=headers).status_code == 404

    digest = push(listeners, "new")

    found = listeners.read.get(path, headers=headers)
    assert (found.status_code, found.headers["docker-content-digest"]) == (200, digest)


def test_nodes_cannot_write(listeners: Listeners) -> None:
    digest = push(listeners, "kept")

    assert listeners.read.post("/v2/models/x/blobs/uploads/").status_code == 405
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}
    headers = {"Content-Type": MANIFEST}
    assert listeners.read.put("/v2/models/x/manifests/bad", json=manifest, headers=headers).status_code == 405
    assert listeners.read.delete(f"/v2/models/x/manifests/{digest}").status_code == 405
    assert listeners.read.delete(f"/v2/models/x/blobs/{digest}").status_code == 405
    assert listeners.read.get(f"/v2/models/x/manifests/{digest}", headers={"Accept": MANIFEST}).status_code == 200


def test_the_secret_serves_every_name_of_the_registry(default: Rendered) -> None:
    names = (f"registry.{NAMESPACE}:5000", f"registry.{NAMESPACE}.svc:5000", "localhost:5000")

    assert len({login(default, name) for name in names}) == 1


def test_two_installations_have_different_passwords(default: Rendered, render: Render) -> None:
    host = f"registry.{NAMESPACE}:5000"

    assert login(default, host)[1] != login(render(), host)[1]


def test_a_new_configuration_restarts_the_registry(default: Rendered) -> None:
    template = default.of("Deployment")["registry"]["spec"]["template"]

    assert re.fullmatch("[0-9a-f]{64}", template["metadata"]["annotations"]["checksum/config"])


def test_what_was_published_outlives_an_uninstall(default: Rendered) -> None:
    claim = default.of("PersistentVolumeClaim")["registry"]

    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
