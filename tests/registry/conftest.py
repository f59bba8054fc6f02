"""A real registry (distribution, built by devcluster) on loopback: plain, with a password, with TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from devcluster import parts
from skerry.store.settings import Credentials, Login
from tests.registry.running import HTPASSWD, PASSWORD, USER, RunningRegistry, TlsRegistry

Launch = Callable[..., RunningRegistry]


@pytest.fixture(scope="session")
def program() -> Path:
    return parts.build("registry") / "registry"


@pytest.fixture
def launch(program: Path, tmp_path: Path) -> Iterator[Launch]:
    """Start registries that end with the test."""
    started: list[RunningRegistry] = []

    def start(**options: Any) -> RunningRegistry:
        folder = tmp_path / f"registry{len(started)}"
        folder.mkdir()
        registry = RunningRegistry(program, folder, **options)
        started.append(registry)
        return registry.start()

    yield start
    for registry in started:
        registry.stop()


@pytest.fixture
def registry(launch: Launch) -> RunningRegistry:
    """A registry that anybody may write, by plain HTTP."""
    return launch()


@pytest.fixture
def guarded(launch: Launch, tmp_path: Path) -> RunningRegistry:
    """A registry with a password."""
    path = tmp_path / "htpasswd"
    path.write_text(HTPASSWD, encoding="utf-8")
    return launch(auth={"htpasswd": {"realm": "edge", "path": str(path)}})


@pytest.fixture
def login(guarded: RunningRegistry) -> Credentials:
    return Credentials({guarded.address: Login(USER, PASSWORD)})


@pytest.fixture
def tls(launch: Launch, tmp_path: Path) -> TlsRegistry:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, ca_file = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(chain), append=number > 0)
    certificate.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca_file))
    return TlsRegistry(launch(http={"tls": {"certificate": str(chain), "key": str(key)}}), ca_file)


@pytest.fixture
def model(tmp_path: Path) -> dict[str, Path]:
    """Files of a model: names in the artifact, and where they are."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.xml").write_text("<net/>", encoding="utf-8")
    (folder / "model.bin").write_bytes(bytes(range(256)) * 9000)
    (folder / "sub" / "labels.txt").write_text("zero\none\n", encoding="utf-8")
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
