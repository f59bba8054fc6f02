"""The server as a process: standard clients, hostile clients, signals, exit codes."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from skerry.api.types import Framework
from tests.support import models
from tests.unit.server.conftest import facts
from tests.unit.server.running import NAME, Running, write_variant

MIB = 1 << 20
INFER = f"/v2/models/{NAME}/infer"
ROWS = np.random.default_rng(7).random((2, models.FEATURES)).astype(np.float32)


@pytest.fixture(scope="module", params=[Framework.OPENVINO, Framework.ONNX_RUNTIME])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = write_variant(tmp_path_factory.mktemp("variant"), facts(framework=request.param))
    with (folder / "log").open("wb") as log, Running(folder, log) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield made
    made.close()


def features(rows: np.ndarray[Any, Any] = ROWS, *, binary: bool = True) -> Any:
    tensor = triton.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def document(**change: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": list(ROWS.shape), "data": ROWS.tolist(), **change}
    return {"inputs": [tensor]}


def survives(server: Running) -> None:
    assert server.process.poll() is None
    assert server.client.post(INFER, json=document()).status_code == 200


def test_a_triton_client_sees_a_live_and_ready_server_with_its_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(NAME)
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, models.FEATURES]}]
    assert metadata["skerry"]["executionDevice"] in {"CPU", "CPUExecutionProvider"}
    assert metadata["skerry"]["executionPrecision"] in {"f32", "FP32"}


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("received", [True, False])
def test_a_triton_client_gets_the_same_scores_each_way(
    server: Running, client: Any, packed: str | None, *, sent: bool, received: bool
) -> None:
    wanted = [triton.InferRequestedOutput("scores", binary_data=received)]
    found = client.infer(
        NAME, [features(binary=sent)], outputs=wanted, request_id="seven", request_compression_algorithm=packed
    )
    expected = server.client.post(INFER, json=document()).json()["outputs"][0]["data"]
    np.testing.assert_allclose(found.as_numpy("scores").ravel(), expected, rtol=1e-5)
    assert found.as_numpy("scores").shape == (2, models.CLASSES)
    assert found.get_response()["id"] == "seven"


def test_a_triton_client_is_told_what_is_wrong(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"shape \[2, 3\], but \[-1, 64\] is expected"):
        client.infer(NAME, [features(np.zeros((2, 3), np.float32))])
    with pytest.raises(InferenceServerException, match="does not offer the extension classification"):
        client.infer(NAME, [features()], outputs=[triton.InferRequestedOutput("scores", class_count=3)])


@pytest.mark.parametrize("padding", range(8))
def test_binary_data_that_is_not_aligned_is_read_right(server: Running, padding: int) -> None:
    tensor = {
        "name": "features",
        "datatype": "FP32",
        "shape": list(ROWS.shape),
        "parameters": {"binary_data_size": ROWS.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode() + b" " * padding
    answer = server.client.post(
        INFER, content=head + ROWS.tobytes(), headers={"Inference-Header-Content-Length": str(len(head))}
    )
    expected = server.client.post(INFER, json=document()).json()
    np.testing.assert_allclose(answer.json()["outputs"][0]["data"], expected["outputs"][0]["data"], rtol=1e-5)


def _many(part: bytes, mebibytes: int) -> bytes:
    """JSON that becomes objects of many times its size."""
    return b'{"inputs":[' + part * (mebibytes * MIB // len(part)) + b"[]]}"


def _wide_words() -> bytes:
    """One long string among many: as NumPy's table of strings 1.6 GB."""
    return json.dumps(document(data=["a" * 20_000, *["b"] * 20_000])).encode()


def _keys() -> bytes:
    return b'{"inputs":{' + b",".join(b'"%d":{}' % number for number in range(1_000_000)) + b"}}"


@pytest.mark.parametrize(
    ("body", "packed", "status"),
    [
        (lambda: _many(b"[],", 15), False, 413),
        (lambda: _many(b"{},", 15), False, 413),
        (lambda: _many(b'"ab",', 15), False, 413),
        (lambda: _many(b"0.5,", 15), False, 400),
        (lambda: _many(b"300,", 15), False, 400),
        (lambda: _many(b"[],", 45), False, 413),
        (_wide_words, False, 400),
        (_keys, False, 413),
        (lambda: bytes(1 << 30), True, 413),
        (lambda: b"[" * 900_000, False, 400),
        (lambda: b'{"inputs":[{"name":"features","datatype":' + b"[" * 1000 + b"]" * 1000 + b"}]}", False, 400),
    ],
    ids=[
        "lists",
        "objects",
        "strings",
        "floats",
        "integers",
        "too much",
        "words",
        "keys",
        "bomb",
        "unclosed",
        "nested",
    ],
)
def test_no_body_takes_much_memory(server: Running, body: Callable[[], bytes], packed: bool, status: int) -> None:  # noqa: FBT001 - a parameter of pytest's
    before = server.status("VmRSS")
    content = gzip.compress(body(), 1) if packed else body()
    answer = server.client.post(INFER, content=content, headers={"Content-Encoding": "gzip"} if packed else {})
    assert answer.status_code == status
    assert server.status("VmHWM") - before < 320 * 1024
    survives(server)


