"""A small language model, really converted, quantized, measured and generating, by the tools of their image.

All runtimes must find the perplexity that the training script computed with its own arithmetic: only a conversion that
is right in everything (positions, norms, grouped heads, tokenizer, mark of the beginning) does.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from skerry.api.types import CandidateRequest, Framework, ModelFormat, ModelKind, Precision, Technique
from skerry.optimizer import backends, child
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.backends.llama_server import LlamaServer
from skerry.optimizer.backends.openvino_genai import GenAiSession
from skerry.optimizer.bench import Subject
from skerry.optimizer.child import Remote
from skerry.optimizer.errors import BadDataError, BadModelError, UnsupportedFormatError
from skerry.optimizer.language_bench import LanguageBench
from skerry.optimizer.language_source import read_language_model
from tests.images.conftest import LanguageModel, Worker

pytestmark = pytest.mark.image

PROMPTS = ["The number of clusters is", "Parameters\n----------\nX : array"]
EXACT = 1e-4
LIKE_HALF = 1e-3


@dataclass(frozen=True)
class Shop:
    """A worker, the model where it can read it, and the folder for what is made of it."""

    worker: Worker
    source: Source
    folder: Path
    model: LanguageModel

    def prepare(self, framework: Framework) -> Source:
        target = self.folder / f"prepared-{framework.value}"
        target.mkdir(exist_ok=True)
        target.chmod(0o777)
        return child.call("preparing", backends.prepare, framework, self.source, target, place=self.worker.place)

    def make(self, tool: str, request: CandidateRequest) -> tuple[Path, Made]:
        name = "-".join([tool, request.precision, request.technique, *request.options.values()])
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o777)
        text = self.folder / "calibration.txt"
        work = Work(self.source, request, folder, None, None, None, native_int8=True, text=text)
        made = child.call(f"making {name}", backends.make, tool, work, place=self.worker.place)
        return folder / made.model_file, made

    def bench(self, framework: Framework, model: Path, made: Made | None = None) -> Remote[LanguageBench]:
        settings = {} if made is None else dict(made.settings)
        subject = Subject("it", framework, model, settings, len(os.sched_getaffinity(0)), "CPU")
        return Remote("running", LanguageBench, subject, PROMPTS, place=self.worker.place)

    def perplexity(self, framework: Framework, model: Path, made: Made | None = None) -> float:
        with self.bench(framework, model, made) as bench:
            return float(bench.call("surprise", self.model.test.read_text()).perplexity)


@pytest.fixture(scope="module")
def shop(workers: Callable[[str], Worker], language_model: LanguageModel) -> Shop:
    worker = workers("llamacpp")
    folder = worker.folder / "language"
    shutil.copytree(language_model.folder, folder / "model")
    shutil.copyfile(language_model.calibration, folder / "calibration.txt")
    folder.chmod(0o777)
    return Shop(worker, source_of(folder / "model"), folder, language_model)


def source_of(folder: Path) -> Source:
    found = read_language_model(folder)
    return Source(folder / "config.json", found.format, found.files, ModelKind.LANGUAGE, folder)


def asked(framework: Framework, precision: Precision, technique: Technique, **options: str) -> CandidateRequest:
    return CandidateRequest(framework=framework, precision=precision, technique=technique, options=options)


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


@pytest.mark.parametrize("framework", [Framework.LLAMA_CPP, Framework.OPENVINO_GENAI])
def test_unoptimized_it_is_worth_what_training_found(shop: Shop, framework: Framework) -> None:
    prepared = shop.prepare(framework)
    expected = shop.model.figures["perplexity"]
    assert expected < 0.2 * shop.model.figures["unigramPerplexity"]  # it has learnt something
    assert shop.perplexity(framework, prepared.path) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("precision", "technique", "options", "worse", "share"),
    [
        (Precision.FP16, Technique.CONVERSION, {}, LIKE_HALF, 0.51),
        (Precision.INT8, Technique.WEIGHTS_ONLY, {}, 0.002, 0.28),
        (Precision.INT6, Technique.WEIGHTS_ONLY, {}, 0.003, 0.22),
        (Precision.INT5, Technique.WEIGHTS_ONLY, {}, 0.005, 0.19),
        (Precision.INT4, Technique.WEIGHTS_ONLY, {"type": "Q4_K_M"}, 0.015, 0.17),
        (Precision.INT4, Technique.WEIGHTS_ONLY, {"type": "Q4_0"}, 0.02, 0.16),
        (Precision.INT4, Technique.IMPORTANCE_MATRIX, {}, 0.015, 0.15),
        (Precision.INT3, Technique.IMPORTANCE_MATRIX, {}, 0.03, 0.13),
    ],
)
def test_llama_cpp_makes_it_smaller_at_little_loss(
    shop: Shop, precision: Precision, technique: Technique, options: dict[str, str], worse: float, share: float
) -> None:
    model, made = shop.make("llamacpp", asked(Framework.LLAMA_CPP, precision, technique, **options))
    expected = shop.model.figures["perplexity"]
    found = shop.perplexity(Framework.LLAMA_CPP, model, made)
    assert expected * (1 - LIKE_HALF) < found < expected * (1 + worse)
    assert model.stat().st_size < share * shop.source.size_bytes
    assert made.remark == ""
    assert made.tools["llama.cpp"] != "unknown"
    assert read_language_model(model).format is ModelFormat.GGUF


@pytest.mark.parametrize(
    ("precision", "technique", "options", "worse", "share"),
    [
        (Precision.FP16, Technique.CONVERSION, {}, LIKE_HALF, 0.54),
        (Precision.INT8, Technique.WEIGHTS_ONLY, {}, 0.002, 0.31),
        (Precision.INT4, Technique.WEIGHTS_ONLY, {}, 0.02, 0.21),
        (Precision.INT4, Technique.WEIGHTS_ONLY, {"mode": "Symmetric", "groupSize": "128"}, 0.03, 0.21),
    ],
)
def test_openvino_genai_makes_it_smaller_at_little_loss(
    shop: Shop, precision: Precision, technique: Technique, options: dict[str, str], worse: float, share: float
) -> None:
    model, made = shop.make("openvino_genai", asked(Framework.OPENVINO_GENAI, precision, technique, **options))
    expected = shop.model.figures["perplexity"]
    found = shop.perplexity(Framework.OPENVINO_GENAI, model, made)
    assert expected * (1 - LIKE_HALF) < found < expected * (1 + worse)
    assert size(model) < share * shop.source.size_bytes


def test_both_runtimes_write_the_same_text_from_as_many_tokens(shop: Shop) -> None:
    place, threads = shop.worker.place, len(os.sched_getaffinity(0))
    llama, genai = (shop.prepare(framework).path for framework in (Framework.LLAMA_CPP, Framework.OPENVINO_GENAI))
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    with Remote("writing", LlamaServer, llama, {}, threads, place=place) as one:
        first = one.call("generate", PROMPTS[1], 24)
        with pytest.raises(BadDataError, match="do not fit into its context"):
            one.call("generate", PROMPTS[0], 300)
        with pytest.raises(BadDataError, match="has 7 tokens; it must have at least 512"):
            one.call("surprise", PROMPTS[0], 256)
    with Remote("writing", GenAiSession, genai.parent, hint, threads, "CPU", place=place) as two:
        second = two.call("generate", PROMPTS[1], 24)
        with pytest.raises(BadDataError, match="do not fit into the context of 256"):
            two.call("generate", PROMPTS[0], 300)
        with pytest.raises(BadDataError, match="has 7 tokens; it must have at least 512"):
            two.call("surprise", PROMPTS[0], 256)
    assert first.text == second.text != ""
    assert first.prompt_tokens == second.prompt_tokens
    assert first.generated == second.generated == 23
    for found in (first, second):
        assert 0 < found.prompt_seconds < 60
        assert 0 < found.generate_seconds < 60


def test_the_servers_memory_counts(shop: Shop) -> None:
    model = shop.prepare(Framework.LLAMA_CPP).path
    with shop.bench(Framework.LLAMA_CPP, model) as bench:
        assert bench.call("start").memory_bytes > model.stat().st_size


def test_no_server_outlives_the_process_that_started_it(shop: Shop) -> None:
    bench = shop.bench(Framework.LLAMA_CPP, shop.prepare(Framework.LLAMA_CPP).path)
    assert "llama-server" in shop.worker.programs()
    bench.close()
    deadline = time.monotonic() + 30
    while "llama-server" in shop.worker.programs():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def altered(shop: Shop, name: str, file: str, change: Callable[[dict[str, Any]], object]) -> Source:
    """Return a copy of the model with one of its JSON files changed."""
    folder = shop.folder / name
    shutil.copytree(shop.source.path.parent, folder)
    document = json.loads((folder / file).read_text())
    change(document)
    (folder / file).write_text(json.dumps(document))
    return source_of(folder)


def prepared(shop: Shop, source: Source) -> Source:
    return replace(shop, source=source).prepare(Framework.LLAMA_CPP)


def test_an_unknown_architecture_is_told_with_known_ones(shop: Shop) -> None:
    source = altered(shop, "unknown", "config.json", lambda config: config.update(architectures=["LlamaForCausalism"]))
    with pytest.raises(UnsupportedFormatError, match=r"does not know .*'LlamaForCausalism'.*LlamaForCausalLM"):
        prepared(shop, source)


def test_a_tokenizer_that_llama_cpp_does_not_have_is_told(shop: Shop) -> None:
    source = altered(
        shop, "strange", "tokenizer.json", lambda found: found.update(pre_tokenizer={"type": "Whitespace"})
    )
    with pytest.raises(BadModelError, match=r"no tokenizer that cuts text into words as this model's does"):
        prepared(shop, source)


def test_a_damaged_gguf_file_is_refused_by_the_server_too(shop: Shop) -> None:
    whole = shop.prepare(Framework.LLAMA_CPP).path
    path = shop.folder / "wrong.gguf"
    data = whole.read_bytes()
    path.write_bytes(data.replace(b"llama.block_count", b"llama.block_cuont"))
    with pytest.raises(BadModelError, match=r"llama-server cannot load wrong\.gguf: .*block_count"):
        shop.bench(Framework.LLAMA_CPP, path)
