"""MLX on a CPU, where it is slow: it must find what llama.cpp finds, window by window, and lose as little."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.api.types import CandidateRequest, Framework, ModelKind, Precision, Technique
from skerry.optimizer import backends, child
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.bench import Subject
from skerry.optimizer.child import Remote
from skerry.optimizer.language import Surprise
from skerry.optimizer.language_bench import LanguageBench
from skerry.optimizer.language_source import read_language_model
from tests.images.conftest import LanguageModel, Worker

pytestmark = pytest.mark.image

CHARACTERS = 6000
PROMPT = "The number of clusters is"


def give(worker: Worker, model: LanguageModel) -> Source:
    """Return the model where a worker can read it."""
    folder = worker.folder / "given"
    if not folder.exists():
        shutil.copytree(model.folder, folder)
    found = read_language_model(folder)
    return Source(folder / "config.json", found.format, found.files, ModelKind.LANGUAGE, folder)


def new(worker: Worker, name: str) -> Path:
    folder = worker.folder / name
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def surprise(worker: Worker, framework: Framework, model: Path, text: str) -> Surprise:
    subject = Subject("it", framework, model, {}, len(os.sched_getaffinity(0)), "CPU")
    with Remote("running", LanguageBench, subject, [PROMPT], place=worker.place) as bench:
        assert bench.call("start").memory_bytes > 0
        found: Surprise = bench.call("surprise", text)
    return found


@pytest.fixture(scope="module")
def text(language_model: LanguageModel) -> str:
    return language_model.test.read_text()[:CHARACTERS]


@pytest.fixture(scope="module")
def expected(workers: Callable[[str], Worker], language_model: LanguageModel, text: str) -> Surprise:
    """What llama.cpp finds of the model at full precision."""
    worker = workers("llamacpp")
    source, folder = give(worker, language_model), new(worker, "whole")
    prepared = child.call("preparing", backends.prepare, Framework.LLAMA_CPP, source, folder, place=worker.place)
    return surprise(worker, Framework.LLAMA_CPP, prepared.path, text)


@pytest.mark.parametrize(
    ("precision", "technique", "options", "worse", "share"),
    [
        (Precision.FP16, Technique.CONVERSION, {}, 0.001, 0.52),
        (Precision.INT8, Technique.WEIGHTS_ONLY, {}, 0.003, 0.30),
        (Precision.INT4, Technique.WEIGHTS_ONLY, {"groupSize": "32"}, 0.03, 0.20),
    ],
)
def test_mlx_makes_it_smaller_at_little_loss(  # noqa: PLR0913, PLR0917
    workers: Callable[[str], Worker],
    language_model: LanguageModel,
    text: str,
    expected: Surprise,
    precision: Precision,
    technique: Technique,
    options: dict[str, str],
    worse: float,
    share: float,
) -> None:
    worker = workers("mlx")
    source, folder = give(worker, language_model), new(worker, f"made-{precision}")
    request = CandidateRequest(framework=Framework.MLX, precision=precision, technique=technique, options=options)
    work = Work(source, request, folder, None, None, None, native_int8=True)
    made: Made = child.call("making", backends.make, "mlx", work, place=worker.place)
    found = surprise(worker, Framework.MLX, folder / made.model_file, text)
    assert found.tokens == expected.tokens
    assert found.nll == pytest.approx(expected.nll, rel=0.1)
    assert abs(np.log(found.perplexity / expected.perplexity)) < worse
    assert sum(file.stat().st_size for file in folder.iterdir()) < share * source.size_bytes
