"""Fetching a source by its URI, verified."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from skerry.store import image, transport, trees
from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    TooLargeError,
    UnreachableError,
)
from skerry.store.references import Reference
from skerry.store.settings import Credentials, StoreSettings

SCHEMES: Final = ("oci", "https", "http", "pvc")
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        path: The file, or the folder with the files.
        sha256: SHA-256 of the file, or of the folder's sorted listing.
        size_bytes: Bytes of all files.
    """

    path: Path
    sha256: str
    size_bytes: int


def fetch(
    uri: str,
    folder: Path,
    *,
    sha256: str | None,
    settings: StoreSettings,
    credentials: Credentials,
    notify: Notify = lambda _: None,
) -> Fetched:
    """Bring what a URI names into a folder of its own and verify it.

    An archive (.zip, .tar, .tar.gz) is unpacked; `sha256` is then that of the archive. A folder with one file counts as
    that file.

    Raises:
        BadInputError: The URI, the bytes or the archive are wrong.
        UnreachableError: The server did not answer for `settings.patience_seconds`.
        AccessError: Credentials or certificates are missing, or plain HTTP is not allowed.
    """
    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        message = f"{uri!r}: unknown URI scheme; oci://, https://, http:// and pvc:// are supported"
        raise BadInputError(message)
    folder.mkdir(parents=True, exist_ok=True)
    if scheme == "oci":
        return _verified(uri, _oci(uri, folder, settings, credentials, notify), sha256)
    if scheme == "pvc":
        return _claim(uri, folder, sha256, settings)
    if scheme == "http" and not settings.allow_http:
        message = (
            f"{uri}: plain HTTP is not allowed here; use https://, or allow it with the operator's setting allowHttp"
        )
        raise AccessError(message)
    return _web(uri, folder, sha256, settings, credentials, notify)


def _verified(uri: str, path: Path, wanted: str | None) -> Fetched:
    found = trees.sha256(path)
    if wanted is not None and found != wanted:
        raise DigestMismatchError(uri, wanted, found)
    return Fetched(path, found, trees.size(path))


def _single(folder: Path) -> Path:
    """Return the folder's only file, or the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return files[0] if len(files) == 1 else folder


def _oci(uri: str, folder: Path, settings: StoreSettings, credentials: Credentials, notify: Notify) -> Path:
    reference = Reference.parse(uri)
    content = folder / "content"

    def action() -> None:
        if content.exists():
            shutil.rmtree(content)
        image.pull(reference, content, settings=settings, credentials=credentials)

    transport.patiently(action, seconds=settings.patience_seconds, notify=notify)
    return _single(content)


def _claim(uri: str, folder: Path, wanted: str | None, settings: StoreSettings) -> Fetched:
    claim, _, inside = uri.removeprefix("pvc://").partition("/")
    if settings.pvc_root is None:
        message = f"{uri}: claims can be read in a cluster only; give the file itself"
        raise AccessError(message)
    root = (settings.pvc_root / claim).resolve()
    path = (root / unquote(inside)).resolve()
    if not path.is_relative_to(root):
        message = f"{uri}: the path leaves the claim"
        raise BadInputError(message)
    if not path.exists():
        message = f"{uri}: there is no {inside!r} in the claim {claim!r}"
        raise NotFoundError(message)
    if path.is_dir() and any(not file.resolve().is_relative_to(root) for file in path.rglob("*")):
        message = f"{uri}: the folder has links that leave the claim"
        raise BadInputError(message)
    if trees.size(path) > settings.max_bytes:
        message = f"{uri}: larger than the limit of {settings.max_bytes} bytes"
        raise TooLargeError(message)
    return _finish(uri, path, folder, wanted, settings)


def _finish(uri: str, path: Path, folder: Path, wanted: str | None, settings: StoreSettings) -> Fetched:
    """Verify, and unpack what is an archive."""
    verified = _verified(uri, path, wanted)
    if not path.is_file() or not trees.is_archive(path.name):
        return verified
    content = folder / "content"
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    trees.unpack(path, content, name=path.name, max_bytes=settings.max_bytes)
    return Fetched(_single(content), verified.sha256, trees.size(content))


def _web(
    uri: str, folder: Path, wanted: str | None, settings: StoreSettings, credentials: Credentials, notify: Notify
) -> Fetched:
    parts = urlsplit(uri)
    name = Path(unquote(parts.path)).name or "file"
    target = folder / trees.safe_target(folder, name.lstrip(".") or "file").name
    login = credentials.login(parts.netloc)
    auth = httpx.BasicAuth(login.username, login.password) if login else None
    with transport.client(settings) as client:
        transport.patiently(
            lambda: _download(client, uri, target, auth, settings.max_bytes),
            seconds=settings.patience_seconds,
            notify=notify,
        )
    return _finish(uri, target, folder, wanted, settings)


def _download(client: httpx.Client, uri: str, target: Path, auth: httpx.BasicAuth | None, limit: int) -> None:
    """Write a URL's content to a file; a part that is there already is continued where the server can do that."""
    start = target.stat().st_size if target.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with (
        transport.mapped(uri),
        client.stream("GET", uri, headers=headers, auth=auth or httpx.USE_CLIENT_DEFAULT) as response,
    ):
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            target.unlink(missing_ok=True)
            message = f"{uri}: the file on the server changed while it was being read"
            raise UnreachableError(message)
        transport.check(response, uri)
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        written = start if resumed else 0
        expected = response.headers.get("Content-Length")
        with target.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_raw(trees.CHUNK):
                written += len(chunk)
                if written > limit:
                    message = f"{uri}: larger than the limit of {limit} bytes"
                    raise TooLargeError(message)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    if expected is not None and written != int(expected) + (start if resumed else 0):
        message = f"{uri}: the connection ended after {written} bytes"
        raise UnreachableError(message)
