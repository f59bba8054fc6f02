"""`skerry push` and `skerry pull` against a real registry, as processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.store.references import Reference
from skerry.store.registry import Registry
from skerry.store.settings import Credentials
from tests.registry.running import PASSWORD, USER, RunningRegistry, TlsRegistry

pytestmark = pytest.mark.registry


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(home), "PATH": os.environ["PATH"]}


def skerry(*arguments: str | Path, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "skerry.cli.main", *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_folder_there_and_back(
    registry: RunningRegistry, model: dict[str, Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    target = f"oci://{registry.address}/models/a:1"
    pushed = skerry("push", tmp_path / "model", target, "--insecure", environment=environment)
    assert pushed.returncode == 0, pushed.stderr
    pinned = pushed.stdout.strip()
    assert pinned.startswith(f"oci://{registry.address}/models/a@sha256:")

    pulled = skerry("pull", pinned, tmp_path / "out", "--insecure", environment=environment)
    assert (pulled.returncode, pulled.stdout.strip()) == (0, pinned)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {path.name: path.read_bytes() for path in model.values()}


def test_data_is_marked_as_data(registry: RunningRegistry, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "test.npz").write_bytes(b"npz")
    target = f"oci://{registry.address}/data/d:1"
    done = skerry("push", tmp_path / "test.npz", target, "--type", "data", "--insecure", environment=environment)
    assert done.returncode == 0, done.stderr
    with Registry(registry.address, registry.settings, Credentials()) as client:
        manifest, _ = client.manifest(Reference.parse(done.stdout.strip()))
    assert manifest["artifactType"] == "application/vnd.skerry.data.v1"


def test_logins(guarded: RunningRegistry, model: dict[str, Path], tmp_path: Path, environment: dict[str, str]) -> None:
    target = f"oci://{guarded.address}/models/a:1"
    push = ("push", model["model.xml"], target, "--insecure", "--patience", "0")

    denied = skerry(*push, environment=environment)
    assert denied.returncode == os.EX_CONFIG
    assert "denied access (401)" in denied.stderr

    by_stdin = skerry(*push, "--username", USER, "--password-stdin", environment=environment, stdin=f"{PASSWORD}\n")
    assert by_stdin.returncode == 0, by_stdin.stderr

    config = json.dumps({"auths": {guarded.address: {"username": USER, "password": PASSWORD}}})
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    by_file = skerry(*push, "--credentials", tmp_path / "config.json", environment=environment)
    assert by_file.stdout == by_stdin.stdout

    by_default = skerry(*push, environment={**environment, "DOCKER_CONFIG": str(tmp_path)})
    assert by_default.stdout == by_stdin.stdout


def test_tls(tls: TlsRegistry, model: dict[str, Path], environment: dict[str, str]) -> None:
    target = f"oci://{tls.registry.address}/models/a:1"
    push = ("push", model["model.xml"], target, "--patience", "0")
    untrusted = skerry(*push, environment=environment)
    assert untrusted.returncode == os.EX_CONFIG
    assert "certificate is not trusted" in untrusted.stderr
    assert skerry(*push, "--ca-file", tls.ca_file, environment=environment).returncode == 0


def test_a_registry_that_does_not_answer(
    registry: RunningRegistry, model: dict[str, Path], environment: dict[str, str]
) -> None:
    registry.stop()
    target = f"oci://{registry.address}/models/a:1"
    done = skerry("push", model["model.xml"], target, "--insecure", "--patience", "0", environment=environment)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "cannot connect" in done.stderr
    assert done.stderr.count("\n") == 1
