"""Fetching a source by its URI, verified."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from skerry.store import hub, image, transport, trees
from skerry.store.download import Download
from skerry.store.errors import AccessError, BadInputError, DigestMismatchError, NotFoundError, TooLargeError
from skerry.store.references import Reference
from skerry.store.registry import Advance
from skerry.store.settings import Credentials, S3Access, StoreSettings
from skerry.store.transport import Notify

SCHEMES: Final = ("oci", "https", "http", "s3", "hf", "pvc")
_LONGEST_NAME: Final = 200
_CLAIM: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        path: The file, or the folder with the files.
        sha256: SHA-256 of the file, or of the folder's sorted listing.
        size_bytes: Bytes of all files.
        manifest_digest: `sha256:…` of the manifest that an oci:// URI stood for; nothing for other schemes.
    """

    path: Path
    sha256: str
    size_bytes: int
    manifest_digest: str | None = None


@dataclass(frozen=True)
class _Wish:
    """What `fetch` was asked for."""

    uri: str
    folder: Path
    sha256: str | None
    settings: StoreSettings
    credentials: Credentials
    notify: Notify
    advance: Advance

    @property
    def content(self) -> Path:
        """Folder for what consists of several files."""
        return self.folder / "content"


def fetch(
    uri: str,
    folder: Path,
    *,
    sha256: str | None,
    settings: StoreSettings,
    credentials: Credentials,
    notify: Notify = lambda _: None,
    advance: Advance = lambda _: None,
) -> Fetched:
    """Bring what a URI names into a folder of its own and verify it.

    An archive (.zip, .tar, .tar.gz) is unpacked; `sha256` is then that of the archive. A folder with one file counts as
    that file; `sha256` is still that of the folder's listing where it is one of s3:// or hf://. `notify` is told when
    something is tried again, `advance` by how many bytes a transfer advanced.

    Raises:
        BadInputError: The URI, the bytes or the archive are wrong.
        UnreachableError: The server did not answer for `settings.patience_seconds`.
        AccessError: Credentials or certificates are missing, or plain HTTP is not allowed.
    """
    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        message = f"{uri!r}: unknown URI scheme; oci://, https://, http://, s3://, hf:// and pvc:// are supported"
        raise BadInputError(message)
    folder.mkdir(parents=True, exist_ok=True)
    wish = _Wish(uri, folder, sha256, settings, credentials, notify, advance)
    if (bring := _BRINGERS.get(scheme)) is not None:
        return bring(wish)
    if scheme == "http" and not settings.allow_http:
        message = (
            f"{uri}: plain HTTP is not allowed here; use https://, or allow it with the operator's setting allowHttp"
        )
        raise AccessError(message)
    return _web(wish)


def _verified(wish: _Wish, path: Path) -> Fetched:
    found = trees.sha256(path)
    if wish.sha256 is not None and found != wish.sha256:
        raise DigestMismatchError(wish.uri, wish.sha256, found)
    return Fetched(path, found, trees.size(path))


def _single(folder: Path) -> Path:
    """Return the folder's only file, or the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return files[0] if len(files) == 1 else folder


def _oci(wish: _Wish) -> Fetched:
    content = wish.content
    shutil.rmtree(content, ignore_errors=True)
    digest = image.pull(
        Reference.parse(wish.uri),
        content,
        settings=wish.settings,
        credentials=wish.credentials,
        notify=wish.notify,
        advance=wish.advance,
    )
    return replace(_verified(wish, _single(content)), manifest_digest=digest)


def _claim(wish: _Wish) -> Fetched:
    uri, settings = wish.uri, wish.settings
    claim, _, inside = uri.removeprefix("pvc://").partition("/")
    if _CLAIM.fullmatch(claim) is None:
        message = f"{uri}: {claim!r} is not the name of a claim; the form is pvc://CLAIM/PATH"
        raise BadInputError(message)
    if settings.pvc_root is None:
        message = f"{uri}: claims can be read in a cluster only; give the file itself"
        raise AccessError(message)
    path = _inside(uri, settings.pvc_root / claim, unquote(inside))
    if not path.exists():
        message = f"{uri}: there is no {inside!r} in the claim {claim!r}"
        raise NotFoundError(message)
    if trees.size(path) > settings.max_bytes:
        message = f"{uri}: larger than the limit of {settings.max_bytes} bytes"
        raise TooLargeError(message)
    return _finish(wish, path)


def _inside(uri: str, claim: Path, inside: str) -> Path:
    """Return a path of the claim; neither it nor anything below it leaves the claim by `..` or by links."""
    try:
        root = claim.resolve()
        path = (root / inside.lstrip("/")).resolve()
        below = path.rglob("*") if path.is_dir() else ()
        leaves = any(not place.resolve().is_relative_to(root) for place in (path, *below))
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links is a RuntimeError in Python 3.11 and an OSError later; a NUL byte is a ValueError.
        message = f"{uri}: the path cannot be read: {error}"
        raise BadInputError(message) from error
    if leaves:
        message = f"{uri}: the path leaves the claim, or has links that do"
        raise BadInputError(message)
    return path


def _finish(wish: _Wish, path: Path) -> Fetched:
    """Verify, and unpack what is an archive."""
    verified = _verified(wish, path)
    if not path.is_file() or not trees.is_archive(path.name):
        return verified
    content = wish.content
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    trees.unpack(path, content, max_bytes=wish.settings.max_bytes)
    return Fetched(_single(content), verified.sha256, trees.size(content))


def _web(wish: _Wish) -> Fetched:
    uri, settings = wish.uri, wish.settings
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        message = f"{uri}: not a URL: {error}"
        raise BadInputError(message) from error
    target = wish.folder / _local_name(unquote(parts.path))
    login = wish.credentials.login(parts.netloc)
    auth = httpx.BasicAuth(login.username, login.password) if login else None
    download = Download(uri, target, auth=auth, max_bytes=settings.max_bytes, advance=wish.advance)
    with transport.client(settings) as client:
        transport.patiently(lambda: download.attempt(client), seconds=settings.patience_seconds, notify=wish.notify)
    return _finish(wish, target)


def _local_name(path: str) -> str:
    """Return a name for the file at the end of a URL's path or of a key that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2]).lstrip(".")[-_LONGEST_NAME:] or "file"


def _bucket(wish: _Wish) -> Fetched:
    from skerry.store import s3  # noqa: PLC0415 - the server and the operator have not its library

    place, settings = s3.parse(wish.uri), wish.settings
    bucket = s3.Bucket(place.bucket, wish.credentials.s3 or S3Access(), settings)
    reader = s3.Reader(bucket, settings, (wish.notify, wish.advance))
    if not place.key.endswith("/"):
        target = wish.folder / _local_name(place.key)
        reader.file(place.key, target)
        return _finish(wish, target)
    reader.folder(place.key, wish.content)
    return replace(_verified(wish, wish.content), path=_single(wish.content))


def _hub(wish: _Wish) -> Fetched:
    settings, listeners = wish.settings, (wish.notify, wish.advance)
    repository = hub.Repository.parse(wish.uri, settings.hub_endpoint)
    with transport.client(settings) as client:
        found = hub.Hub(settings, wish.credentials.hub_token, listeners, client).fetch(repository, wish.content)
    return replace(_verified(wish, found), path=_single(found) if found.is_dir() else found)


_BRINGERS: Final = {"oci": _oci, "pvc": _claim, "s3": _bucket, "hf": _hub}
