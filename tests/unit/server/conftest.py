"""A served model, without a network: the ASGI application is called directly."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.api.artifact import Provenance, VariantFacts
from skerry.api.types import Framework, Precision, Requirements, Technique, TensorFacts, TensorType
from skerry.server.limits import Limits
from skerry.server.tensors import TensorApp
from tests.support import models

LIMIT = 64 * 1024


def facts(**more: Any) -> VariantFacts:
    return VariantFacts(
        name="onnxruntime-fp32",
        accelerator="cpu",
        framework=Framework.ONNX_RUNTIME,
        precision=Precision.FP32,
        technique=Technique.GRAPH_OPTIMIZATION,
        model_file="model.onnx",
        device="CPUExecutionProvider",
        inputs=[TensorFacts(name="features", dtype=TensorType.FP32, shape=[-1, models.FEATURES])],
        outputs=[TensorFacts(name="scores", dtype=TensorType.FP32, shape=[-1, models.CLASSES])],
        requires=Requirements(architecture="amd64"),
        provenance=Provenance(
            source_uri="oci://r/m:1", source_sha256="0" * 64, created_at="2026-11-21T00:00:00Z", skerry_version="1"
        ),
    ).model_copy(update=more)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    models.classifier(tmp_path / "model.onnx", hidden=8)
    (tmp_path / "skerry.json").write_text(json.dumps(facts().wire()), encoding="utf-8")
    return tmp_path


class Lifespan:
    """Starts and stops an application as a server would."""

    def __init__(self, app: TensorApp) -> None:
        self._app = app

    async def __aenter__(self) -> TensorApp:
        await self._app.start()
        await self._app.loaded()
        return self._app

    async def __aexit__(self, *_: object) -> None:
        await self._app.stop()


@pytest.fixture
def limits() -> Limits:
    return Limits(body_bytes=LIMIT, waiting=2)


@pytest.fixture
async def client(artifact: Path, limits: Limits) -> AsyncIterator[httpx.AsyncClient]:
    async with Lifespan(TensorApp(artifact, "digits", 1, limits)) as app:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as made:
            yield made
