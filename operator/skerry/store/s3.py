"""A file or a folder of an S3 bucket, Amazon's or one at the edge (SeaweedFS, Garage, MinIO, …).

The library is minio: it takes our TLS context and leaves trying again to us, which obstore does not; botocore is 16 MB
and, wanting python-dateutil 2, cannot be installed beside the Kubernetes client, which wants 3.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import getproxies, proxy_bypass
from xml.etree.ElementTree import ParseError

import httpx
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, SSLError

from skerry.store import transport, trees
from skerry.store.errors import (
    AccessError,
    BadInputError,
    NotFoundError,
    StoreError,
    TooLargeError,
    UnreachableError,
)
from skerry.store.landing import Landing
from skerry.store.registry import Advance
from skerry.store.settings import S3Access, StoreSettings

SCHEME: Final = "s3://"
MAX_OBJECTS: Final = 1000
"""Most objects of one folder: they are fetched one by one, and what has more is better packed into an archive."""
_AMAZON: Final = "https://s3.amazonaws.com"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATUS: Final = re.compile(r"Response code: (\d+)")
_SERVER_ERROR: Final = 500
_PARTIAL: Final = 206
_EXCERPT: Final = 300
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion"})
_BUSY: Final = frozenset({"SlowDown", "RequestTimeout", "TooManyRequests", "Throttling", "ThrottlingException"})
_CHANGED: Final = frozenset({"PreconditionFailed", "InvalidRange"})
_WRONG_REGION: Final = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "Redirect", "InvalidRegion"})
_DENIED: Final = {
    "AccessDenied": "check the keys, and what they may read",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the key that belongs to AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "the server does not know this AWS_ACCESS_KEY_ID",
    "ExpiredToken": "AWS_SESSION_TOKEN has expired; get new temporary keys",
    "InvalidToken": "AWS_SESSION_TOKEN is not valid; get new temporary keys",
    "RequestTimeTooSkewed": "the clocks of this machine and of the server differ too much; set them right",
}
"""What to do about the errors that a user can mend."""


class Place(NamedTuple):
    """What an s3:// URI names; a key that ends in `/` is a folder."""

    bucket: str
    key: str


def parse(uri: str) -> Place:
    """Return bucket and key of a URI; the key is taken as it stands, without percent-encoding.

    Raises:
        BadInputError: It has not the form s3://BUCKET/KEY.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if _BUCKET.fullmatch(bucket) is None or not key:
        message = f"{uri}: the form is s3://BUCKET/KEY for a file and s3://BUCKET/FOLDER/ for a folder"
        raise BadInputError(message)
    if not {".", ".."}.isdisjoint(key.split("/")):
        message = f"{uri}: the key has . or .. between slashes, which clients of S3 cannot ask for"
        raise BadInputError(message)
    return Place(bucket, key)


class Bucket:
    """One bucket at its endpoint, for reading."""

    def __init__(self, name: str, access: S3Access, settings: StoreSettings) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            AccessError: Plain HTTP is not allowed, or endpoint or region cannot be.
        """
        self._name = name
        self._anonymous = not access.access_key
        self.endpoint = access.endpoint or _AMAZON
        transport.check_clear_text(httpx.URL(self.endpoint), settings)
        scheme, _, host = self.endpoint.partition("://")
        try:
            self._client = Minio(
                endpoint=host,
                access_key=access.access_key or None,
                secret_key=access.secret_key or None,
                session_token=access.session_token or None,
                secure=scheme == "https",
                region=access.region,
                http_client=_pool(self.endpoint, settings),
            )
        except ValueError as error:
            message = f"the S3 endpoint {self.endpoint!r} with region {access.region!r} cannot be used: {error}"
            raise AccessError(message) from error

    def what(self, key: str) -> str:
        """Return how messages name an object."""
        return f"{SCHEME}{self._name}/{key} at {self.endpoint}"

    def listing(self, prefix: str, max_bytes: int) -> list[str]:
        """Return the sorted keys below a prefix.

        Raises:
            NotFoundError: There are none.
            TooLargeError: There are more than `MAX_OBJECTS`, or they are larger than `max_bytes`.
            UnreachableError, AccessError: The server does not answer, or not to us.
        """
        what, keys, size = self.what(prefix), list[str](), 0
        with self._mapped(what):
            for count, found in enumerate(self._client.list_objects(self._name, prefix=prefix, recursive=True), 1):
                if not found.object_name.endswith("/"):  # that is what consoles leave to show an empty folder
                    keys.append(found.object_name)
                size += found.size or 0
                if count > MAX_OBJECTS:
                    message = f"{what}: more than {MAX_OBJECTS} objects; name a smaller folder, or an archive of them"
                    raise TooLargeError(message)
                if size > max_bytes:
                    message = f"{what}: larger than the limit of {max_bytes} bytes"
                    raise TooLargeError(message)
        if not keys:
            message = f"{what}: there is nothing below that prefix"
            raise NotFoundError(message)
        return sorted(keys)

    @contextmanager
    def opened(self, key: str, start: int, tag: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """Give an object's content from a byte on, if it is still the version with that ETag.

        Raises:
            NotFoundError, UnreachableError, AccessError: What the server says.
        """
        with self._mapped(self.what(key)):
            response = self._client.get_object(
                self._name, key, offset=start, request_headers={"If-Match": tag} if tag else {}
            )
            try:
                yield response
            finally:
                response.close()
                response.release_conn()

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        """Turn the library's errors into ours; `what` begins the message."""
        try:
            yield
        except S3Error as error:
            raise self._meaning(error, what) from error
        except SSLError as error:
            message = f"{what}: the server's certificate is not trusted, or it speaks plain HTTP ({error})"
            raise AccessError(message) from error
        except HTTPError as error:
            message = f"{what}: cannot be reached: {error}"
            raise UnreachableError(message) from error
        except (MinioException, ParseError, ValueError) as error:
            message = f"{what}: the server answered as S3 does not: {str(error)[:_EXCERPT]}"
            raise UnreachableError(message) if _is_busy(error) else AccessError(message) from error

    def _meaning(self, error: S3Error, what: str) -> StoreError:
        code, said = error.code or "", (error.message or "")[:_EXCERPT]
        status = error.response.status
        if code in _MISSING:
            missing = "bucket" if code == "NoSuchBucket" else "object; the URI of a folder ends in /"
            return NotFoundError(f"{what}: there is no such {missing} ({code})")
        if code in _CHANGED:
            return _ChangedError(f"{what}: the object changed while it was being read")
        if code in _BUSY or status >= _SERVER_ERROR:
            wait = transport.retry_after(error.response.headers.get("Retry-After", ""))
            return UnreachableError(f"{what}: the server answered {status} {code}: {said}", retry_after_seconds=wait)
        if code in _WRONG_REGION:
            region = error.response.headers.get("x-amz-bucket-region", "the bucket's")
            return AccessError(f"{what}: the bucket is in another region: set AWS_REGION to {region} ({code}: {said})")
        nobody = " no keys were given: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;" if self._anonymous else ""
        advice = _DENIED.get(code, said)
        return AccessError(f"{what}: the server denied access ({status} {code});{nobody} {advice}")


def _is_busy(error: Exception) -> bool:
    """Tell whether an answer that is not S3's is one of a proxy whose server does not answer now."""
    if isinstance(error, ServerError):
        return error.status_code >= _SERVER_ERROR
    found = _STATUS.search(str(error)) if isinstance(error, InvalidResponseError) else None
    return found is not None and (int(found[1]) >= _SERVER_ERROR or int(found[1]) == httpx.codes.TOO_MANY_REQUESTS)


class _ChangedError(UnreachableError):
    """What was received so far is of no use."""


def _pool(endpoint: str, settings: StoreSettings) -> urllib3.PoolManager:
    """Return the transport: our authorities, our patience, the proxy that the environment names."""
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=transport.CONNECT_SECONDS, read=transport.READ_SECONDS),
        "retries": False,  # redirects neither: what they led to would see our token
        "ssl_context": transport.tls_context(settings),
    }
    url = urllib3.util.parse_url(endpoint)
    proxy = getproxies().get(url.scheme or "")
    if proxy and not proxy_bypass(url.netloc or ""):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


