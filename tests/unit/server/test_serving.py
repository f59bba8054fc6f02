"""What happens when several clients, slow ones or a broken device meet; the engine is a fake that obeys the test."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from skerry.api.types import TensorFacts, TensorType
from skerry.server import engines
from skerry.server.engines.base import Array
from skerry.server.limits import Limits
from skerry.server.tensors import TensorApp
from tests.support import models
from tests.unit.server.conftest import Lifespan, facts

INFER = "/v2/models/digits/infer"
KIB = 1 << 10
LIMITS = Limits(body_bytes=128 * KIB, batch=4, waiting=2)


class FakeEngine:
    """Gives what `answer` makes of the inputs; each sample takes `seconds` of a clock that stands still otherwise."""

    device = "NPU"
    precision = "f16"

    def __init__(self) -> None:
        self.answer: Callable[[Array], Array] = lambda _: np.zeros((1, models.CLASSES), np.float32)
        self.threads: list[str] = []
        self.seconds = 0.0
        self.now = 0.0

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.threads.append(threading.current_thread().name)
        scores = self.answer(inputs["features"])
        self.now += self.seconds * len(inputs["features"])
        return {"scores": scores}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr(engines, "load", lambda *_: made)
    return made


@asynccontextmanager
async def serving(
    artifact: Path, engine: FakeEngine, limits: Limits = LIMITS
) -> AsyncIterator[tuple[TensorApp, httpx.AsyncClient]]:
    async with Lifespan(TensorApp(artifact, "digits", 1, limits, lambda: engine.now)) as app:
        assert app.ready
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as made:
            yield app, made


@pytest.fixture
async def client(artifact: Path, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(artifact, engine) as (_, made):
        yield made


def request(rows: int = 1, value: float = 0.5) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [rows, models.FEATURES]}
    return {"inputs": [{**tensor, "data": [value] * models.FEATURES * rows}]}


async def figure(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + " ")))


async def in_flight(client: httpx.AsyncClient, count: int) -> None:
    async with asyncio.timeout(30):
        while await figure(client, "skerry_server_in_flight") != count:  # noqa: ASYNC110 - a figure has no event
            await asyncio.sleep(0.01)


async def test_a_fast_model_runs_where_the_request_is_read_and_a_large_batch_does_not(
    artifact: Path, engine: FakeEngine
) -> None:
    engine.seconds = 0.001
    async with serving(artifact, engine) as (_, client):
        engine.threads.clear()
        assert (await client.post(INFER, json=request(1))).status_code == 200
        assert (await client.post(INFER, json=request(4))).status_code == 200
        assert await figure(client, "skerry_server_inference_seconds_sum") == pytest.approx(0.005)
    assert engine.threads[0] == threading.current_thread().name
    assert engine.threads[1] != threading.current_thread().name


async def test_the_server_answers_probes_while_a_slow_model_runs_and_refuses_more_than_may_wait(
    artifact: Path, engine: FakeEngine
) -> None:
    engine.seconds = 1.0
    go = threading.Event()

    def slow(_: Array) -> Array:
        assert go.wait(30)
        return np.ones((1, models.CLASSES), np.float32)

    async with serving(artifact, engine) as (_, client):
        engine.answer = slow
        asked = [asyncio.create_task(client.post(INFER, json=request())) for _ in range(LIMITS.waiting)]
        await in_flight(client, LIMITS.waiting)
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 200
        refused = await client.post(INFER, json=request())
        go.set()
        answers = await asyncio.gather(*asked)

        assert [answer.status_code for answer in answers] == [200, 200]
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert await figure(client, "skerry_server_in_flight") == 0
        assert await figure(client, "skerry_server_queue_seconds_sum") == 1
        assert await figure(client, 'skerry_server_requests_total{code="503"}') == 1


async def test_inputs_that_the_model_refuses_are_the_clients_fault(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    def refuse(features: Array) -> Array:
        if features.any():
            message = "index 7 is out of bounds\nat gather.cc:99"
            raise RuntimeError(message)
        return np.zeros((1, models.CLASSES), np.float32)

    engine.answer = refuse
    answer = await client.post(INFER, json=request())
    assert answer.status_code == 400
    assert answer.json() == {"error": "the model refuses these inputs: index 7 is out of bounds"}
    assert (await client.post(INFER, json=request(value=0))).status_code == 200


async def test_a_device_that_takes_nothing_any_more_is_the_servers_fault(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    def broken(_: Array) -> Array:
        message = "device lost"
        raise RuntimeError(message)

    engine.answer = broken
    answer = await client.post(INFER, json=request())
    assert answer.status_code == 500
    assert "device lost" in answer.json()["error"]


async def test_a_defect_ends_one_request_only_and_tells_the_client_nothing_of_the_code(
    client: httpx.AsyncClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answer = lambda _: np.array(["?"])
    answer = await client.post(INFER, json=request())
    assert answer.status_code == 500
    assert answer.json() == {"error": "a defect of the server; its log says more"}
    assert "KeyError" in caplog.text
    engine.answer = lambda _: np.zeros((1, models.CLASSES), np.float32)
    assert (await client.post(INFER, json=request())).status_code == 200


async def test_a_batch_beyond_the_limit_is_refused_with_what_to_do(client: httpx.AsyncClient) -> None:
    answer = await client.post(INFER, json=request(5))
    assert answer.status_code == 400
    assert "5 samples, but a request may have at most 4" in answer.json()["error"]
    assert "SKERRY_SERVER_MAX_BATCH" in answer.json()["error"]


@pytest.mark.parametrize("size", [-2, 0])
async def test_no_dimension_is_below_1(client: httpx.AsyncClient, size: int) -> None:
    document = request()
    document["inputs"][0]["shape"] = [size, models.FEATURES]
    answer = await client.post(INFER, json=document)
    assert answer.status_code == 400
    assert f"shape [{size}, 64], but [-1, 64] is expected" in answer.json()["error"]


async def test_what_json_cannot_say_is_null_and_binary_outputs_have_it(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.answer = lambda _: np.asarray([np.nan, np.inf, -np.inf, 1.5], np.float32)
    spoken = await client.post(INFER, json=request())
    packed = await client.post(INFER, json={**request(), "parameters": {"binary_data_output": True}})
    assert spoken.json()["outputs"][0]["data"] == [None, None, None, 1.5]
    tail = packed.content[int(packed.headers["Inference-Header-Content-Length"]) :]
    assert tail == np.asarray([np.nan, np.inf, -np.inf, 1.5], np.float32).tobytes()


@pytest.mark.parametrize(
    "made", [np.asarray(2.5, np.float32), np.asarray([[1, 2], [3, 4]], np.int64).T, np.asarray([0.5], np.float16)]
)
async def test_outputs_of_any_layout_go_out_in_row_major_order(
    client: httpx.AsyncClient, engine: FakeEngine, made: Array
) -> None:
    engine.answer = lambda _: made
    spoken = (await client.post(INFER, json=request())).json()["outputs"][0]
    packed = await client.post(INFER, json={**request(), "parameters": {"binary_data_output": True}})
    assert spoken["shape"] == list(made.shape)
    assert spoken["data"] == made.ravel().tolist()
    assert packed.content.endswith(made.tobytes())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**request(), "parameters": {"binary_data_output": "no"}}, "binary_data_output is 'no'"),
        ({**request(), "parameters": []}, "'parameters' must be an object"),
        ({**request(), "outputs": [{"name": "scores", "parameters": 1}]}, "'parameters' must be an object"),
        ({**request(), "outputs": [{"name": "scores", "parameters": {"classification": 3}}]}, "classification"),
        ({**request(), "outputs": {}}, "'outputs' must be a list"),
        ({**request(), "outputs": [{"name": [[[]]]}]}, "no output"),
    ],
)
async def test_parameters_that_cannot_be_obeyed_are_refused(
    client: httpx.AsyncClient, document: dict[str, Any], words: str
) -> None:
    answer = await client.post(INFER, json=document)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


async def test_absent_options_may_be_null(client: httpx.AsyncClient) -> None:
    document = {**request(), "id": None, "parameters": None, "outputs": None}
    assert (await client.post(INFER, json=document)).status_code == 200


class Slow:
    """A client that sends a part of a body, then nothing, and in the end goes away."""

    def __init__(self, app: TensorApp, size: int, part: bytes) -> None:
        self._parts = [part]
        self._goes = asyncio.Event()
        self._answers: list[Any] = []
        headers = [(b"content-length", str(size).encode())]
        scope = {"type": "http", "method": "POST", "path": INFER, "headers": headers}
        self._task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(), "more_body": True}
        await self._goes.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._answers.append(message)

    async def answered(self) -> tuple[int, dict[bytes, bytes]]:
        await self._task
        return self._answers[0]["status"], dict(self._answers[0]["headers"])

    async def go_away(self) -> None:
        self._goes.set()
        await self._task


async def test_a_body_that_does_not_come_is_given_up_and_its_connection_closed(
    artifact: Path, engine: FakeEngine
) -> None:
    async with serving(artifact, engine, Limits(body_bytes=128 * KIB, body_seconds=0.01)) as (app, client):
        status, headers = await Slow(app, 128 * KIB, b"{").answered()
        assert status == 408
        assert headers[b"connection"] == b"close"
        assert await figure(client, "skerry_server_in_flight") == 0


async def test_bodies_together_hold_no_more_than_their_limit_and_give_it_back(
    artifact: Path, engine: FakeEngine
) -> None:
    async with serving(artifact, engine) as (app, client):
        slow = [Slow(app, 128 * KIB, bytes(127 * KIB)) for _ in range(2)]
        await in_flight(client, 2)
        status, headers = await Slow(app, 128 * KIB, bytes(127 * KIB)).answered()
        assert (status, headers[b"retry-after"]) == (503, b"1")
        for one in slow:
            await one.go_away()
        assert (await client.post(INFER, json=request(4))).status_code == 200
        assert await figure(client, 'skerry_server_requests_total{code="499"}') == 2


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", "identity"])
async def test_names_of_encodings_are_taken_as_http_means_them(client: httpx.AsyncClient, encoding: str) -> None:
    body = json.dumps(request()).encode()
    content = body if encoding == "identity" else gzip.compress(body)
    answer = await client.post(INFER, content=content, headers={"Content-Encoding": encoding})
    assert answer.status_code == 200


async def test_what_follows_a_packed_body_is_refused(client: httpx.AsyncClient) -> None:
    content = gzip.compress(json.dumps(request()).encode()) + b"more"
    answer = await client.post(INFER, content=content, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "4 bytes follow the end" in answer.json()["error"]


async def test_json_beyond_its_limit_is_told_to_be_binary(artifact: Path, engine: FakeEngine) -> None:
    async with serving(artifact, engine, Limits(json_bytes=1000)) as (_, client):
        answer = await client.post(INFER, json=request(4))
        assert answer.status_code == 413
        assert "send the tensors as binary data" in answer.json()["error"]


@pytest.mark.parametrize(("path", "method"), [(INFER, "POST"), ("/v2/models/digits", "GET")])
async def test_a_wrong_method_is_told_the_right_one(client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request("PUT", path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == method


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": [TensorFacts(name="labels", dtype=TensorType.INT64, shape=[-1])]}, "'labels'"),
        ({"inputs": [TensorFacts(name="features", dtype=TensorType.BYTES, shape=[-1])]}, "BYTES"),
    ],
)
async def test_a_variant_that_cannot_be_served_is_told_when_it_is_loaded(
    tmp_path: Path, engine: FakeEngine, change: dict[str, Any], words: str
) -> None:
    models.classifier(tmp_path / "model.onnx", hidden=8)
    (tmp_path / "skerry.json").write_text(json.dumps(facts(**change).wire()), encoding="utf-8")
    told: list[Exception] = []
    app = TensorApp(tmp_path, "digits", 1, LIMITS, lambda: engine.now)
    app.on_failure = told.append
    async with Lifespan(app):
        assert not app.ready
    assert words in str(told[0])


@pytest.mark.parametrize(("required", "status"), [(True, 503), (False, 200)])
async def test_where_its_device_is_required_a_model_on_another_one_takes_no_traffic(
    artifact: Path, engine: FakeEngine, *, required: bool, status: int
) -> None:
    del engine
    (artifact / "skerry.json").write_text(json.dumps(facts(device="GPU").wire()), encoding="utf-8")

    async with (
        Lifespan(TensorApp(artifact, "digits", 1, LIMITS, device_required=required)) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client,
    ):
        ready, live = await client.get("/v2/health/ready"), await client.get("/v2/health/live")
        said = (await client.get("/v2/models/digits")).json()["skerry"]

    assert (ready.status_code, live.status_code) == (status, 200)
    assert (said["executionDevice"], said["expectedDevice"]) == ("NPU", "GPU")
    if required:
        assert ready.json()["error"] == "the model executes on NPU, but GPU is required"
