"""Microsoft Olive and torch really run, in a worker of their image, and all that they make is measured here."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry.api.artifact import VariantFacts
from skerry.api.types import Framework, ModelFormat
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.pipeline import Surroundings, optimize
from skerry.optimizer.toolshed import toolshed
from tests.images.conftest import Worker
from tests.measuring import measure_little, own_environment
from tests.unit.optimizer import models
from tests.unit.optimizer.test_pipeline import NOW, Lines, LocalFiles

pytestmark = pytest.mark.image
SCRIPT = Path(__file__).with_name("torch_models.py")


@pytest.fixture(scope="module", autouse=True)
def _shared() -> Iterator[None]:
    """Let the worker, which is another user, write into folders that are made here: in a pod both are one."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def worker(workers: Callable[[str], Worker]) -> Worker:
    return workers("olive")


@pytest.fixture(scope="module")
def work(worker: Worker) -> Path:
    """The folder that the worker shares."""
    return worker.folder


@pytest.fixture(scope="module")
def made(worker: Worker) -> Path:
    """Folder with models as users of torch have them."""
    folder = worker.folder / "made"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    worker.engine.run("exec", "--workdir", str(folder), worker.container, "python", SCRIPT.name)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)
    own_environment(monkeypatch)


def run(work: Path, name: str, model: Path, data: Path | None, **spec: Any) -> Outcome:
    """Run a whole optimization; the work folder is inside what the worker shares."""
    document = {
        "model": {"uri": str(model)},
        "accelerator": "cpu",
        "gates": [],
        **({"evaluation": {"uri": str(data)}} if data else {}),
        **spec,
    }
    from skerry.api.optimizationjob import OptimizationJobSpec  # noqa: PLC0415 - heavy for collecting

    here = Surroundings(work / name, "node-1", 1, lambda: NOW, tools=toolshed(work / "sockets", ["olive"]))
    return optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), Lines(), here)


def workflow(framework: str, precision: str, **options: str) -> dict[str, Any]:
    return {"framework": framework, "precision": precision, "technique": "Workflow", "options": options}


@pytest.fixture(scope="module")
def digits(work: Path) -> tuple[Path, Path]:
    """A folder with a model and workflows, and data."""
    folder = work / "source"
    folder.mkdir()
    models.save(folder / "digits.onnx", models.classifier())
    chain = {"sixteen": {"type": "OnnxFloatToFloat16", "keep_io_types": True}}
    (folder / "half.json").write_text(json.dumps({"passes": chain, "evaluators": {"mine": {}}}), encoding="utf-8")
    script = {"quantization": {"type": "OnnxStaticQuantization", "user_script": "mine.py"}}
    (folder / "script.json").write_text(json.dumps({"passes": script}), encoding="utf-8")
    (folder / "mine.py").write_text("open('harmed', 'w')", encoding="utf-8")
    images, labels = models.digits()
    return folder, models.save_data(work / "digits.npz", image=images, labels=labels)


def test_generated_workflows_make_models_that_skerry_measures(work: Path, digits: tuple[Path, Path]) -> None:
    wanted = [
        workflow("ONNXRuntime", "INT8"),
        workflow("ONNXRuntime", "INT8", quantization="Dynamic"),
        workflow("ONNXRuntime", "FP32"),
        workflow("OpenVINO", "INT8"),
    ]
    outcome = run(work, "generated", *digits, candidates=wanted)
    reports = {report.result.name: report for report in outcome.report.candidates}
    assert all(report.measurements for report in reports.values()), [each.result for each in reports.values()]
    size = (digits[0] / "digits.onnx").stat().st_size
    static, dynamic = reports["olive-onnxruntime-int8"], reports["olive-onnxruntime-int8-2"]
    assert static.size_bytes < 0.6 * size
    assert dynamic.size_bytes < 0.6 * size
    assert "olive-ai" in static.tools
    # What Olive says of it is kept beside, and is not what counts.
    assert static.tool_metrics["accuracy-Accuracy"] >= 90
    assert static.tool_metrics["size-bytes"] == static.size_bytes
    measured = {measurement.metric for measurement in static.measurements}
    assert {"Accuracy", "LatencyP95", "ModelMemory", "ArtifactSize"} <= measured
    assert outcome.folder is not None
    facts = VariantFacts.model_validate_json((outcome.folder / "skerry.json").read_text(encoding="utf-8"))
    assert (outcome.folder / facts.model_file).is_file()


def test_a_workflow_that_comes_with_the_model(work: Path, digits: tuple[Path, Path]) -> None:
    outcome = run(work, "given", *digits, candidates=[workflow("ONNXRuntime", "FP16", workflow="half.json")])
    (report,) = outcome.report.candidates
    assert report.size_bytes < 0.6 * (digits[0] / "digits.onnx").stat().st_size
    assert "half.json: OnnxFloatToFloat16; its evaluators did not count" in report.result.message


