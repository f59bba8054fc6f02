"""Language models: what reaches llama-server, what comes back, and how both end. llama-server is a stand-in."""

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.api.types import Framework, Precision, Technique
from tests.unit.server.conftest import facts
from tests.unit.server.running import NAME, Running

COMPLETIONS = "/v1/completions"
STAND_IN = "tests.unit.server.llama_stand_in"


def write_model(folder: Path, wish: str = "", **more: Any) -> Path:
    """Write a variant for the stand-in, which does as the model's file says."""
    given = facts(
        name="llamacpp-q4-k-m",
        framework=Framework.LLAMA_CPP,
        precision=Precision.INT4,
        technique=Technique.WEIGHTS_ONLY,
        model_file="model.gguf",
        device="CPU",
        execution_precision="INT4",
        inputs=[],
        outputs=[],
        **more,
    )
    (folder / "model.gguf").write_text(wish, encoding="utf-8")
    (folder / "skerry.json").write_text(json.dumps(given.wire()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which llama-server is the stand-in."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {STAND_IN} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@contextlib.contextmanager
def running(folder: Path, programs: dict[str, str], *words: str) -> Iterator[Running]:
    with (folder / "log").open("wb") as log, Running(folder, log, *words, environment=programs) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, programs: dict[str, str]) -> Iterator[Running]:
    with running(write_model(tmp_path), programs) as found:
        yield found


def eventually(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def asked(folder: Path) -> list[str]:
    file = folder / "asked"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def figure(server: Running, name: str) -> float:
    text = server.client.get("/metrics").text
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def ended(server: Running) -> int:
    return server.process.wait(30)


def test_a_model_is_described_asked_and_counted(server: Running, tmp_path: Path) -> None:
    described = server.client.get(f"/v2/models/{NAME}").json()
    assert described["inputs"] == described["outputs"] == []
    assert described["platform"] == "llamacpp_gguf"
    assert described["skerry"]["executionDevice"] == described["skerry"]["expectedDevice"] == "CPU"
    assert server.client.get("/v1/models").json()["data"] == [{"id": NAME}]

    answer = server.client.post(COMPLETIONS, json={"model": NAME, "prompt": "hello"})

    assert answer.json()["choices"] == [{"text": "one two three"}]
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert figure(server, 'skerry_server_requests_total{code="200"}') == 1
    assert figure(server, "skerry_server_request_seconds_count") == 1
    assert figure(server, "skerry_server_generated_tokens_total") == 3
    assert figure(server, "skerry_engine_process_resident_memory_bytes") > 1e6
    eventually(lambda: "an error" in (tmp_path / "log").read_text(), "the error is told")
    told = (tmp_path / "log").read_text().splitlines()
    assert told == [
        "llama-server: 0.00.300.000 W srv  llama_server: a warning",
        "llama-server: 0.01.000.000 E srv  an error",
    ]


def test_llama_server_is_told_what_the_variant_was_measured_with(tmp_path: Path, programs: dict[str, str]) -> None:
    folder = write_model(tmp_path, settings={"contextTokens": "512"})
    with running(folder, programs, "--slots", "3"):
        words = json.loads((folder / "words").read_text(encoding="utf-8"))
    told = dict(itertools.pairwise(words))
    assert told["--ctx-size"] == "1536"
    assert told["--parallel"] == "3"
    assert told["--threads"] == told["--threads-batch"] == "1"
    assert told["--device"] == "none"
    assert told["--host"].endswith(".sock")


def test_an_answer_is_streamed_as_it_is_written(server: Running, tmp_path: Path) -> None:
    with server.client.stream("POST", COMPLETIONS, json={"prompt": "forever", "stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"] == [{"text": "0 "}]
        eventually(lambda: figure(server, "skerry_server_first_token_seconds_count") == 1, "the first token is counted")
        assert figure(server, "skerry_server_in_flight") == 1
    eventually(lambda: "forever given up" in asked(tmp_path), "a client that goes away stops llama-server's work")
    eventually(lambda: figure(server, 'skerry_server_requests_total{code="499"}') == 1, "it is counted")

    whole = server.client.post(COMPLETIONS, json={"prompt": "three", "stream": True}).text
    assert [line for line in whole.splitlines() if line][-1] == "data: [DONE]"
    assert whole.count("data: ") == 4


def test_llama_server_waits_for_a_client_that_does_not_read(server: Running, tmp_path: Path) -> None:
    body = json.dumps({"prompt": "large", "stream": True}).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    before = server.status("VmRSS")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + body)
        seen = [-1]

        def still() -> bool:
            parts = sum(line.startswith("part") for line in asked(tmp_path))
            seen.append(parts)
            time.sleep(0.3)
            return parts > 0 and seen[-2] == parts

        eventually(still, "llama-server goes on and on")
        assert seen[-1] < 2000
        assert server.status("VmRSS") - before < 32 * 1024


def test_more_requests_than_slots_wait_here_and_too_many_are_refused(tmp_path: Path, programs: dict[str, str]) -> None:
    with running(write_model(tmp_path), programs, "--max-waiting", "1") as server:
        with server.client.stream("POST", COMPLETIONS, json={"prompt": "forever", "stream": True}):
            with server.connect() as waits:
                body = b'{"prompt":"second"}'
                waits.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
                waits.sendall(body)
                eventually(lambda: figure(server, "skerry_server_in_flight") == 2, "the second waits")
                refused = server.client.post(COMPLETIONS, json={"prompt": "third"})
                assert refused.status_code == 503
                assert refused.json()["error"]["message"] == "1 requests are waiting already; try again later"
                assert refused.headers["retry-after"] == "1"
            eventually(lambda: figure(server, "skerry_server_in_flight") == 1, "who waits may go")
        assert server.client.post(COMPLETIONS, json={"prompt": "fourth"}).status_code == 200
    assert [line for line in asked(tmp_path) if line.startswith("/v1")] == [
        f"{COMPLETIONS} forever",
        f"{COMPLETIONS} fourth",
    ]


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"{", 400, "the request is not valid JSON"),
        (b"[]", 400, "the request must be a JSON object"),
        (b'{"model": "other"}', 404, f"there is no model 'other'; this server has '{NAME}'"),
        (b'{"prompt": "%s"}' % (b"x" * 70_000), 413, "more than 65536 bytes of JSON"),
        (b'{"prompt": "too long"}', 400, "exceeds the context"),
    ],
)
def test_what_cannot_be_answered_is_told(
    tmp_path: Path, programs: dict[str, str], content: bytes, status: int, told: str
) -> None:
    with running(write_model(tmp_path), programs, "--max-json-bytes", "65536") as server:
        answer = server.client.post(COMPLETIONS, content=content)
        assert answer.status_code == status
        assert told in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == status
        assert figure(server, f'skerry_server_requests_total{{code="{status}"}}') == 1


