"""A client of the OCI distribution protocol, as far as artifacts need it."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urljoin

import httpx

from skerry.store import transport
from skerry.store.errors import AccessError, BadInputError, DigestMismatchError, TooLargeError
from skerry.store.references import Reference
from skerry.store.settings import Credentials, StoreSettings
from skerry.store.trees import CHUNK

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIMIT: Final = 4 << 20
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """Reads and writes one registry host; a context manager."""

    def __init__(self, host: str, settings: StoreSettings, credentials: Credentials) -> None:
        scheme = "http" if host in settings.insecure else "https"
        self._base = f"{scheme}://{host}/v2/"
        self._host = host
        self._settings = settings
        self._login = credentials.login(host)
        self._client = transport.client(settings)
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self, reference: Reference) -> tuple[dict[str, Any], str]:
        """Return a manifest and its digest `sha256:…`, checked.

        Raises:
            NotFoundError: There is none under that tag or digest.
            BadInputError: It is an index of several platforms, or no manifest.
        """
        what = f"manifest of {reference.uri}"
        accept = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}, {_DOCKER_MANIFEST}"}
        with transport.mapped(what):
            response = self._send("GET", f"{reference.path}/manifests/{reference.selector}", reference, headers=accept)
        transport.check(response, what)
        if len(response.content) > MANIFEST_LIMIT:
            message = f"{what}: larger than {MANIFEST_LIMIT} bytes"
            raise TooLargeError(message)
        digest = "sha256:" + hashlib.sha256(response.content).hexdigest()
        if reference.digest is not None and reference.digest != digest:
            raise DigestMismatchError(what, reference.digest, digest)
        try:
            manifest = json.loads(response.content)
        except ValueError as error:
            message = f"{what}: not JSON"
            raise BadInputError(message) from error
        if not isinstance(manifest, dict) or "layers" not in manifest:
            message = f"{what}: not the manifest of one artifact (an index of platforms?); name one by its digest"
            raise BadInputError(message)
        return manifest, digest

    def download(
        self,
        reference: Reference,
        descriptor: dict[str, Any],
        target: Path,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Write a blob to a file, checking size and digest; what is there already is continued.

        Raises:
            DigestMismatchError: The bytes are not those of the descriptor.
        """
        digest, size = str(descriptor["digest"]), int(descriptor["size"])
        what = f"blob {digest[:19]}… of {reference.uri}"
        start = target.stat().st_size if target.exists() else 0
        if start > size:
            target.unlink()
            start = 0
        if start < size or size == 0:
            headers = {"Range": f"bytes={start}-"} if start else {}
            with (
                transport.mapped(what),
                self._stream(f"{reference.path}/blobs/{digest}", reference, headers) as response,
            ):
                transport.check(response, what)
                mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
                written = start if mode == "ab" else 0
                with target.open(mode) as stream:
                    for chunk in response.iter_bytes(CHUNK):
                        written += len(chunk)
                        if written > size:
                            message = f"{what}: the server sends more than the {size} bytes of the descriptor"
                            raise TooLargeError(message)
                        stream.write(chunk)
                        progress(len(chunk))
        with target.open("rb") as stream:
            found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        if found != digest:
            target.unlink()
            raise DigestMismatchError(what, digest, found)

    def upload(self, reference: Reference, path: Path, digest: str) -> None:
        """Upload a file as a blob, unless the registry has it."""
        what = f"upload to {reference.uri}"
        with transport.mapped(what):
            head = self._send("HEAD", f"{reference.path}/blobs/{digest}", reference, push=True)
            if head.status_code == httpx.codes.OK:
                return
            opened = self._send("POST", f"{reference.path}/blobs/uploads/", reference, push=True)
            transport.check(opened, what)
            location = urljoin(str(opened.request.url), opened.headers["Location"])
            put = self._client.put(
                httpx.URL(location).copy_merge_params({"digest": digest}),
                content=_chunks(path),
                headers={
                    **self._authorization(reference, push=True),
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(path.stat().st_size),
                },
            )
        transport.check(put, what)

    def put_manifest(self, reference: Reference, manifest: dict[str, Any]) -> str:
        """Store a manifest under the reference's tag and return its digest."""
        body = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
        what = f"manifest of {reference.uri}"
        with transport.mapped(what):
            response = self._send(
                "PUT",
                f"{reference.path}/manifests/{reference.selector}",
                reference,
                push=True,
                headers={"Content-Type": str(manifest["mediaType"])},
                content=body,
            )
        transport.check(response, what)
        return "sha256:" + hashlib.sha256(body).hexdigest()

    def _scope(self, reference: Reference, *, push: bool) -> str:
        return f"repository:{reference.path}:{'pull,push' if push else 'pull'}"

    def _authorization(self, reference: Reference, *, push: bool) -> dict[str, str]:
        value = self._tokens.get(self._scope(reference, push=push))
        return {"Authorization": value} if value else {}

    def _send(
        self,
        method: str,
        path: str,
        reference: Reference,
        *,
        push: bool = False,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        url = self._base + path
        for attempt in range(2):
            merged = {**(headers or {}), **self._authorization(reference, push=push)}
            response = self._client.request(method, url, headers=merged, content=content)
            if response.status_code != httpx.codes.UNAUTHORIZED or attempt:
                break
            if not self._answer(response, reference, push=push):
                break
        return response

    def _stream(self, path: str, reference: Reference, headers: dict[str, str]) -> Any:
        merged = {**headers, **self._authorization(reference, push=False)}
        return self._client.stream("GET", self._base + path, headers=merged)

    def _answer(self, response: httpx.Response, reference: Reference, *, push: bool) -> bool:
        """Get what the server's challenge asks for; tell whether there is something to try again with."""
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        scope = self._scope(reference, push=push)
        if kind.lower() == "basic":
            if self._login is None:
                return False
            request = httpx.Request("GET", self._base)
            flow = httpx.BasicAuth(self._login.username, self._login.password).auth_flow(request)
            self._tokens[scope] = next(flow).headers["Authorization"]
            return True
        if kind.lower() != "bearer":
            return False
        challenge = dict(_CHALLENGE.findall(rest))
        if "realm" not in challenge:
            message = f"{self._host}: the registry asks for a token but does not say where to get one"
            raise AccessError(message)
        query = {"scope": challenge.get("scope", scope)}
        if "service" in challenge:
            query["service"] = challenge["service"]
        auth = httpx.BasicAuth(self._login.username, self._login.password) if self._login else None
        with transport.mapped(f"token for {self._host}"):
            token = self._client.get(challenge["realm"], params=query, auth=auth)
        transport.check(token, f"token for {self._host}")
        body = token.json()
        self._tokens[scope] = f"Bearer {body.get('token') or body.get('access_token')}"
        return True


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
