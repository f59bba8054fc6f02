"""A server in a process of its own, and variants for it."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Self

import httpx

from skerry.api.artifact import VariantFacts
from skerry.api.types import Framework
from tests.support import models

NAME = "digits"
START_SECONDS = 60
_TO_IR = "import openvino as ov, sys; ov.save_model(ov.Core().read_model(sys.argv[1]), sys.argv[2], False)"


def write_variant(folder: Path, facts: VariantFacts, *, hidden: int = 8) -> Path:
    """Write the classifier for the framework of the facts."""
    models.classifier(folder / "model.onnx", hidden=hidden)
    more: dict[str, Any] = {}
    if facts.framework is Framework.OPENVINO:
        source, target = str(folder / "model.onnx"), str(folder / "model.xml")
        subprocess.run([sys.executable, "-c", _TO_IR, source, target], check=True)
        more = {"model_file": "model.xml", "device": "CPU", "settings": {"INFERENCE_PRECISION_HINT": "f32"}}
    written = facts.model_copy(update=more)
    (folder / "skerry.json").write_text(json.dumps(written.wire()), encoding="utf-8")
    return folder


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Running:
    """`python -m skerry.server` on loopback, from when it is ready."""

    def __init__(self, folder: Path, log: IO[bytes], *words: str, environment: dict[str, str] | None = None) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "skerry.server", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--model-dir", str(folder), "--model-name", NAME, "--threads", "1", *words],
            env={**os.environ, **(environment or {})},
            stderr=log,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.client.get("/v2/health/ready").is_success:
                    return self
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                message = f"the server did not become ready; exit code {self.process.returncode}"
                raise AssertionError(message)
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        """End it, whatever it does."""
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def status(self, field: str) -> int:
        """Return a figure of the process in KiB: VmRSS now, VmHWM at the most."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:")))

    def connect(self) -> socket.socket:
        """Open a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)
