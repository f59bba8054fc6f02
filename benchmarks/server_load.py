"""Requests per second, latency and memory of one inference server on loopback, with 1024 floats in.

Closed loop: each of a few connections sends its next request when it has its answer. Client and server share the
machine, so the server alone would do better; the counts are bounded.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skerry.api.artifact import FACTS_FILE, Provenance, VariantFacts
from skerry.api.types import Framework, Precision, Requirements, Technique, TensorFacts, TensorType

FEATURES = 1024
PORT = 18931
START_SECONDS = 30


def artifact(folder: Path) -> None:
    """Write a variant that hardly computes, so that the server itself is measured: sums of 1024 floats."""
    weights = numpy_helper.from_array(np.ones((FEATURES, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weights],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "model.onnx")
    )
    facts = VariantFacts(
        name="benchmark",
        accelerator="cpu",
        framework=Framework.ONNX_RUNTIME,
        precision=Precision.FP32,
        technique=Technique.GRAPH_OPTIMIZATION,
        model_file="model.onnx",
        device="CPUExecutionProvider",
        inputs=[TensorFacts(name="x", dtype=TensorType.FP32, shape=[-1, FEATURES])],
        outputs=[TensorFacts(name="y", dtype=TensorType.FP32, shape=[-1, 4])],
        requires=Requirements(architecture="amd64"),
        provenance=Provenance.model_validate(
            {
                "source_uri": "none",
                "source_sha256": "0" * 64,
                "created_at": "2026-01-01T00:00:00Z",
                "skerry_version": "benchmark",
            }
        ),
    )
    (folder / FACTS_FILE).write_text(json.dumps(facts.wire()), encoding="utf-8")


def message(*, binary: bool) -> bytes:
    """Return a whole HTTP request."""
    row = np.linspace(0, 1, FEATURES, dtype=np.float32)
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, FEATURES]}
    extra = ""
    if binary:
        tensor["parameters"] = {"binary_data_size": row.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        extra = f"Inference-Header-Content-Length: {len(head)}\r\n"
        body = head + row.tobytes()
    else:
        body = json.dumps({"inputs": [{**tensor, "data": [round(float(value), 4) for value in row]}]}).encode()
    start = f"POST /v2/models/benchmark/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return start.encode() + body


async def drive(request: bytes, connections: int, count: int) -> list[float]:
    """Send so many requests over so many connections; return the seconds of each."""
    taken: list[float] = []

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        for _ in range(number):
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - started)
            if not head.startswith(b"HTTP/1.1 200"):
                message_text = f"the server answered {head.splitlines()[0].decode()}"
                raise RuntimeError(message_text)
        writer.close()

    await asyncio.gather(*(one(count // connections) for _ in range(connections)))
    return taken


def measure(connections: int, count: int, process: int) -> list[dict[str, Any]]:
    """Return one row for JSON and one for binary requests."""
    rows = []
    for name, binary in (("json", False), ("binary", True)):
        request = message(binary=binary)
        asyncio.run(drive(request, connections, connections * 20))
        started = time.perf_counter()
        taken = asyncio.run(drive(request, connections, count))
        seconds = time.perf_counter() - started
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
        p50, p95, p99 = (1000 * float(np.percentile(taken, percent)) for percent in (50, 95, 99))
        rows.append(
            {
                "requests": name,
                "per_second": round(len(taken) / seconds),
                "p50_ms": round(p50, 3),
                "p95_ms": round(p95, 3),
                "p99_ms": round(p99, 3),
                "rss_mib": round(resident / 1024, 1),
            }
        )
    return rows


def main() -> None:
    """Start a server, drive it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifact(Path(folder))
        words = ["--model-dir", folder, "--model-name", "benchmark", "--host", "127.0.0.1", "--port", str(PORT)]
        server = subprocess.Popen([sys.executable, "-m", "skerry.server", *words, "--threads", "1"])
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v2/health/ready", timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            rows = measure(given.connections, given.requests, server.pid)
        finally:
            server.terminate()
            server.wait()
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print("  ".join(f"{name:>10}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>10}" for value in row.values()))


if __name__ == "__main__":
    main()