def test_there_is_nothing_else(server: Running) -> None:
    infer = server.client.post(f"/v2/models/{NAME}/infer", json={"inputs": []})
    assert infer.status_code == 400
    assert infer.json()["error"].startswith(f"'{NAME}' is a language model, which has no tensors; ask /v1/chat")
    slots = server.client.get("/v1/slots")
    assert slots.status_code == 404
    assert "there are /v1/models, /v1/chat/completions" in slots.json()["error"]["message"]
    assert server.client.get("/slots").status_code == 404
    assert server.client.get(COMPLETIONS).status_code == 405


@pytest.mark.parametrize(("wish", "device"), [("gpu", "CUDA0"), ("pinned", "CPU")])
def test_the_device_is_that_of_most_weights(tmp_path: Path, programs: dict[str, str], wish: str, device: str) -> None:
    with running(write_model(tmp_path, wish), programs) as server:
        known = server.client.get(f"/v2/models/{NAME}").json()["skerry"]
        assert (known["executionDevice"], known["expectedDevice"]) == (device, "CPU")


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path, programs: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="exit code 65"), running(write_model(tmp_path, "broken"), programs):
        pass
    log = (tmp_path / "log").read_text()
    assert "llama-server cannot load model.gguf: code 1" in log
    assert "tensor 'a' is cut off" in log


def test_an_image_without_llama_server_says_so(tmp_path: Path) -> None:
    nothing = {"PATH": "/nowhere"}
    with pytest.raises(AssertionError, match="exit code 65"), running(write_model(tmp_path), nothing):
        pass
    assert "llama-server is not in this image" in (tmp_path / "log").read_text()


def test_when_llama_server_dies_the_client_is_told_and_the_server_ends(server: Running, tmp_path: Path) -> None:
    answer = server.client.post(COMPLETIONS, json={"prompt": "die", "stream": True})
    last = [line for line in answer.text.splitlines() if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "the answer was cut off"
    assert ended(server) == 70
    assert "llama-server has ended: signal 9" in (tmp_path / "log").read_text()


def test_sigterm_finishes_what_is_in_flight(server: Running, tmp_path: Path) -> None:
    with server.connect() as connection:
        body = b'{"prompt":"wait"}'
        connection.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        connection.sendall(body)
        eventually(lambda: f"{COMPLETIONS} wait" in asked(tmp_path), "llama-server has it")

        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                return not httpx.get(f"{server.url}/v2/health/ready").is_success
            except httpx.TransportError:
                return True

        eventually(refused, "it is not ready any more")
        assert server.process.poll() is None
        (tmp_path / "go").touch()
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b"200 OK" in received
    assert b"one two three" in received
    assert ended(server) == 0


def test_sigterm_ends_a_server_whose_answer_has_no_end(tmp_path: Path, programs: dict[str, str]) -> None:
    asking = {"prompt": "forever", "stream": True}
    with (
        running(write_model(tmp_path), programs, "--grace-seconds", "1") as server,
        server.client.stream("POST", COMPLETIONS, json=asking) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        assert ended(server) == 0
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_language_models_are_served_without_what_serves_tensors() -> None:
    """images/server-llamacpp has none of these."""
    missing = "numpy", "onnxruntime", "openvino"
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
    code = f"{blocked}; import skerry.server.__main__, skerry.server.language, skerry.store.pull"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_framework_that_no_server_runs_is_told(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    known = json.loads((folder / "skerry.json").read_text(encoding="utf-8"))
    (folder / "skerry.json").write_text(json.dumps({**known, "framework": "MLX"}), encoding="utf-8")
    with pytest.raises(AssertionError, match="exit code 65"), running(folder, {}):
        pass
    assert (folder / "log").read_text() == "no server of Skerry runs variants of MLX\n"
