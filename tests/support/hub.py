"""A fake of the Hugging Face hub on loopback: the hub itself cannot be run here.

It speaks what Skerry uses: the tree API with pages, `resolve` with redirects of LFS files to another host that must not
see the token, error codes in `X-Error-Code`, gated and private repositories; and it can be made to fail.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "5c0ffee5" * 5
TOKEN = "hf_tokenOfTheTests"
SIGNATURE = "X-Amz-Signature=secretOfTheCdn"
LARGE = (".onnx", ".safetensors", ".bin", ".npz", ".gguf", ".pt", ".onnx_data")
PAGE = 3


@dataclass
class Fault:
    """How the next request for a file goes wrong: with a status, or with other bytes, cut off, or held back."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    stop_after: int | None = None
    hold_after: int | None = None


@dataclass
class Repository:
    """Files at one commit."""

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False


@dataclass
class FakeHub:
    """What is on the hub, what goes wrong, and what was asked."""

    port: int
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        """URL of the hub; its LFS files are at another one, `localhost`."""
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """Return the paths that were asked for, without queries."""
        return [unquote(path.partition("?")[0]) for path, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.path, headers))
        url = urlsplit(self.path)
        path = unquote(url.path)
        kind, _, rest = path.removeprefix("/api/").partition("/") if path.startswith("/api/") else ("", "", "")
        if path.startswith("/cdn/"):
            self._cdn(path.removeprefix("/cdn/"))
        elif kind:
            name, _, place = rest.partition("/tree/")
            revision, _, folder = place.partition("/")
            self._tree(name if kind == "models" else f"{kind}/{name}", revision, folder, parse_qs(url.query))
        else:
            page, _, place = path[1:].partition("/resolve/")
            revision, _, file = place.partition("/")
            self._resolve(page, revision, file)

    def _known(self, page: str, revision: str) -> Repository | None:
        """Return a repository that may be seen, or answer why not."""
        found = self.hub.repositories.get(page)
        header = self.headers.get("Authorization")
        if header not in {None, f"Bearer {TOKEN}"}:
            self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif found is None or (found.private and not header):
            self._answer(404 if header else 401, {"X-Error-Code": "RepoNotFound"} if header else {})
        elif revision != COMMIT:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return found
        return None

    def _tree(self, page: str, revision: str, folder: str, query: dict[str, list[str]]) -> None:
        repository = self._known(page, revision)
        if repository is None:
            return
        if fault := self._fails(f"tree:{page}"):
            if fault.content is not None:
                self._answer(200, {}, fault.content)
            return
        names = [name for name in sorted(repository.files) if not folder or name.startswith(f"{folder}/")]
        if not names:
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        start = int(query.get("cursor", ["0"])[0])
        items: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "some-folder"}]
        items += [listed(name, repository.files[name]) for name in names[start : start + PAGE]]
        more = start + PAGE < len(names)
        # The real hub's link names the real hub, also where a mirror hands it on.
        link = f'<https://huggingface.invalid/api/models/{page}/tree/{revision}?cursor={start + PAGE}>; rel="next"'
        self._answer(200, {"Link": link} if more else {}, json.dumps(items).encode())

    def _resolve(self, page: str, revision: str, path: str) -> None:
        repository = self._known(page, revision)
        if repository is None:
            return
        if repository.gated:
            self._answer(403 if self.headers.get("Authorization") else 401, {"X-Error-Code": "GatedRepo"})
        elif path not in repository.files:
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
        elif path.endswith(LARGE):
            place = f"http://localhost:{self.hub.port}/cdn/{quote(page)}/{quote(path)}?{SIGNATURE}"
            self._answer(302, {"Location": place})
        else:
            self._content(path, repository.files[path])

    def _cdn(self, place: str) -> None:
        page = next(page for page in self.hub.repositories if place.startswith(f"{page}/"))
        path = place.removeprefix(f"{page}/")
        self._content(path, self.hub.repositories[page].files[path])

    def _fails(self, name: str) -> Fault | None:
        """Take the next fault of a name, and answer with it when it is a status."""
        faults = self.hub.faults.get(name, [])
        fault = faults.pop(0) if faults else None
        if fault is not None and fault.status != 200:
            self._answer(fault.status, fault.headers)
        return fault

    def _content(self, path: str, data: bytes) -> None:
        fault = self._fails(path)
        if fault is not None and fault.status != 200:
            return
        fault = fault or Fault()
        data = data if fault.content is None else fault.content
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        wanted = self.headers.get("Range")
        start = 0
        if wanted and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has read enough
            self.wfile.write(data[start : fault.hold_after or fault.stop_after])
            if fault.hold_after is not None:
                self.hub.stopped.wait()  # a connection that stays open and brings nothing

    def _answer(self, code: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: requests are kept for the test."""


def listed(path: str, data: bytes) -> dict[str, Any]:
    """Return a file as the hub's tree API tells it: large ones are git's pointers to LFS."""
    large = path.endswith(LARGE)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\n".encode()
    blob = pointer if large else data
    item = {
        "type": "file",
        "path": path,
        "size": len(data),
        "oid": hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest(),
    }
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": len(blob)}
    return {**item, "lfs": lfs} if large else item


@contextmanager
def running() -> Iterator[FakeHub]:
    """Serve a hub on loopback until the end of the block."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.hub = FakeHub(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Handler.hub
        finally:
            Handler.hub.stopped.set()
            server.shutdown()
            thread.join()
