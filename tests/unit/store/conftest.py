"""A small web server on loopback that can be made to fail."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """Answers the requests of one test, in their order; the last answer is repeated."""

    port: int
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        """Return a URL on this server."""
        return f"http://127.0.0.1:{self.port}/{path}"


def content(data: bytes, *, stop_after: int | None = None, tag: str = '"1"', ranges: bool = True) -> Answer:
    """Answer with a file as S3 or nginx do; end the connection early after so many bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = 0
        wanted = handler.headers.get("Range")
        if wanted and ranges and handler.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has read enough
            handler.wfile.write(data[start:stop_after])

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and no content."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def web() -> Iterator[WebServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.requests.append(
                {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
            )
            (running.answers.pop(0) if len(running.answers) > 1 else running.answers[0])(self)

        def log_message(self, *_: object) -> None:
            """Say nothing: requests are kept for the test."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = WebServer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        server.shutdown()
        thread.join()