def test_a_workflow_makes_weights_of_four_bits(work: Path) -> None:
    folder, random = work / "wide", np.random.default_rng(1)
    folder.mkdir()
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        onnx.helper.make_node("Relu", ["h"], ["g"], name="second"),
        onnx.helper.make_node("MatMul", ["g", "v"], ["y"], name="third"),
    ]
    weights = {"w": random.standard_normal((256, 256)), "v": random.standard_normal((256, 64))}
    inputs: dict[str, tuple[int, list[int | str]]] = {"x": (onnx.TensorProto.FLOAT, ["n", 256])}
    outputs: dict[str, tuple[int, list[int | str]]] = {"y": (onnx.TensorProto.FLOAT, ["n", 64])}
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    models.save(folder / "wide.onnx", models.model(nodes, inputs, outputs, arrays))
    chain = {"four": {"type": "OnnxBlockWiseRtnQuantization", "bits": 4, "block_size": 32, "is_symmetric": True}}
    (folder / "four.json").write_text(json.dumps({"passes": chain}), encoding="utf-8")
    data = models.save_data(work / "wide.npz", x=random.standard_normal((40, 256)).astype(np.float32))
    wanted = [workflow("ONNXRuntime", "INT4", workflow="four.json")]
    (report,) = run(work, "four", folder, data, candidates=wanted).report.candidates
    assert report.measurements, report.result
    assert report.size_bytes < 0.2 * (folder / "wide.onnx").stat().st_size


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (workflow("ONNXRuntime", "INT8", workflow="script.json"), "code that comes with a model is never run"),
        (workflow("ONNXRuntime", "INT8", workflow="gone.json"), "'gone.json' is not in the source"),
        (workflow("ONNXRuntime", "INT8", workflow="half.json"), "nothing is quantized in what the workflow made"),
        (
            workflow("OpenVINO", "INT8", workflow="half.json"),
            "makes a model for ONNXRuntime, and OpenVINO was asked for",
        ),
    ],
)
def test_workflows_that_are_refused(work: Path, digits: tuple[Path, Path], wanted: dict[str, Any], told: str) -> None:
    outcome = run(work, "refused", *digits, candidates=[wanted])
    (report,) = outcome.report.candidates
    assert told in report.result.message
    assert report.result.verdict == "Failed"
    assert not list(work.rglob("harmed"))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_an_encoder_of_hugging_face_is_optimized(work: Path, made: Path, name: str) -> None:
    random = np.random.default_rng(3)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if name == "bert" else [])]
    tokens = {"input_ids": random.integers(5, 100, (40, 12)), "attention_mask": np.ones((40, 12), np.int64)}
    arrays = {each: tokens.get(each, np.zeros((40, 12), np.int64)) for each in names}
    data = models.save_data(work / f"{name}.npz", **arrays)
    shapes = [{"name": each, "shape": [1, 12]} for each in names]
    wanted = [
        {"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"},
        workflow("ONNXRuntime", "FP32"),
        workflow("ONNXRuntime", "INT8", quantization="Dynamic"),
    ]
    outcome = run(work, name, made / name, data, inputs=shapes, candidates=wanted)
    assert [tensor.name for tensor in outcome.report.model.inputs] == names
    reports = {report.result.name: report for report in outcome.report.candidates}
    assert all(report.measurements for report in reports.values()), [each.result for each in reports.values()]
    fused = work / name / "candidates" / "olive-onnxruntime-fp32" / "model.onnx"
    assert b"Attention" in fused.read_bytes() or b"SkipLayerNormalization" in fused.read_bytes()


def test_an_export_of_torch_is_optimized(work: Path, made: Path) -> None:
    images = models.digits()[0]
    data = models.save_data(work / "images.npz", image=images)
    wanted = [{"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}]
    outcome = run(work, "export", made / "small.pt2", data, candidates=wanted)
    (report,) = outcome.report.candidates
    assert (report.result.framework, outcome.report.model.format) == (Framework.OPENVINO, ModelFormat.ONNX)
    assert report.measurements, report.result


def test_an_encoder_whose_lengths_are_free_says_what_to_pin(work: Path, made: Path) -> None:
    with pytest.raises(BadModelError, match=r"pin it in spec\.inputs, as in \{name: input_ids, shape: \[1, \?\]\}"):
        run(work, "free", made / "bert", None)


def test_hostile_exports_do_harm_to_bare_torch(made: Path) -> None:
    assert json.loads((made / "harmed.json").read_text(encoding="utf-8")) == {"pickle": True, "formula": True}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pickle", "its tensors come with a pickle that would run code"),
        ("call", r"calls torch\.os\.system, which is no operator of ATen"),
        ("formula", "has the formula __import__"),
    ],
)
def test_hostile_exports_do_none_here(work: Path, made: Path, name: str, told: str) -> None:
    shutil.rmtree(work / "hostile", ignore_errors=True)
    with pytest.raises(BadModelError, match=told):
        run(work, "hostile", made / f"{name}.pt2", None)
    assert not list(work.rglob("harmed"))


def test_without_the_worker_the_group_is_named(tmp_path: Path, made: Path) -> None:
    from skerry.api.optimizationjob import OptimizationJobSpec  # noqa: PLC0415 - heavy for collecting

    here = Surroundings(tmp_path / "work", "node-1", 1, lambda: NOW)
    spec = OptimizationJobSpec.model_validate({"model": {"uri": str(made / "bert")}, "accelerator": "cpu", "gates": []})
    with pytest.raises(ConfigurationError, match="by the tools of the group olive, which are not here"):
        optimize(spec, LocalFiles(), Lines(), here)
