"""Answers of S3 servers that no server gives when it is asked to; tests/registry has a real one."""

from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from skerry.store.errors import AccessError, BadInputError, NotFoundError, StoreError, TooLargeError, UnreachableError
from skerry.store.fetch import Fetched, fetch
from skerry.store.settings import Credentials, S3Access, StoreSettings
from tests.unit.store.conftest import Answer, WebServer, content, status

SETTINGS = StoreSettings(allow_http=True, patience_seconds=0)
SECRETS = ("very-secret-key", "very-secret-token")


def answer(code: int, body: str, **headers: str) -> Answer:
    """Answer with XML."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Type": "application/xml", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return send


def error(status_code: int, code: str, **headers: str) -> Answer:
    """Answer with an error as Amazon's service words it."""
    return answer(status_code, f"<Error><Code>{code}</Code><Message>What S3 says.</Message></Error>", **headers)


def listing(keys: Sequence[str], size: int = 1) -> Answer:
    """Answer with a list of objects."""
    objects = "".join(f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>" for key in keys)
    return answer(
        200, f"<ListBucketResult><Name>models</Name><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
    )


class Get:
    """Fetches into a folder of the test, as somebody with temporary keys."""

    def __init__(self, web: WebServer, folder: Path) -> None:
        self.access = S3Access(f"http://127.0.0.1:{web.port}", "us-east-1", "key", *SECRETS)
        self.folder = folder

    def __call__(self, uri: str = "s3://models/model.onnx", settings: StoreSettings = SETTINGS) -> Fetched:
        return fetch(
            uri, self.folder / "fetched", sha256=None, settings=settings, credentials=Credentials(s3=self.access)
        )


@pytest.fixture
def get(web: WebServer, tmp_path: Path) -> Get:
    return Get(web, tmp_path)


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        (error(400, "ExpiredToken"), AccessError, "AWS_SESSION_TOKEN has expired; get new temporary keys"),
        (error(403, "InvalidAccessKeyId"), AccessError, "the server does not know this AWS_ACCESS_KEY_ID"),
        (error(403, "AccountProblem"), AccessError, r"denied access \(403 AccountProblem\); What S3 says"),
        (error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"), AccessError, "set AWS_REGION to eu-west-1"),
        (error(307, "TemporaryRedirect", Location="http://elsewhere.invalid/"), AccessError, "TemporaryRedirect"),
        (error(404, "NoSuchKey"), NotFoundError, "there is no such object"),
        (error(503, "SlowDown"), UnreachableError, "answered 503 SlowDown"),
        (error(500, "InternalError"), UnreachableError, "answered 500 InternalError"),
        (error(400, "RequestTimeout"), UnreachableError, "answered 400 RequestTimeout"),
        (status(502), UnreachableError, "answered as S3 does not.*502"),
        (status(429), UnreachableError, "answered as S3 does not.*429"),
        (status(403), AccessError, "answered as S3 does not.*403"),
        (answer(403, "<html"), AccessError, "answered as S3 does not"),
    ],
)
def test_what_an_error_means(given: Answer, kind: type[StoreError], sentence: str, web: WebServer, get: Get) -> None:
    web.answers = [given]
    with pytest.raises(kind, match=sentence) as caught:
        get()
    assert f"s3://models/model.onnx at http://127.0.0.1:{web.port}" in str(caught.value)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert len(web.requests) == 1, "neither a redirect nor another try"
    assert SECRETS[1] == web.requests[0]["x-amz-security-token"]


def test_a_busy_server_is_asked_again_when_it_says(web: WebServer, get: Get) -> None:
    web.answers = [error(503, "SlowDown", Retry_After="1"), content(b"model")]
    assert get(settings=replace(SETTINGS, patience_seconds=30)).size_bytes == 5
    web.answers = [error(503, "SlowDown", Retry_After="100")]
    web.requests.clear()
    with pytest.raises(UnreachableError, match="SlowDown"):
        get(settings=replace(SETTINGS, patience_seconds=30))
    assert len(web.requests) == 1, "it is not asked before it wants to be"


def test_ranges_that_are_not_served(web: WebServer, get: Get) -> None:
    data = bytes(range(256)) * 20_000
    web.answers = [content(data, stop_after=2_000_000), content(data, ranges=False)]
    assert get(settings=replace(SETTINGS, patience_seconds=30)).path.read_bytes() == data


def test_a_folder_that_is_too_large_is_refused_by_its_listing(web: WebServer, get: Get) -> None:
    web.answers = [listing(["ir/a", "ir/b"], size=600), content(b"")]
    with pytest.raises(TooLargeError, match=r"s3://models/ir/ at .* larger than the limit of 1000 bytes"):
        get("s3://models/ir/", replace(SETTINGS, max_bytes=1000))
    assert len(web.requests) == 1, "nothing was fetched"


def test_more_than_the_listing_says(web: WebServer, get: Get) -> None:
    web.answers = [listing(["ir/a", "ir/b"]), content(bytes(900)), content(bytes(900))]
    with pytest.raises(TooLargeError, match=r"s3://models/ir/b at .* larger than the limit of 100 bytes"):
        get("s3://models/ir/", replace(SETTINGS, max_bytes=1000))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["ir/../escaped"], "outside its folder"),
        (["ir//etc/passwd"], "outside its folder"),
        (["ir/a\\b"], "not portable"),
        (["ir/a", "ir/a/b"], "the key 'a' cannot be a file beside the others"),
        (["ir/!/b", "ir/./!"], r"the key '\./!' cannot be a file beside the others"),
        (["ir/a", "ir/./a"], "the key 'a' cannot be a file beside the others"),
        (["ir/" + 128 * "ü"], "longer than the 255 bytes that a file's name may have"),
    ],
)
def test_keys_that_cannot_be_files(keys: list[str], sentence: str, web: WebServer, get: Get) -> None:
    web.answers = [listing(keys), content(b"")]
    with pytest.raises(BadInputError, match=sentence):
        get("s3://models/ir/")
    assert len(web.requests) == 1, "nothing was fetched"


def test_what_consoles_leave_in_a_folder_is_no_file(web: WebServer, get: Get) -> None:
    web.answers = [listing(["ir/", "ir/sub/", "ir/sub/model.onnx"]), content(b"model")]
    assert get("s3://models/ir/").path.read_bytes() == b"model"


@pytest.mark.parametrize("body", ["<html>", "<ListBucketResult/>", "", "\x00"])
def test_what_is_no_listing(body: str, web: WebServer, get: Get) -> None:
    web.answers = [answer(200, body)]
    with pytest.raises(StoreError, match=r"s3://models/ir/ at"):
        get("s3://models/ir/")
