"""The image that serves language models, with the true llama-server, as pods run it."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devcluster import images
from devcluster.engine import Engine, engine
from skerry.api.types import Framework, Precision, Technique
from tests.support.language import TOKENS, write_gguf
from tests.unit.server.conftest import facts
from tests.unit.server.running import free_port

pytestmark = pytest.mark.image

IMAGE = "server-llamacpp"
NAME = "tiny"
USER = "65532:65532"


@pytest.fixture(scope="module")
def here() -> Engine:
    return engine()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("variant")
    made.chmod(0o755)
    write_gguf(made / "model.gguf")
    known = facts(
        name="llamacpp-f32",
        framework=Framework.LLAMA_CPP,
        precision=Precision.FP32,
        technique=Technique.CONVERSION,
        model_file="model.gguf",
        device="CPU",
        inputs=[],
        outputs=[],
    )
    (made / "skerry.json").write_text(json.dumps(known.wire()), encoding="utf-8")
    return made


class Container:
    """A server in its container, with a read-only root and no rights."""

    def __init__(self, here: Engine, folder: Path, *words: str) -> None:
        port = free_port()
        self.here = here
        self.identifier = here.run(
            *("run", "--detach", "--network", "host", "--read-only", "--tmpfs", "/tmp"),  # noqa: S108 - inside
            *("--user", USER, "--cap-drop", "ALL", "--volume", f"{folder}:/models/model:ro"),
            images.build(here, [IMAGE])[IMAGE],
            *("--host", "127.0.0.1", "--port", str(port), "--model-dir", "/models/model", "--model-name", NAME),
            *("--threads", "1", *words),
        ).strip()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)

    def state(self, field: str) -> str:
        return self.here.run("inspect", "--format", f"{{{{.State.{field}}}}}", self.identifier).strip()

    def log(self) -> str:
        command = [self.here.name, "logs", self.identifier]
        environment = {**os.environ, **self.here.env}
        done = subprocess.run(
            command, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return done.stdout

    def until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/v2/health/ready").is_success:
                    return
            assert self.state("Status") == "running", self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def until_refused(self) -> None:
        deadline = time.monotonic() + 30
        with contextlib.suppress(httpx.TransportError):
            while httpx.get(f"{self.client.base_url}/v2/health/ready").is_success:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def until_still(self) -> None:
        """Wait until no more tokens are written."""
        deadline = time.monotonic() + 60
        counted = -1.0
        while counted != (now := figure(self, "skerry_server_generated_tokens_total")):
            assert time.monotonic() < deadline
            counted = now
            time.sleep(1.0)

    def ended(self) -> int:
        return int(self.here.run("wait", self.identifier, timeout=60))

    def pid_of_llama_server(self) -> str:
        look = "for p in /proc/[0-9]*; do [ $(cat $p/comm) = llama-server ] && basename $p; done; true"
        return self.here.run("exec", self.identifier, "sh", "-c", look).split()[0]


@contextlib.contextmanager
def container(here: Engine, folder: Path, *words: str) -> Iterator[Container]:
    made = Container(here, folder, *words)
    try:
        made.until_ready()
        yield made
    finally:
        made.client.close()
        here.succeeds("rm", "--force", "--time", "0", made.identifier)


@pytest.fixture(scope="module")
def server(here: Engine, folder: Path) -> Iterator[Container]:
    with container(here, folder) as found:
        yield found


def figure(server: Container, name: str) -> float:
    text = server.client.get("/metrics").text
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def events(answer: httpx.Response) -> Iterator[Any]:
    for line in answer.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


QUESTION = {"model": NAME, "messages": [{"role": "user", "content": "What is a skerry?"}]}
ENDLESS = {"prompt": "A", "max_tokens": 1_000_000, "ignore_eos": True, "stream": True}


def test_a_chat_is_answered(server: Container) -> None:
    before = figure(server, "skerry_server_generated_tokens_total")
    answer = server.client.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 8, "ignore_eos": True}).json()
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["model"] == NAME
    assert figure(server, "skerry_server_generated_tokens_total") == before + 8
    assert figure(server, "skerry_server_generation_seconds_total") > 0


def test_the_stream_of_a_chat_is_its_answer(server: Container) -> None:
    asking = {**QUESTION, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    whole = server.client.post("/v1/chat/completions", json=asking).json()["choices"][0]["message"]["content"]
    with server.client.stream("POST", "/v1/chat/completions", json={**asking, "stream": True}) as answer:
        parts = [event["choices"][0]["delta"].get("content") or "" for event in events(answer) if event["choices"]]
    assert "".join(parts) == whole
    assert len(parts) > 2
    assert figure(server, "skerry_server_first_token_seconds_count") >= 1


def test_texts_go_on_the_same_each_time(server: Container) -> None:
    asking = {"prompt": "A skerry is", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    first, second = (server.client.post("/v1/completions", json=asking).json()["choices"] for _ in range(2))
    assert first == second


def test_the_device_is_read_off_llama_server(server: Container) -> None:
    known = server.client.get(f"/v2/models/{NAME}").json()
    assert known["inputs"] == known["outputs"] == []
    assert known["skerry"]["executionDevice"] == known["skerry"]["expectedDevice"] == "CPU"
    (listed,) = server.client.get("/v1/models").json()["data"]
    assert listed["id"] == NAME
    assert listed["meta"]["n_params"] > 0


def test_a_prompt_that_does_not_fit_is_refused(server: Container) -> None:
    answer = server.client.post("/v1/completions", json={"prompt": "word " * 1000})
    assert answer.status_code == 400
    assert "exceeds the available context size" in answer.json()["error"]["message"]


def test_a_client_that_goes_away_makes_room_for_the_next(server: Container) -> None:
    with server.client.stream("POST", "/v1/completions", json=ENDLESS) as answer:
        next(events(answer))
    asking = {"prompt": "B", "max_tokens": 1}
    assert server.client.post("/v1/completions", json=asking).status_code == 200
    assert figure(server, 'skerry_server_requests_total{code="499"}') >= 1


def test_sigterm_finishes_an_answer(here: Engine, folder: Path) -> None:
    with container(here, folder) as server:
        # All probabilities of each token are more than buffers hold: llama-server waits for the client.
        asking = {"prompt": "A", "max_tokens": 500, "ignore_eos": True, "stream": True, "logprobs": len(TOKENS)}
        with server.client.stream("POST", "/v1/completions", json=asking) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.until_still()
            assert figure(server, "skerry_server_in_flight") == 1
            here.run("kill", "--signal", "TERM", server.identifier)
            server.until_refused()
            assert server.state("Status") == "running"
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.ended() == 0


def test_the_death_of_llama_server_ends_the_pod_s_container(here: Engine, folder: Path) -> None:
    with container(here, folder) as server:
        here.run("exec", server.identifier, "sh", "-c", f"kill -9 {server.pid_of_llama_server()}")
        assert server.ended() == 70
        assert "llama-server has ended: signal 9" in server.log()


def test_a_damaged_model_is_told(here: Engine, folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "skerry.json").write_bytes((folder / "skerry.json").read_bytes())
    (tmp_path / "model.gguf").write_bytes((folder / "model.gguf").read_bytes()[:100_000])
    with (
        pytest.raises(AssertionError, match=r"llama-server cannot load model\.gguf: code 1: "),
        container(here, tmp_path),
    ):
        pass