def test_an_error_does_not_repeat_what_the_client_sent_at_length(server: Running) -> None:
    answer = server.client.post(INFER, json=document(datatype="x" * 1_000_000, shape=[1] * 10_000))
    assert answer.status_code == 400
    assert len(answer.content) < 1000


def _sent_until_closed(connection: socket.socket, part: bytes) -> int:
    sent = 0
    try:
        while sent < 64 * MIB:
            connection.sendall(part)
            sent += len(part)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"GET /v2 HTTP/1.1\r\n", b"x: " + b"a" * 1000 + b"\r\n"),
        (b"GET /v2 HTTP/1.1\r\nx: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode(), b"x: " + b"a" * 1000 + b"\r\n"),
    ],
    ids=["headers", "header", "path", "trailers"],
)
def test_endless_heads_and_trailers_are_cut_off(server: Running, start: bytes, part: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(start)
        assert _sent_until_closed(connection, part) < 16 * MIB
    survives(server)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /v2/models/%ff%ed%a0%80 HTTP/1.1\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        f"POST {INFER} HTTP/1.1\r\nContent-Length: -1\r\n\r\n".encode(),
        f"POST {INFER} HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n".encode(),
        f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        b"GET /v2 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_does_not_harm(server: Running, raw: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    survives(server)


def test_a_client_that_goes_away_in_the_middle_does_not_harm(server: Running) -> None:
    for _ in range(50):
        with server.connect() as connection:
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n".encode() + bytes(MIB))
    survives(server)
    text = server.client.get("/metrics").text
    assert "skerry_server_in_flight 1.0" not in text


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _in_flight(server: Running) -> bool:
    return "skerry_server_in_flight 1.0" in server.client.get("/metrics").text


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_requests_are_finished_and_the_exit_code_is_0(tmp_path: Path, ending: signal.Signals) -> None:
    folder = write_variant(tmp_path, facts())
    body = json.dumps(document()).encode()
    with (folder / "log").open("wb") as log, Running(folder, log) as server, server.connect() as connection:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:100])
        _wait_for(lambda: _in_flight(server))
        server.process.send_signal(ending)
        _wait_for(lambda: _refused(server))
        connection.sendall(body[100:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(30) == 0
    assert "Traceback" not in (folder / "log").read_text(encoding="utf-8")


def test_what_does_not_finish_in_time_is_given_up(tmp_path: Path) -> None:
    folder = write_variant(tmp_path, facts())
    with (
        (folder / "log").open("wb") as log,
        Running(folder, log, "--grace-seconds", "1") as server,
        server.connect() as connection,
    ):
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nContent-Length: 10\r\n\r\n".encode())
        _wait_for(lambda: _in_flight(server))
        server.process.terminate()
        assert server.process.wait(30) == 0


def _refused(server: Running) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skerry.server", "--host", "127.0.0.1", "--port", "18999", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("framework", [Framework.OPENVINO, Framework.ONNX_RUNTIME])
def test_nothing_is_written_and_nothing_said_while_all_goes_well(tmp_path: Path, framework: Framework) -> None:
    folder, home = tmp_path / "variant", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    write_variant(folder, facts(framework=framework))
    before = sorted(path.name for path in folder.iterdir())
    environment = {"HOME": str(home), "TMPDIR": str(home), "CI": ""}
    with (tmp_path / "log").open("wb") as log, Running(folder, log, environment=environment) as server:
        assert server.client.post(INFER, json=document()).status_code == 200
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert sorted(path.name for path in folder.iterdir()) == before
    assert list(home.rglob("*")) == []
    assert (tmp_path / "log").read_text(encoding="utf-8") == ""


def _without_facts(folder: Path) -> None:
    (folder / "skerry.json").unlink()


def _with_broken_facts(folder: Path) -> None:
    (folder / "skerry.json").write_text("{", encoding="utf-8")


def _with_a_broken_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")


def _with_another_output(folder: Path) -> None:
    file = folder / "skerry.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"scores"', '"labels"'), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_facts, "holds no Skerry variant"),
        (_with_broken_facts, "skerry.json cannot be read"),
        (_with_a_broken_model, "cannot load model.onnx"),
        (_with_another_output, "labels"),
    ],
)
def test_a_bad_artifact_ends_the_process_with_65_and_says_why(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(write_variant(tmp_path, facts()))
    ended = run("--model-dir", str(tmp_path), "--model-name", NAME)
    assert ended.returncode == 65
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_come_from_the_environment_too_and_wrong_ones_end_with_78() -> None:
    missing = run("--model-name", NAME)
    wrong = run(SKERRY_SERVER_MODEL_DIR="/nowhere", SKERRY_SERVER_MODEL_NAME=NAME, SKERRY_SERVER_THREADS="many")
    absent = run(SKERRY_SERVER_MODEL_DIR="/nowhere", SKERRY_SERVER_MODEL_NAME=NAME)
    assert (missing.returncode, wrong.returncode, absent.returncode) == (78, 78, 65)
    assert "--model-dir" in missing.stderr
    assert "--threads: 'many' is not a whole number above 0" in wrong.stderr
    assert "/nowhere has no skerry.json" in absent.stderr
