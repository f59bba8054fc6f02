"""How fast and how small the server is: `python benchmarks/server/bench.py`.

The model does next to nothing, so that the figures are those of the server. The server has one core and the client
another, where there are two. Beside the requests per second, which a busy neighbour lowers, stands the server's CPU
time for each request, which a neighbour hardly changes.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

import httpx
import numpy as np
import onnx
import openvino as ov
import psutil
import uvloop
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from skerry.api.artifact import FACTS_FILE, VariantFacts
from skerry.api.types import Framework

HOST: Final = "127.0.0.1"
NAME: Final = "bench"
START_SECONDS: Final = 60
DRIVE_SECONDS: Final = 600
WARM_UP: Final = 500
_MODELS: Final[dict[Framework, tuple[str, str]]] = {
    Framework.ONNX_RUNTIME: ("model.onnx", "CPUExecutionProvider"),
    Framework.OPENVINO: ("model.xml", "CPU"),
}


@dataclass(frozen=True)
class Figures:
    """What was measured of one framework and one way to send tensors.

    Attributes:
        framework: What ran the model.
        encoding: `json` or `binary`, both ways.
        requests: Number of requests.
        connections: How many were asked at the same time.
        requests_per_second: By the wall clock.
        requests_per_core_second: By the CPU time of the server.
        p50_ms: Half of the answers took no longer; also p95 and p99.
        rss_idle_mib: Resident memory before the first request.
        rss_mib: Resident memory after the last one.
    """

    framework: str
    encoding: str
    requests: int
    connections: int
    requests_per_second: float
    requests_per_core_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rss_idle_mib: float
    rss_mib: float


class Client(asyncio.Protocol):
    """One connection that sends the same request again and again."""

    def __init__(self, request: bytes, budget: Iterator[int], seconds: list[float]) -> None:
        self._request = request
        self._budget = budget
        self._seconds = seconds
        self._buffer = bytearray()
        self._sent = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclass
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next request when it is complete."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self._buffer.index(b"content-length: ") + len(b"content-length: ")
        length = int(self._buffer[start : self._buffer.index(b"\r\n", start)])
        if len(self._buffer) < head + 4 + length:
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.finished.set_exception(RuntimeError(bytes(self._buffer).decode("utf-8", "replace")))
            return
        self._seconds.append(time.perf_counter() - self._sent)
        self._buffer.clear()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail when there was more to do."""
        if not self.finished.done():
            self.finished.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        if self._transport is None:
            return
        if next(self._budget, None) is None:
            self.finished.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def drive(port: int, request: bytes, count: int, connections: int) -> list[float]:
    """Send a request `count` times over several connections; return the seconds of each."""
    seconds: list[float] = []
    budget = iter(range(count))
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(request, budget, seconds), HOST, port))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(DRIVE_SECONDS):
        await asyncio.gather(*(client.finished for client in clients))
    return seconds


def http_request(encoding: str, floats: int) -> bytes:
    """Return a whole infer request as it goes over the wire."""
    values = np.random.default_rng(1).random((1, floats), np.float32)
    tensor: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": [1, floats]}
    more = ""
    if encoding == "binary":
        document = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": values.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
        head = json.dumps(document).encode()
        body = head + values.tobytes()
        more = f"Inference-Header-Content-Length: {len(head)}\r\n"
    else:
        body = json.dumps({"inputs": [{**tensor, "data": values[0].tolist()}]}).encode()
    start = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return start.encode() + body


def make_variant(folder: Path, framework: Framework, floats: int) -> None:
    """Write a variant of one operator: `x` `[1, floats]` in, `y` out."""
    facts = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, floats]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "bench", facts[:1], facts[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    if framework is Framework.OPENVINO:
        ov.save_model(ov.Core().read_model(str(folder / "model.onnx")), str(folder / "model.xml"))
    file, device = _MODELS[framework]
    tensor = {"dtype": "FP32", "shape": [1, floats]}
    variant = VariantFacts.model_validate(
        {
            "name": "bench",
            "accelerator": "cpu",
            "framework": framework,
            "precision": "FP32",
            "technique": "Conversion",
            "modelFile": file,
            "device": device,
            "inputs": [{"name": "x", **tensor}],
            "outputs": [{"name": "y", **tensor}],
            "requires": {"architecture": "amd64"},
            "provenance": {
                "sourceUri": "oci://bench/bench:1",
                "sourceSha256": "0" * 64,
                "createdAt": "2026-01-01T00:00:00Z",
                "skerryVersion": "0",
            },
        }
    )
    (folder / FACTS_FILE).write_text(variant.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Run the server on a core of its own, from when it is ready to the end of the block; yield its port too."""
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    command = [sys.executable, "-m", "skerry.server", "--model-dir", str(folder), "--model-name", NAME]
    with subprocess.Popen([*command, "--host", HOST, "--port", str(port), "--threads", "1"]) as process:
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            _wait(process, port)
            yield psutil.Process(process.pid), port
        finally:
            os.sched_setaffinity(0, cores)
            process.terminate()
            process.wait(START_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                message = f"the server ended with exit code {process.returncode}"
                raise RuntimeError(message)
            try:
                if client.get("/v2/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    message = f"the server was not ready within {START_SECONDS} s"
    raise TimeoutError(message)


def measure(framework: Framework, encoding: str, given: argparse.Namespace) -> Figures:
    """Measure one framework with one encoding, in a server of their own."""
    request = http_request(encoding, given.floats)
    with tempfile.TemporaryDirectory() as folder:
        make_variant(Path(folder), framework, given.floats)
        with serving(Path(folder)) as (process, port):
            idle = process.memory_info().rss
            uvloop.run(drive(port, request, min(WARM_UP, given.requests), given.connections))
            before, started = process.cpu_times(), time.perf_counter()
            seconds = uvloop.run(drive(port, request, given.requests, given.connections))
            wall, after = time.perf_counter() - started, process.cpu_times()
            rss = process.memory_info().rss
    cpu = after.user + after.system - before.user - before.system
    p50, p95, p99 = (round(float(value) * 1e3, 3) for value in np.percentile(seconds, [50, 95, 99]))
    return Figures(
        framework=framework.value,
        encoding=encoding,
        requests=len(seconds),
        connections=given.connections,
        requests_per_second=round(len(seconds) / wall),
        requests_per_core_second=round(len(seconds) / cpu) if cpu else 0,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        rss_idle_mib=round(idle / 2**20, 1),
        rss_mib=round(rss / 2**20, 1),
    )


def main(words: list[str] | None = None) -> int:
    """Measure, show a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="requests of each measurement")
    parser.add_argument("--connections", type=int, default=8, help="connections at the same time")
    parser.add_argument("--floats", type=int, default=1024, help="size of the tensor, both ways")
    parser.add_argument("--output", type=Path, help="file for the figures as JSON; default: the standard output")
    given = parser.parse_args(words)
    found = [measure(framework, encoding, given) for framework in _MODELS for encoding in ("json", "binary")]
    columns = list(asdict(found[0]))
    table = Table(*columns, title=f"{given.floats} floats in and out, one core for the server")
    for figures in found:
        table.add_row(*(str(value) for value in asdict(figures).values()))
    Console(stderr=True).print(table)
    text = json.dumps([asdict(figures) for figures in found], indent=2)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
