"""The server, as its clients see it."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from skerry.api.types import Framework
from skerry.server.limits import Limits
from skerry.server.tensors import TensorApp
from tests.support import models
from tests.unit.server.conftest import Lifespan, facts

INFER = "/v2/models/digits/infer"
ROW = [0.5] * models.FEATURES


def request(**change: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, models.FEATURES], "data": ROW, **change}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def binary(array: np.ndarray[Any, Any], **parameters: Any) -> tuple[bytes, dict[str, str]]:
    tensor = {
        "name": "features",
        "datatype": "FP32",
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes, **parameters},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


async def test_metadata_names_the_device_that_executes(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v2/models/digits")).json()

    assert found["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, models.FEATURES]}]
    assert found["skerry"]["executionDevice"] == found["skerry"]["expectedDevice"] == "CPUExecutionProvider"


async def test_json_and_binary_give_the_same_answer(client: httpx.AsyncClient) -> None:
    array = np.asarray([ROW, ROW], np.float32)
    spoken = (await client.post(INFER, json=request(shape=[2, models.FEATURES], data=array.tolist()))).json()
    body, headers = binary(array)
    packed = await client.post(INFER, content=gzip.compress(body), headers={**headers, "Content-Encoding": "gzip"})

    length = int(packed.headers["Inference-Header-Content-Length"])
    assert json.loads(packed.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 2 * 4 * 4}
    scores = np.frombuffer(packed.content[length:], np.float32)
    np.testing.assert_allclose(scores, np.ravel(spoken["outputs"][0]["data"]), rtol=1e-5)
    assert spoken["outputs"][0]["shape"] == [2, models.CLASSES]


async def test_the_request_id_comes_back(client: httpx.AsyncClient) -> None:
    assert (await client.post(INFER, json={"id": "seven", **request()})).json()["id"] == "seven"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (request(name="pixels"), "no input 'pixels'; its inputs are features"),
        (request(datatype="INT64"), "datatype 'INT64', but FP32 is expected"),
        (request(shape=[1, 3]), "shape [1, 3], but [-1, 64] is expected"),
        (request(shape=[0, 64], data=[]), "shape [0, 64]"),
        (request(shape=[-1, 64]), "shape [-1, 64], but [-1, 64] is expected"),
        (request(shape=["1", 64]), "a list of whole numbers"),
        (request(shape=[True, 64]), "a list of whole numbers"),
        (request(shape=[10**18, 64]), "1000000000000000000 samples, but a request may have at most 32"),
        (request(shape=[2, 64]), "64 elements, but the shape [2, 64] has 128"),
        (request(data=ROW[:-1]), "63 elements"),
        (request(data=["a"] * 64), "FP32 numbers only"),
        (request(data=["1.5"] * 64), "FP32 numbers only"),
        (request(data=[None] * 64), "FP32 numbers only"),
        (request(data=[[1.0], [1.0, 2.0]]), "is not a tensor"),
        (request(data=None), "neither 'data' nor binary_data_size"),
        ({"inputs": []}, "at least one tensor"),
        ({"inputs": [request()["inputs"][0]] * 2}, "there twice"),
        ({**request(), "outputs": [{"name": "labels"}]}, "no output 'labels'; its outputs are scores"),
        ({**request(), "id": 7}, "'id' must be a string"),
        ([], "must be a JSON object"),
    ],
)
async def test_a_malformed_request_is_told_what_was_expected(
    client: httpx.AsyncClient, document: Any, words: str
) -> None:
    answer = await client.post(INFER, json=document)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": NaN}', b"[" * 5000, b"\xff\xfe"])
async def test_what_is_no_json_is_a_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(INFER, content=body)
    assert answer.status_code == 400
    assert "error" in answer.json()


@pytest.mark.parametrize(
    ("size", "words"), [(255, "255 bytes of binary data"), (257, "257 bytes of binary data"), (-1, "whole number")]
)
async def test_a_wrong_binary_size_is_told(client: httpx.AsyncClient, size: int, words: str) -> None:
    body, headers = binary(np.asarray([ROW], np.float32), binary_data_size=size)
    answer = await client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


async def test_left_over_bytes_are_told(client: httpx.AsyncClient) -> None:
    body, headers = binary(np.asarray([ROW], np.float32))
    answer = await client.post(INFER, content=body + b"more", headers=headers)
    assert "4 bytes of binary data are left over" in answer.json()["error"]


@pytest.mark.parametrize("value", ["x", "-1", "999999", "9" * 5000])
async def test_a_wrong_header_length_is_a_400(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.post(INFER, json=request(), headers={"Inference-Header-Content-Length": value})
    assert answer.status_code == 400


async def test_a_large_body_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 16 * 1024

    declared = await client.post(INFER, content=b"", headers={"Content-Length": str(100 << 20)})
    streamed = await client.post(INFER, content=endless())

    assert declared.status_code == streamed.status_code == 413
    assert read <= 6


async def test_a_packed_bomb_is_refused(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    answer = await client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("br", 415)])
async def test_a_wrong_encoding_is_told(client: httpx.AsyncClient, encoding: str, status: int) -> None:
    answer = await client.post(INFER, content=b"not packed", headers={"Content-Encoding": encoding})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/digits/versions/1/ready", 200),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/digits/versions/2", 404),
        ("GET", "/nothing", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/models/digits", 405),
    ],
)
async def test_paths(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    assert (await client.request(method, path)).status_code == status


async def test_metrics_count_requests_by_code(client: httpx.AsyncClient) -> None:
    await client.post(INFER, json=request())
    await client.post(INFER, json={})
    text = (await client.get("/metrics")).text

    assert 'skerry_server_requests_total{code="200"} 1.0' in text
    assert 'skerry_server_requests_total{code="400"} 1.0' in text
    assert "skerry_server_request_seconds_bucket" in text
    assert 'device="CPUExecutionProvider"' in text


@pytest.mark.parametrize("missing", ["skerry.json", "model.onnx"])
async def test_an_artifact_without_its_files_is_told_and_never_ready(
    artifact: Path, limits: Limits, missing: str
) -> None:
    (artifact / missing).unlink()
    told: list[Exception] = []
    app = TensorApp(artifact, "digits", 1, limits)
    app.on_failure = told.append

    await app.start()
    await app.loaded()

    assert missing in str(told[0])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.post(INFER, json=request())).status_code == 503
    await app.stop()


async def test_what_another_device_executes_is_told(artifact: Path, limits: Limits) -> None:
    """OpenVINO's AUTO stands for a device that silently has another one do the work."""
    changed = facts(framework=Framework.OPENVINO, device="AUTO", execution_precision="FP32")
    (artifact / "skerry.json").write_text(json.dumps(changed.wire()), encoding="utf-8")
    async with (
        Lifespan(TensorApp(artifact, "digits", 1, limits, device_required=True)) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client,
    ):
        said = (await client.get("/v2/models/digits")).json()["skerry"]
        ready = await client.get("/v2/health/ready")
    assert (said["executionDevice"], said["expectedDevice"], said["executionPrecision"]) == ("CPU", "AUTO", "FP32")
    assert ready.status_code == 503
