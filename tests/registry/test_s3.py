"""Sources in buckets of a real S3 server."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import minio.time
import pytest
import trustme

from devcluster import parts
from skerry.store import s3, trees
from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    StoreError,
    TooLargeError,
    UnreachableError,
)
from skerry.store.fetch import Fetched, fetch
from skerry.store.settings import Credentials, StoreSettings
from tests.registry.buckets import BUCKET, KEY, SECRET, RunningBuckets, cutting

pytestmark = pytest.mark.registry

DATA = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="session")
def program() -> Path:
    return parts.build("versitygw") / "versitygw"


@pytest.fixture(scope="module")
def buckets(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBuckets]:
    """A server for all tests of this file; each uses keys of its own."""
    running = RunningBuckets(program, tmp_path_factory.mktemp("buckets")).start()
    yield running
    running.stop()


class Get:
    """Fetches into a folder of the test."""

    def __init__(self, buckets: RunningBuckets, folder: Path) -> None:
        self.buckets = buckets
        self.folder = folder
        self.remarks: list[str] = []
        self.advanced: list[int] = []

    def __call__(
        self,
        uri: str,
        sha256: str | None = None,
        settings: StoreSettings | None = None,
        credentials: Credentials | None = None,
    ) -> Fetched:
        return fetch(
            uri,
            self.folder / "fetched",
            sha256=sha256,
            settings=settings or self.buckets.settings,
            credentials=credentials or self.buckets.credentials(),
            notify=self.remarks.append,
            advance=self.advanced.append,
        )


@pytest.fixture
def get(buckets: RunningBuckets, tmp_path: Path) -> Get:
    return Get(buckets, tmp_path)


def test_a_file(buckets: RunningBuckets, get: Get) -> None:
    fetched = get(buckets.put("file/model.onnx", DATA), SHA256)
    assert (fetched.path.name, fetched.sha256, fetched.size_bytes) == ("model.onnx", SHA256, len(DATA))
    assert fetched.path.read_bytes() == DATA
    assert sum(get.advanced) == len(DATA)


def test_a_folder(buckets: RunningBuckets, get: Get) -> None:
    content = {"model.xml": b"<net/>", "model.bin": DATA, "sub/b.txt": b"b", "sub/a ü+%2F&=.txt": b"a"}
    for name, data in content.items():
        buckets.put(f"folder/ir/{name}", data)
    buckets.put("folder/ir-other/model.xml", b"not below the prefix")
    fetched = get(f"s3://{BUCKET}/folder/ir/")
    found = {path.relative_to(fetched.path).as_posix(): path for path in fetched.path.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == content
    assert fetched.sha256 == trees.tree_sha256(fetched.path)
    assert get(f"s3://{BUCKET}/folder/ir/", fetched.sha256).size_bytes == sum(len(data) for data in content.values())


def test_a_folder_with_one_file_is_that_file_with_the_folders_digest(buckets: RunningBuckets, get: Get) -> None:
    buckets.put("one/model.onnx", DATA)
    listing = hashlib.sha256(f"{SHA256}  model.onnx\n".encode()).hexdigest()
    fetched = get(f"s3://{BUCKET}/one/", listing)
    assert (fetched.path.name, fetched.path.read_bytes()) == ("model.onnx", DATA)


@pytest.mark.parametrize(
    "name", ["with space", "ünïcödé", "a+b%20c", "50%", "q?x=1&y#z", "' \"~!*()", "日本", ".hidden"]
)
def test_odd_keys(name: str, buckets: RunningBuckets, get: Get, tmp_path: Path) -> None:
    fetched = get(buckets.put(f"odd/{name}", name.encode()))
    assert fetched.path.read_bytes() == name.encode()
    assert fetched.path.parent == tmp_path / "fetched"
    assert not fetched.path.name.startswith(".")


@pytest.mark.parametrize(
    ("uri", "error", "sentence"),
    [
        (f"s3://{BUCKET}/none.onnx", NotFoundError, r"no such object; the URI of a folder ends in / \(NoSuchKey\)"),
        (f"s3://{BUCKET}/none/", NotFoundError, "there is nothing below that prefix"),
        ("s3://no-such-bucket/model.onnx", NotFoundError, r"no such bucket \(NoSuchBucket\)"),
        ("s3://no-such-bucket/folder/", NotFoundError, r"no such bucket \(NoSuchBucket\)"),
        (f"s3://{BUCKET}", BadInputError, "the form is s3://BUCKET/KEY"),
        ("s3://My_Bucket/model.onnx", BadInputError, "the form is s3://BUCKET/KEY"),
        (f"s3://{BUCKET}/a/../model.onnx", BadInputError, "has . or .. between slashes"),
    ],
)
def test_what_is_not_there(uri: str, error: type[StoreError], sentence: str, get: Get) -> None:
    with pytest.raises(error, match=sentence):
        get(uri)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"secret_key": "wrong-secret"}, "SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY is not the key"),
        ({"access_key": "stranger", "secret_key": "wrong-secret"}, "denied access"),
        ({"access_key": "", "secret_key": ""}, "no keys were given: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"session_token": "wrong-token"}, "AWS_SESSION_TOKEN is not valid"),
        ({"region": "eu-west-1"}, "the bucket is in another region: set AWS_REGION"),
        ({"region": "no region!"}, "cannot be used: invalid region"),
    ],
)
def test_who_is_not_let_in(changes: dict[str, str], sentence: str, buckets: RunningBuckets, get: Get) -> None:
    uri = buckets.put("guarded/model.onnx", DATA)
    with pytest.raises(AccessError, match=sentence) as caught:
        get(uri, credentials=buckets.credentials(**changes))
    message = str(caught.value)
    assert not [secret for secret in (SECRET, "wrong-secret", "wrong-token") if secret in message]


def test_a_bucket_that_anybody_may_read(buckets: RunningBuckets, get: Get) -> None:
    client = buckets.client
    client.make_bucket("public")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": ["arn:aws:s3:::public", "arn:aws:s3:::public/*"],
    }
    client.set_bucket_policy("public", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    (buckets.folder / "data" / "public" / "model.onnx").write_bytes(DATA)
    nobody = buckets.credentials(access_key="", secret_key="")
    assert get("s3://public/model.onnx", SHA256, credentials=nobody).size_bytes == len(DATA)


def test_clocks_that_differ(buckets: RunningBuckets, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = buckets.put("clock/model.onnx", DATA)
    now = minio.time.utcnow
    monkeypatch.setattr(minio.time, "utcnow", lambda: now() - timedelta(hours=1))
    with pytest.raises(AccessError, match="the clocks of this machine and of the server differ"):
        get(uri)


def test_other_bytes_than_named(buckets: RunningBuckets, get: Get) -> None:
    uri = buckets.put("wrong/model.onnx", DATA)
    for place in (uri, f"s3://{BUCKET}/wrong/"):
        with pytest.raises(DigestMismatchError, match=f"but {'0' * 64} was expected"):
            get(place, "0" * 64)


def test_what_is_too_large_is_not_read(buckets: RunningBuckets, get: Get) -> None:
    small = replace(buckets.settings, max_bytes=1000)
    for place in (buckets.put("large/model.onnx", DATA), f"s3://{BUCKET}/large/"):
        with pytest.raises(TooLargeError, match="larger than the limit of 1000 bytes"):
            get(place, settings=small)
    assert sum(get.advanced) == 0


def test_a_folder_of_ten_thousand_objects(buckets: RunningBuckets, get: Get) -> None:
    folder = buckets.folder / "data" / BUCKET / "many"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"{number:05}").touch()
    with pytest.raises(
        TooLargeError, match=f"more than {s3.MAX_OBJECTS} objects; name a smaller folder, or an archive"
    ):
        get(f"s3://{BUCKET}/many/")
    assert get.advanced == []


def test_plain_http_must_be_allowed(buckets: RunningBuckets, get: Get) -> None:
    uri = buckets.put("http/model.onnx", DATA)
    with pytest.raises(AccessError, match=r"127\.0\.0\.1 would be asked by plain HTTP"):
        get(uri, settings=replace(buckets.settings, allow_http=False))
    listed = replace(buckets.settings, allow_http=False, insecure=frozenset({f"127.0.0.1:{buckets.port}"}))
    assert get(uri, SHA256, listed).size_bytes == len(DATA)


def test_a_broken_transfer_goes_on_where_it_was(buckets: RunningBuckets, get: Get) -> None:
    uri = buckets.put("broken/model.onnx", DATA)
    with cutting(buckets.port, after=2_000_000) as port:
        credentials = buckets.credentials(endpoint=f"http://127.0.0.1:{port}")
        fetched = get(uri, SHA256, replace(buckets.settings, patience_seconds=30), credentials)
    assert fetched.path.read_bytes() == DATA
    assert len(get.remarks) == 1
    assert min(get.advanced) == 0, "nothing was taken back"
    assert sum(get.advanced) == len(DATA)


def test_two_versions_of_an_object_are_not_mixed(buckets: RunningBuckets, tmp_path: Path) -> None:
    uri = buckets.put("changed/model.onnx", bytes(len(DATA)))
    advanced: list[int] = []

    def replace_it(_: str) -> None:
        buckets.put("changed/model.onnx", DATA)

    with cutting(buckets.port, after=2_000_000) as port:
        fetched = fetch(
            uri,
            tmp_path,
            sha256=SHA256,
            settings=replace(buckets.settings, patience_seconds=30),
            credentials=buckets.credentials(endpoint=f"http://127.0.0.1:{port}"),
            notify=replace_it,
            advance=advanced.append,
        )
    assert fetched.path.read_bytes() == DATA
    assert min(advanced) < 0
    assert sum(advanced) == len(DATA)


def test_a_server_that_is_down(program: Path, tmp_path: Path) -> None:
    down = RunningBuckets(program, tmp_path).start()
    down.stop()
    with pytest.raises(UnreachableError, match=r"cannot be reached: .*Connection refused"):
        Get(down, tmp_path)(f"s3://{BUCKET}/model.onnx")


def test_tls(program: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    secure = RunningBuckets(program, tmp_path, authority).start()
    try:
        (tmp_path / "data" / BUCKET).mkdir()
        (tmp_path / "data" / BUCKET / "model.onnx").write_bytes(DATA)
        get = Get(secure, tmp_path)
        uri = f"s3://{BUCKET}/model.onnx"
        trusting = StoreSettings(ca_bundle=authority.cert_pem.bytes().decode(), patience_seconds=0)
        assert get(uri, SHA256, trusting).size_bytes == len(DATA)
        with pytest.raises(AccessError, match="the server's certificate is not trusted"):
            get(uri, SHA256, replace(trusting, ca_bundle=""))
        plain = secure.credentials(endpoint=f"http://127.0.0.1:{secure.port}")
        with pytest.raises(StoreError, match=f"s3://{BUCKET}/model.onnx at http://"):
            get(uri, SHA256, replace(trusting, allow_http=True), plain)
    finally:
        secure.stop()


def test_the_key_is_not_shown(buckets: RunningBuckets) -> None:
    assert SECRET not in repr(buckets.credentials(session_token="token-of-mine"))
    assert "token-of-mine" not in repr(buckets.credentials(session_token="token-of-mine"))
    assert KEY in repr(buckets.credentials())
