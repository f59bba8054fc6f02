"""Sources on web servers and claims."""

import base64
import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    StoreError,
    TooLargeError,
    UnreachableError,
    UnsafeArchiveError,
)
from skerry.store.fetch import Fetched, fetch
from skerry.store.settings import Credentials, Login, StoreSettings
from tests.unit.store.conftest import WebServer, content, status

DATA = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(DATA).hexdigest()
HTTP = StoreSettings(allow_http=True, patience_seconds=30)


class Get:
    """Fetches into a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remarks: list[str] = []
        self.advanced: list[int] = []

    def __call__(
        self, uri: str, sha256: str | None, settings: StoreSettings = HTTP, login: Login | None = None
    ) -> Fetched:
        host = uri.partition("://")[2].partition("/")[0]
        return fetch(
            uri,
            self.folder / "fetched",
            sha256=sha256,
            settings=settings,
            credentials=Credentials({host: login} if login else {}),
            notify=self.remarks.append,
            advance=self.advanced.append,
        )


@pytest.fixture
def get(tmp_path: Path) -> Get:
    return Get(tmp_path)


def test_a_file(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA)]
    fetched = get(web.url("models/model.onnx?version=1"), SHA256)
    assert (fetched.path.name, fetched.sha256, fetched.size_bytes) == ("model.onnx", SHA256, len(DATA))
    assert fetched.path.read_bytes() == DATA
    assert sum(get.advanced) == len(DATA)


def test_a_broken_transfer_goes_on_where_it_was(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA, stop_after=2_000_000), content(DATA)]
    assert get(web.url("model.onnx"), SHA256).path.read_bytes() == DATA
    first, second = (request.get("range") for request in web.requests)
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 2_000_000
    assert sum(get.advanced) == len(DATA)
    assert len(get.remarks) == 1


def test_a_broken_transfer_starts_again_where_ranges_are_not_served(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA, stop_after=2_000_000), content(DATA, ranges=False)]
    assert get(web.url("model.onnx"), SHA256).path.read_bytes() == DATA
    assert sum(get.advanced) == len(DATA)


def test_two_versions_of_a_file_are_not_mixed(web: WebServer, get: Get) -> None:
    old = bytes(len(DATA))
    web.answers = [content(old, stop_after=2_000_000, tag='"old"'), content(DATA, tag='"new"')]
    assert get(web.url("model.onnx"), SHA256).path.read_bytes() == DATA


def test_a_file_that_shrank_while_it_was_read(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA, stop_after=2_000_000), status(416), content(DATA)]
    assert get(web.url("model.onnx"), SHA256).path.read_bytes() == DATA
    assert "changed while it was being read" in get.remarks[1]


def test_other_bytes_than_named(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA)]
    with pytest.raises(DigestMismatchError, match=f"the SHA-256 is {SHA256}, but {'0' * 64} was expected"):
        get(web.url("model.onnx"), "0" * 64)


def test_a_file_that_is_too_large_is_not_read_to_its_end(web: WebServer, get: Get) -> None:
    web.answers = [content(DATA)]
    with pytest.raises(TooLargeError, match="larger than the limit of 1000 bytes"):
        get(web.url("model.onnx"), SHA256, replace(HTTP, max_bytes=1000))
    assert get.advanced == [0]


@pytest.mark.parametrize(
    ("code", "error", "sentence"),
    [
        (404, NotFoundError, "not found"),
        (401, AccessError, "denied access"),
        (403, AccessError, "denied access"),
        (400, AccessError, "answered 400"),
        (429, UnreachableError, "answered 429"),
        (503, UnreachableError, "answered 503"),
    ],
)
def test_what_a_status_means(code: int, error: type[StoreError], sentence: str, web: WebServer, get: Get) -> None:
    web.answers = [status(code)]
    with pytest.raises(error, match=sentence):
        get(web.url("model.onnx"), SHA256, replace(HTTP, patience_seconds=0))


def test_a_server_that_is_busy_is_tried_again(web: WebServer, get: Get) -> None:
    web.answers = [status(503), content(DATA)]
    assert get(web.url("model.onnx"), SHA256).sha256 == SHA256


def test_plain_http_must_be_allowed(web: WebServer, get: Get) -> None:
    with pytest.raises(AccessError, match="plain HTTP is not allowed here"):
        get(web.url("model.onnx"), SHA256, StoreSettings())
    assert web.requests == []


def test_the_password_goes_to_the_server_that_was_named_only(web: WebServer, get: Get) -> None:
    web.answers = [status(302, Location=f"http://localhost:{web.port}/elsewhere"), content(DATA)]
    get(web.url("model.onnx"), SHA256, login=Login("edge", "secret"))
    expected = "Basic " + base64.b64encode(b"edge:secret").decode()
    assert [request.get("authorization") for request in web.requests] == [expected, None]


def test_a_redirect_to_plain_http_is_not_followed_where_it_is_not_allowed(web: WebServer, get: Get) -> None:
    web.answers = [status(302, Location="http://elsewhere.invalid/model.onnx")]
    # As a registry's host the server itself is trusted with plain HTTP; where it redirects to is not.
    settings = StoreSettings(insecure=frozenset({f"127.0.0.1:{web.port}"}), patience_seconds=0)
    with pytest.raises(AccessError, match=r"elsewhere\.invalid would be asked by plain HTTP"):
        fetch(
            f"oci://127.0.0.1:{web.port}/models/a:1",
            get.folder / "x",
            sha256=None,
            settings=settings,
            credentials=Credentials(),
        )


def test_redirects_without_end(web: WebServer, get: Get) -> None:
    web.answers = [status(302, Location="/again")]
    with pytest.raises(BadInputError, match="redirects"):
        get(web.url("model.onnx"), SHA256)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("ftp://host/model.onnx", "unknown URI scheme"),
        ("model.onnx", "unknown URI scheme"),
        ("https://[::1/model.onnx", "not a URL"),
        ("https:///model.onnx", "address cannot be used"),
        ("oci://registry", "is not a reference of the form"),
        ("pvc://../secrets", "not the name of a claim"),
        ("pvc:///secrets", "not the name of a claim"),
    ],
)
def test_uris_that_cannot_be(uri: str, complaint: str, get: Get) -> None:
    with pytest.raises(BadInputError, match=complaint):
        get(uri, SHA256, replace(HTTP, pvc_root=get.folder, patience_seconds=0))


def test_a_host_that_does_not_exist(get: Get) -> None:
    with pytest.raises(UnreachableError, match="cannot connect"):
        get("https://host.invalid/model.onnx", SHA256, StoreSettings(patience_seconds=0))


def zipped(path: Path, **files: bytes) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.read_bytes()


def test_an_archive_is_unpacked_and_its_digest_is_the_archives(web: WebServer, get: Get, tmp_path: Path) -> None:
    data = zipped(tmp_path / "z", model=b"1", weights=b"22")
    web.answers = [content(data)]
    fetched = get(web.url("ir.zip"), hashlib.sha256(data).hexdigest())
    assert {path.name for path in fetched.path.iterdir()} == {"model", "weights"}
    assert (fetched.sha256, fetched.size_bytes) == (hashlib.sha256(data).hexdigest(), 3)


def test_an_archive_with_one_file_is_that_file(web: WebServer, get: Get, tmp_path: Path) -> None:
    data = zipped(tmp_path / "z", model=b"1")
    web.answers = [content(data)]
    assert get(web.url("model.zip"), hashlib.sha256(data).hexdigest()).path.read_bytes() == b"1"


def test_a_second_fetch_replaces_the_first(web: WebServer, get: Get, tmp_path: Path) -> None:
    for number in (b"1", b"2"):
        data = zipped(tmp_path / "z", model=number)
        web.answers = [content(data)]
        assert get(web.url("model.zip"), hashlib.sha256(data).hexdigest()).path.read_bytes() == number


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fescaped", ".hidden", "a%00b", "x" * 300, "", "C%3Aname"])
def test_the_name_in_a_url_stays_in_the_folder(name: str, web: WebServer, get: Get, tmp_path: Path) -> None:
    web.answers = [content(DATA)]
    path = get(web.url(f"models/{name}"), SHA256).path
    assert path.parent == tmp_path / "fetched"
    assert not path.name.startswith(".")


@pytest.fixture
def claims(tmp_path: Path) -> StoreSettings:
    claim = tmp_path / "claims" / "models"
    (claim / "ir").mkdir(parents=True)
    (claim / "model.onnx").write_bytes(DATA)
    (claim / "ir" / "model.xml").write_bytes(b"<net/>")
    (claim / "ir" / "model.bin").write_bytes(b"weights")
    (tmp_path / "claims" / "other").mkdir()
    (tmp_path / "claims" / "other" / "secret").write_bytes(b"secret")
    return StoreSettings(pvc_root=tmp_path / "claims")


def test_a_file_of_a_claim(claims: StoreSettings, get: Get) -> None:
    fetched = get("pvc://models/model.onnx", SHA256, claims)
    assert (fetched.path.read_bytes(), fetched.sha256) == (DATA, SHA256)


def test_a_folder_of_a_claim(claims: StoreSettings, get: Get) -> None:
    assert {path.name for path in get("pvc://models/ir", None, claims).path.iterdir()} == {"model.xml", "model.bin"}


def test_links_inside_a_claim_are_followed(claims: StoreSettings, get: Get, tmp_path: Path) -> None:
    (tmp_path / "claims" / "models" / "latest").symlink_to("model.onnx")
    assert get("pvc://models/latest", SHA256, claims).path.read_bytes() == DATA


@pytest.mark.parametrize(
    "path", ["../other/secret", "ir/../../other/secret", "%2e%2e/other/secret", "out/secret", "ir2"]
)
def test_a_path_does_not_leave_the_claim(path: str, claims: StoreSettings, get: Get, tmp_path: Path) -> None:
    models = tmp_path / "claims" / "models"
    (models / "out").symlink_to("../other")
    (models / "ir2").mkdir()
    (models / "ir2" / "stolen").symlink_to("../../other/secret")
    with pytest.raises(BadInputError, match="leaves the claim"):
        get(f"pvc://models/{path}", SHA256, claims)


def test_a_loop_of_links(claims: StoreSettings, get: Get, tmp_path: Path) -> None:
    (tmp_path / "claims" / "models" / "loop").symlink_to("loop")
    with pytest.raises(BadInputError):
        get("pvc://models/loop", SHA256, claims)


def test_what_is_not_in_a_claim(claims: StoreSettings, get: Get, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no 'missing' in the claim 'models'"):
        get("pvc://models/missing", SHA256, claims)
    os.mkfifo(tmp_path / "claims" / "models" / "pipe")
    with pytest.raises(NotFoundError, match="neither a file nor a folder"):
        get("pvc://models/pipe", SHA256, claims)
    with pytest.raises(AccessError, match="in a cluster only"):
        get("pvc://models/model.onnx", SHA256, StoreSettings())


def test_an_archive_in_a_claim(claims: StoreSettings, get: Get, tmp_path: Path) -> None:
    data = zipped(tmp_path / "claims" / "models" / "ir.zip", model=b"1", weights=b"22")
    fetched = get("pvc://models/ir.zip", hashlib.sha256(data).hexdigest(), claims)
    assert {path.name for path in fetched.path.iterdir()} == {"model", "weights"}
    bad = zipped(tmp_path / "claims" / "models" / "bad.zip", **{"../escaped": b"1"})
    with pytest.raises(UnsafeArchiveError):
        get("pvc://models/bad.zip", hashlib.sha256(bad).hexdigest(), claims)


@given(path=st.text(max_size=40) | st.text(alphabet="./%2eouther\0\\ ", max_size=40))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_path_reads_another_claim(path: str, claims: StoreSettings, get: Get) -> None:
    try:
        fetched = get(f"pvc://models/{path}", None, claims)
    except StoreError:
        return
    assert fetched.path.resolve().is_relative_to(get.folder / "claims" / "models")