class _Download:
    """One object and the file that it becomes; `attempt` may be called again after an UnreachableError.

    What it has is continued only with the same version of the object (If-Match).
    """

    def __init__(self, bucket: Bucket, key: str, target: Path, max_bytes: int, advance: Advance) -> None:
        self._bucket = bucket
        self._key = key
        self._landing = Landing(bucket.what(key), target, max_bytes, advance)

    def attempt(self) -> int:
        """Download what is missing; return the size of the whole.

        Raises:
            UnreachableError: The connection broke; another attempt may help.
            TooLargeError: There is more than the limit.
            NotFoundError, AccessError: What the server says of the object.
        """
        landing = self._landing
        try:
            with self._bucket.opened(self._key, landing.written, landing.version) as response:
                if response.status != _PARTIAL:
                    landing.restart(response.headers.get("ETag", ""))
                chunks = response.stream(trees.CHUNK, decode_content=False)
                landing.receive(chunks, response.headers.get("Content-Length", ""))
        except _ChangedError:
            landing.restart("")
            raise
        return landing.written


class Reader:
    """Reads one source of a bucket, with the settings' patience."""

    def __init__(self, bucket: Bucket, settings: StoreSettings, listeners: tuple[transport.Notify, Advance]) -> None:
        self._bucket = bucket
        self._settings = settings
        self._notify, self._advance = listeners

    def file(self, key: str, target: Path, max_bytes: int | None = None) -> int:
        """Download one object; return its size in bytes."""
        limit = self._settings.max_bytes if max_bytes is None else max_bytes
        download = _Download(self._bucket, key, target, limit, self._advance)
        return transport.patiently(download.attempt, seconds=self._settings.patience_seconds, notify=self._notify)

    def folder(self, prefix: str, target: Path) -> None:
        """Download all objects below a prefix into a new folder.

        Raises:
            BadInputError: A key cannot be a path below the folder, or is a file and a folder at once.
        """
        left = self._settings.max_bytes
        keys = transport.patiently(
            lambda: self._bucket.listing(prefix, left), seconds=self._settings.patience_seconds, notify=self._notify
        )
        try:
            paths = trees.safe_targets(target, [key.removeprefix(prefix) for key in keys])
        except BadInputError as error:
            message = f"{self._bucket.what(prefix)}: the key {error}"
            raise BadInputError(message) from error
        shutil.rmtree(target, ignore_errors=True)
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            left -= self.file(prefix + name, path, left)
