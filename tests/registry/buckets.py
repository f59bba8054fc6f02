"""An S3 server process for tests: versitygw, which keeps objects as files."""

import io
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import trustme
from minio import Minio

from skerry.store.settings import Credentials, S3Access, StoreSettings

KEY, SECRET = "edge-reader", "letmein-please"
START_SECONDS = 30
BUCKET = "models.site-1"


@dataclass
class RunningBuckets:
    """A server with one bucket; it can be stopped and started again at the same address, with the same content."""

    program: Path
    folder: Path
    authority: trustme.CA | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RunningBuckets":
        """Start, and make the bucket when it is not there."""
        for name in ("data", "metadata"):
            (self.folder / name).mkdir(exist_ok=True)
        self.port = self.port or _free_port()
        command = [self.program, "--port", f"127.0.0.1:{self.port}", *self._tls(), "posix"]
        log = self.folder / "log"
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--sidecar", self.folder / "metadata", self.folder / "data"],
                stdout=stream,
                stderr=stream,
                env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            )
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            assert self.process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.02)
        if self.authority is None and not self.client.bucket_exists(BUCKET):
            self.client.make_bucket(BUCKET)
        return self

    def _tls(self) -> list[str | Path]:
        if self.authority is None:
            return []
        certificate = self.authority.issue_cert("127.0.0.1")
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        certificate.private_key_pem.write_to_path(str(key))
        return ["--cert", chain, "--key", key]

    def stop(self) -> None:
        """Stop and wait for the end."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    @property
    def client(self) -> Minio:
        """Client that may write."""
        return Minio(
            endpoint=f"127.0.0.1:{self.port}", access_key=KEY, secret_key=SECRET, secure=False, region="us-east-1"
        )

    def put(self, key: str, data: bytes) -> str:
        """Store an object and return its URI."""
        self.client.put_object(bucket_name=BUCKET, object_name=key, data=io.BytesIO(data), length=len(data))
        return f"s3://{BUCKET}/{key}"

    @property
    def access(self) -> S3Access:
        """What may read it."""
        scheme = "https" if self.authority else "http"
        return S3Access(f"{scheme}://127.0.0.1:{self.port}", access_key=KEY, secret_key=SECRET)

    @property
    def settings(self) -> StoreSettings:
        """Settings that trust it; failures are not tried again."""
        return StoreSettings(allow_http=True, patience_seconds=0)

    def credentials(self, **changes: str) -> Credentials:
        """Return credentials, with changes."""
        return Credentials(s3=replace(self.access, **changes))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def cutting(port: int, after: int) -> Iterator[int]:
    """Give the port of a way to a server that breaks its first connection after so many bytes of answer."""
    limits = [after]

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left = limits.pop() if limits else None
            with socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
                threading.Thread(target=self._requests, args=(server,), daemon=True).start()
                while (left is None or left > 0) and (chunk := server.recv(min(left or 65536, 65536))):
                    left = None if left is None else left - len(chunk)
                    self.request.sendall(chunk)

        def _requests(self, server: socket.socket) -> None:
            with suppress(OSError):
                while chunk := self.request.recv(65536):
                    server.sendall(chunk)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward) as way:
        way.daemon_threads = True
        thread = threading.Thread(target=way.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield way.server_address[1]
        finally:
            way.shutdown()
            thread.join()
