"""Artifacts through a real registry, there and back."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.api.artifact import REPORT_ARTIFACT_TYPE as REPORT
from skerry.api.jobcontract import ENV_CA_BUNDLE, ENV_INSECURE_REGISTRIES, ENV_SOURCE_CREDENTIALS, ExitCode
from skerry.api.machines import architecture
from skerry.store import image
from skerry.store.descriptors import Descriptor
from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    TooLargeError,
    UnreachableError,
)
from skerry.store.fetch import fetch
from skerry.store.image import Document, Layer, Pushed
from skerry.store.references import Reference
from skerry.store.registry import Registry
from skerry.store.settings import Credentials, Login, StoreSettings
from skerry.store.trees import tree_sha256
from tests.registry.running import PASSWORD, USER, RunningRegistry, TlsRegistry

pytestmark = pytest.mark.registry
NOBODY = Credentials()


def push(
    files: Mapping[str, Path], reference: Reference, settings: StoreSettings, credentials: Credentials, work: Path
) -> Pushed:
    small = {name: path for name, path in files.items() if name == "skerry.json"}
    weights = {name: path for name, path in files.items() if name not in small}
    return image.push_image(
        [Layer(part) for part in (weights, small) if part],
        reference,
        artifact_type="application/vnd.skerry.model.v1",
        annotations={"skerry.dev/precision": "INT8"},
        settings=settings,
        credentials=credentials,
        work=work,
    )


def assert_same(files: Mapping[str, Path], folder: Path) -> None:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_round_trip_over_plain_http(registry: RunningRegistry, model: dict[str, Path], tmp_path: Path) -> None:
    pushed = push(model, registry.reference("models/a:1"), registry.settings, NOBODY, tmp_path)

    total: list[int] = []
    advanced: list[int] = []
    digest = image.pull(
        registry.reference("models/a:1"),
        tmp_path / "out",
        settings=registry.settings,
        credentials=NOBODY,
        begin=total.append,
        advance=advanced.append,
    )

    assert digest == pushed.digest
    assert total == [pushed.size_bytes] == [sum(advanced)]
    assert_same(model, tmp_path / "out")


def test_round_trip_with_password(
    guarded: RunningRegistry, login: Credentials, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = guarded.reference("models/a:1")
    push(model, reference, guarded.settings, login, tmp_path)
    image.pull(reference, tmp_path / "out", settings=guarded.settings, credentials=login)
    assert_same(model, tmp_path / "out")


def test_round_trip_over_tls(tls: TlsRegistry, model: dict[str, Path], tmp_path: Path) -> None:
    reference = tls.registry.reference("models/a:1")
    push(model, reference, tls.settings, NOBODY, tmp_path)
    image.pull(reference, tmp_path / "out", settings=tls.settings, credentials=NOBODY)
    assert_same(model, tmp_path / "out")


def test_an_image_is_what_container_runtimes_mount(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = registry.reference("models/a:1")
    push(model, reference, registry.settings, NOBODY, tmp_path)
    with Registry(reference.host, registry.settings, NOBODY) as client:
        manifest, _ = client.manifest(reference)
        config = tmp_path / "config"
        client.download(reference, Descriptor.parse(manifest["config"], "config"), config)

    image.assert_mountable(manifest, reference.uri)
    assert manifest["artifactType"] == "application/vnd.skerry.model.v1"
    assert manifest["annotations"] == {"skerry.dev/precision": "INT8"}
    document = json.loads(config.read_text(encoding="utf-8"))
    # Without compression the diff_id, the digest of the plain tar, is the blob's own.
    assert document["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"] for layer in manifest["layers"]]}
    assert document["os"] == "linux"
    assert document["architecture"] == architecture()


def test_equal_files_give_equal_digests_whenever_they_are_pushed(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    first = push(model, registry.reference("models/a:1"), registry.settings, NOBODY, tmp_path)
    for path in model.values():
        os.utime(path, (0, 0))
        path.chmod(0o600)
    again = push(dict(reversed(model.items())), registry.reference("models/a:2"), registry.settings, NOBODY, tmp_path)
    assert again == first


def test_equal_weights_are_stored_once(registry: RunningRegistry, model: dict[str, Path], tmp_path: Path) -> None:
    facts = tmp_path / "skerry.json"
    facts.write_text('{"accelerator": "cpu"}', encoding="utf-8")
    push({**model, "skerry.json": facts}, registry.reference("models/a:1"), registry.settings, NOBODY, tmp_path)
    before = registry.blobs()
    facts.write_text('{"accelerator": "npu"}', encoding="utf-8")
    push({**model, "skerry.json": facts}, registry.reference("models/a:2"), registry.settings, NOBODY, tmp_path)
    # the layer of the facts, the config, the manifest
    assert len(registry.blobs() - before) == 3


def test_a_document_is_read_back_but_not_mounted(registry: RunningRegistry, tmp_path: Path) -> None:
    reference = registry.reference("models/a:1-report")
    digest = image.push_documents(
        [
            Document("report.json", REPORT, b'{"candidates": []}'),
            Document("report.html", "text/html", b"<!DOCTYPE html>"),
        ],
        reference,
        artifact_type=REPORT,
        settings=registry.settings,
        credentials=NOBODY,
        work=tmp_path,
    )
    with Registry(reference.host, registry.settings, NOBODY) as client:
        manifest, found = client.manifest(reference.pinned(digest))
    assert found == digest
    with pytest.raises(BadInputError, match=r"not an OCI image .*mount it as an empty folder"):
        image.assert_mountable(manifest, reference.uri)
    image.pull(reference, tmp_path / "out", settings=registry.settings, credentials=NOBODY)
    assert (tmp_path / "out" / "report.json").read_bytes() == b'{"candidates": []}'
    assert (tmp_path / "out" / "report.html").read_bytes() == b"<!DOCTYPE html>"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [REPORT, "text/html"]


def test_what_oras_pushes_is_fetched(
    registry: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oras = pytest.importorskip("oras.client")
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "model.onnx").write_bytes(b"onnx" * 1000)
    (source / "folder" / "weights.bin").write_bytes(b"w" * 5000)
    monkeypatch.chdir(source)
    client = oras.OrasClient(insecure=True, hostname=registry.address)
    client.push(target=f"{registry.address}/models/o:1", files=["model.onnx:application/onnx", "folder"])

    fetched = fetch(
        f"oci://{registry.address}/models/o:1",
        tmp_path / "out",
        sha256=None,
        settings=registry.settings,
        credentials=NOBODY,
    )
    assert (fetched.path / "model.onnx").read_bytes() == b"onnx" * 1000
    assert (fetched.path / "folder" / "weights.bin").read_bytes() == b"w" * 5000
    assert fetched.manifest_digest is not None


def test_oras_reads_what_we_push(registry: RunningRegistry, tmp_path: Path) -> None:
    oras = pytest.importorskip("oras.client")
    image.push_documents(
        [Document("report.json", REPORT, b"{}")],
        registry.reference("models/r:1"),
        artifact_type=REPORT,
        settings=registry.settings,
        credentials=NOBODY,
        work=tmp_path,
    )
    client = oras.OrasClient(insecure=True, hostname=registry.address)
    paths = client.pull(target=f"{registry.address}/models/r:1", outdir=str(tmp_path / "out"))
    assert [Path(path).read_bytes() for path in paths] == [b"{}"]


def test_fetch_verifies_the_digest_of_the_tree(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = registry.reference("models/a:1")
    pushed = push(model, reference, registry.settings, NOBODY, tmp_path)
    wanted = tree_sha256(tmp_path / "model")
    fetched = fetch(reference.uri, tmp_path / "x", sha256=wanted, settings=registry.settings, credentials=NOBODY)
    assert (fetched.sha256, fetched.manifest_digest) == (wanted, pushed.digest)
    with pytest.raises(DigestMismatchError, match=f"{wanted}, but {'0' * 64} was expected"):
        fetch(reference.uri, tmp_path / "y", sha256="0" * 64, settings=registry.settings, credentials=NOBODY)


def test_a_digest_pins_what_a_tag_moves_away_from(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    tagged = registry.reference("models/a:1")
    first = push(model, tagged, registry.settings, NOBODY, tmp_path)
    model["model.xml"].write_text("<other/>", encoding="utf-8")
    push(model, tagged, registry.settings, NOBODY, tmp_path)
    image.pull(tagged.pinned(first.digest), tmp_path / "out", settings=registry.settings, credentials=NOBODY)
    assert (tmp_path / "out" / "model.xml").read_text(encoding="utf-8") == "<net/>"


def test_wrong_password(guarded: RunningRegistry, model: dict[str, Path], tmp_path: Path) -> None:
    wrong = Credentials({guarded.address: Login("edge", "guess")})
    for credentials in (wrong, NOBODY):
        with pytest.raises(AccessError, match=r"denied access \(401\); check the credentials"):
            push(model, guarded.reference("models/a:1"), guarded.settings, credentials, tmp_path)


def test_missing_tag(registry: RunningRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"models/a:9 does not exist: .* push it first with `skerry push`"):
        image.pull(registry.reference("models/a:9"), tmp_path / "out", settings=registry.settings, credentials=NOBODY)


def test_limit_of_bytes(registry: RunningRegistry, model: dict[str, Path], tmp_path: Path) -> None:
    reference = registry.reference("models/a:1")
    push(model, reference, registry.settings, NOBODY, tmp_path)
    settings = replace(registry.settings, max_bytes=1000)
    with pytest.raises(TooLargeError, match="the limit is 1000"):
        image.pull(reference, tmp_path / "out", settings=settings, credentials=NOBODY)


def test_untrusted_certificate(tls: TlsRegistry, tmp_path: Path) -> None:
    settings = replace(tls.settings, ca_bundle="")
    with pytest.raises(AccessError, match="certificate is not trusted"):
        image.pull(tls.registry.reference("models/a:1"), tmp_path / "out", settings=settings, credentials=NOBODY)


def test_plain_http_where_tls_was_expected_and_the_other_way_round(
    registry: RunningRegistry, tls: TlsRegistry, tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match="speaks plain HTTP; if you trust the network, list its host as insecure"):
        image.pull(
            registry.reference("models/a:1"),
            tmp_path / "out",
            settings=StoreSettings(patience_seconds=0),
            credentials=NOBODY,
        )
    with pytest.raises(AccessError, match="HTTP request to an HTTPS server"):
        image.pull(tls.registry.reference("models/a:1"), tmp_path, settings=tls.registry.settings, credentials=NOBODY)


def test_a_registry_that_is_down_is_waited_for(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = registry.reference("models/a:1")
    push(model, reference, registry.settings, NOBODY, tmp_path)
    registry.stop()
    with pytest.raises(UnreachableError, match="cannot connect"):
        image.pull(reference, tmp_path / "out", settings=registry.settings, credentials=NOBODY)

    told: list[str] = []

    def restart(message: str) -> None:
        if not told:
            registry.start()
        told.append(message)

    patient = replace(registry.settings, patience_seconds=60)
    image.pull(reference, tmp_path / "out", settings=patient, credentials=NOBODY, notify=restart)
    assert "trying again" in told[0]
    assert_same(model, tmp_path / "out")


def test_a_pull_replaces_what_an_interrupted_one_left(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = registry.reference("models/a:1")
    push(model, reference, registry.settings, NOBODY, tmp_path)
    out = tmp_path / "out"
    (out / image.STAGING / "tree").mkdir(parents=True)
    (out / image.STAGING / "tree" / "model.xml").write_text("half", encoding="utf-8")
    (out / "model.bin").write_text("old", encoding="utf-8")
    image.pull(reference, out, settings=registry.settings, credentials=NOBODY)
    assert_same(model, out)


def test_a_damaged_blob_in_the_registry_is_noticed(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    reference = registry.reference("models/a:1")
    push(model, reference, registry.settings, NOBODY, tmp_path)
    largest = max((registry.folder / "data").rglob("blobs/sha256/*/*/data"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[5000] ^= 1
    largest.write_bytes(data)
    with pytest.raises(DigestMismatchError, match="blob sha256"):
        image.pull(reference, tmp_path / "out", settings=registry.settings, credentials=NOBODY)
    assert not any((tmp_path / "out").iterdir())


def hostile(registry: RunningRegistry, layer: dict[str, Any]) -> Reference:
    """Store a manifest that a registry does not check: of a type of its own."""
    reference = registry.reference("models/h:1")
    with Registry(reference.host, registry.settings, NOBODY) as client:
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layer,
            "layers": [layer],
        }
        client.put_manifest(reference, manifest)
    return reference


def test_a_title_does_not_leave_the_folder(registry: RunningRegistry, tmp_path: Path) -> None:
    with Registry(registry.address, registry.settings, NOBODY) as client:
        payload = tmp_path / "payload"
        payload.write_bytes(b"x")
        digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        client.upload(registry.reference("models/h:1"), payload, digest)
    title = {"org.opencontainers.image.title": "../../escaped"}
    layer = {"mediaType": "application/octet-stream", "digest": digest, "size": 1, "annotations": title}
    with pytest.raises(BadInputError, match="outside its folder"):
        image.pull(hostile(registry, layer), tmp_path / "a" / "b" / "c", settings=registry.settings, credentials=NOBODY)
    assert not list(tmp_path.rglob("escaped"))


def run_pull(reference: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skerry.store.pull", reference, folder],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_init_container(guarded: RunningRegistry, login: Credentials, model: dict[str, Path], tmp_path: Path) -> None:
    reference = guarded.reference("models/a:1")
    pushed = push(model, reference, guarded.settings, login, tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / ".dockerconfigjson").write_text(
        json.dumps({"auths": {guarded.address: {"username": USER, "password": PASSWORD}}}), encoding="utf-8"
    )
    environment = {ENV_INSECURE_REGISTRIES: guarded.address, ENV_SOURCE_CREDENTIALS: str(secret)}
    pinned, out = reference.pinned(pushed.digest).uri, tmp_path / "out"

    done = run_pull(pinned, out, environment)
    assert (done.returncode, done.stderr) == (ExitCode.FINISHED, "")
    assert (out / "model.bin").read_bytes() == model["model.bin"].read_bytes()

    # The node restarts while the registry is out of reach: the volume has all that is needed.
    guarded.stop()
    assert run_pull(pinned, out, environment).returncode == ExitCode.FINISHED


def test_init_container_says_what_is_wrong(registry: RunningRegistry, tls: TlsRegistry, tmp_path: Path) -> None:
    insecure = {ENV_INSECURE_REGISTRIES: registry.address}
    missing = run_pull(f"oci://{registry.address}/models/a:9", tmp_path / "out", insecure)
    assert missing.returncode == ExitCode.BAD_INPUT
    assert "does not exist" in missing.stderr
    malformed = run_pull("oci://NO", tmp_path / "out", insecure)
    assert malformed.returncode == ExitCode.BAD_INPUT
    assert "not a reference" in malformed.stderr
    untrusted = run_pull(f"oci://{tls.registry.address}/models/a:9", tmp_path / "out", {})
    assert untrusted.returncode == ExitCode.BAD_CONFIGURATION
    assert "not trusted" in untrusted.stderr
    trusted = run_pull(
        f"oci://{tls.registry.address}/models/a:9", tmp_path / "out", {ENV_CA_BUNDLE: tls.settings.ca_bundle}
    )
    assert trusted.returncode == ExitCode.BAD_INPUT
    (tmp_path / "file").write_bytes(b"")
    push({"model.xml": tmp_path / "file"}, registry.reference("models/a:1"), registry.settings, NOBODY, tmp_path)
    unwritable = run_pull(f"oci://{registry.address}/models/a:1", tmp_path / "file" / "out", insecure)
    assert unwritable.returncode == ExitCode.UNAVAILABLE
    assert "cannot write to" in unwritable.stderr
    for done in (missing, malformed, untrusted, trusted, unwritable):
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1
