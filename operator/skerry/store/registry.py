"""A client of the OCI distribution protocol, as far as artifacts need it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urljoin

import httpx

from skerry.store import transport
from skerry.store.descriptors import Descriptor
from skerry.store.errors import AccessError, BadInputError, DigestMismatchError, NotFoundError, TooLargeError
from skerry.store.references import Reference
from skerry.store.settings import Credentials, StoreSettings
from skerry.store.tokens import Tokens
from skerry.store.trees import CHUNK

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIMIT: Final = 4 << 20
_ENDPOINTS: Final = {"docker.io": "registry-1.docker.io"}
"""Hosts of the API where the name of a registry is not one."""

Advance = Callable[[int], None]
"""Is told by how many bytes a transfer advanced; a negative number when it had to start again."""


def _unwatched(_: int) -> None:
    """Nobody looks at the progress."""


class Registry:
    """Reads and writes one registry host; a context manager."""

    def __init__(self, host: str, settings: StoreSettings, credentials: Credentials) -> None:
        self._scheme = "http" if host in settings.insecure else "https"
        self._netloc = _ENDPOINTS.get(host, host)
        self._client = transport.client(settings)
        self._tokens = Tokens(host, self._client, credentials.login(host))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self, reference: Reference, *, push: bool = False) -> tuple[dict[str, Any], str]:
        """Return a manifest and its digest `sha256:…`, checked; `push` takes the token of the push that goes on.

        Raises:
            NotFoundError: There is none under that tag or digest.
            BadInputError: It is an index of several platforms, or no manifest.
        """
        what = f"manifest of {reference.uri}"
        accept = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}, {_DOCKER_MANIFEST}"}
        path = f"{reference.path}/manifests/{reference.selector}"
        try:
            with self._request("GET", path, reference, what, push=push, headers=accept) as response:
                body = _read(response, MANIFEST_LIMIT, what)
        except NotFoundError as error:
            message = (
                f"{reference.uri} does not exist: the registry has no such repository, or nothing under "
                f"{reference.selector!r} in it; check the spelling, or push it first with `skerry push`"
            )
            raise NotFoundError(message) from error
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if reference.digest is not None and reference.digest != digest:
            raise DigestMismatchError(what, reference.digest, digest)
        try:
            manifest = json.loads(body)
        except ValueError as error:
            message = f"{what}: not JSON; does an OCI registry run at {reference.host}?"
            raise BadInputError(message) from error
        if not isinstance(manifest, dict) or "layers" not in manifest:
            message = f"{what}: not the manifest of one artifact (an index of platforms?); name one by its digest"
            raise BadInputError(message)
        return manifest, digest

    def download(self, reference: Reference, blob: Descriptor, target: Path, advance: Advance = _unwatched) -> None:
        """Write a blob to a file, checking size and digest; what is there already is continued.

        Raises:
            DigestMismatchError: The bytes are not those of the descriptor.
        """
        what = f"blob {blob.digest[:19]}… of {reference.uri}"
        start = target.stat().st_size if target.exists() else 0
        if start < blob.size:
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
            with self._request("GET", f"{reference.path}/blobs/{blob.digest}", reference, what, headers=headers) as got:
                resumed = start > 0 and got.status_code == httpx.codes.PARTIAL_CONTENT
                if not resumed:
                    advance(-start)
                    start = 0
                with target.open("ab" if resumed else "wb") as stream:
                    for chunk in got.iter_raw():
                        start += len(chunk)
                        if start > blob.size:
                            message = f"{what}: the server sends more than the {blob.size} bytes of the descriptor"
                            raise TooLargeError(message)
                        stream.write(chunk)
                        advance(len(chunk))
        elif blob.size == 0:
            target.touch()
        with target.open("rb") as stream:
            found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        if found != blob.digest:
            target.unlink()
            raise DigestMismatchError(what, blob.digest, found)

    def upload(self, reference: Reference, path: Path, digest: str, advance: Advance = _unwatched) -> None:
        """Upload a file as a blob, unless the registry has it."""
        what = f"upload to {reference.uri}"
        size = path.stat().st_size
        try:
            with self._request("HEAD", f"{reference.path}/blobs/{digest}", reference, what, push=True):
                advance(size)
                return
        except NotFoundError:
            pass  # the ordinary case: it is uploaded now
        with self._request("POST", f"{reference.path}/blobs/uploads/", reference, what, push=True) as opened:
            location = opened.headers.get("Location")
            if location is None:
                message = f"{what}: the registry does not say where to upload to"
                raise AccessError(message)
            target = httpx.URL(urljoin(str(opened.url), location)).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        body = partial(_chunks, path, advance)
        with self._request("PUT", target, reference, what, push=True, headers=headers, content=body):
            return

    def put_manifest(self, reference: Reference, manifest: dict[str, Any]) -> str:
        """Store a manifest under the reference's tag and return its digest."""
        body = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
        headers = {"Content-Type": str(manifest["mediaType"])}
        path = f"{reference.path}/manifests/{reference.selector}"
        what = f"manifest of {reference.uri}"
        with self._request("PUT", path, reference, what, push=True, headers=headers, content=lambda: body):
            return "sha256:" + hashlib.sha256(body).hexdigest()

    @contextmanager
    def _request(
        self,
        method: str,
        address: str | httpx.URL,
        reference: Reference,
        what: str,
        *,
        push: bool = False,
        headers: dict[str, str] | None = None,
        content: Callable[[], bytes | Iterator[bytes]] = bytes,
    ) -> Iterator[httpx.Response]:
        """Send a request, a second time when the server asks for (new) credentials; yield a good response, unread."""
        url = address if isinstance(address, httpx.URL) else httpx.URL(f"{self._scheme}://{self._netloc}/v2/{address}")
        # An upload may go to another host (a bucket): our credentials are none of its business.
        ours = url.netloc.decode() == httpx.URL(f"{self._scheme}://{self._netloc}").netloc.decode()
        actions = ("pull", "push") if push else ("pull",)
        with transport.mapped(what):
            for attempt in range(2):
                known = self._tokens.header(reference.path, actions) if ours else {}
                with self._client.stream(method, url, headers={**(headers or {}), **known}, content=content()) as got:
                    denied = ours and not attempt and got.status_code == httpx.codes.UNAUTHORIZED
                    if denied and self._tokens.answer(got, reference.path, actions):
                        continue
                    transport.check(got, what)
                    yield got
                    return


def _read(response: httpx.Response, limit: int, what: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > limit:
            message = f"{what}: larger than {limit} bytes"
            raise TooLargeError(message)
    return bytes(body)


def _chunks(path: Path, advance: Advance) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
            advance(len(chunk))
