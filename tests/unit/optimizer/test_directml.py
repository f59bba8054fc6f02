"""Models for DirectML: what is written into them, and how sessions are set up; executed by the CPU in its place."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from skerry.accelerators.catalogue import catalogue
from skerry.accelerators.onnx_providers import DIRECTML, session_setup
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import ModelFormat, Verdict
from skerry.optimizer.backends import directml
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.backends.onnxruntime import session_options
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.pipeline import Surroundings, optimize
from skerry.planning.candidates import from_name
from tests.unit.optimizer import models
from tests.unit.optimizer.test_pipeline import NOW, Lines, LocalFiles


def make(folder: Path, path: Path, name: str, **options: str) -> tuple[Made, Any]:
    folder.mkdir()
    source = Source(path, ModelFormat.ONNX, {path.name: path})
    made = directml.Tool().make(Work(source, from_name(name, options), folder, None, None, None, native_int8=True))
    assert [file.name for file in folder.iterdir()] == [made.model_file]
    return made, onnx.load(str(folder / made.model_file))


def shapes(values: Any) -> list[list[int]]:
    return [[dimension.dim_value for dimension in value.type.tensor_type.shape.dim] for value in values]


def test_half_precision_inside_and_full_outside(tmp_path: Path, classifier: Path) -> None:
    made, model = make(tmp_path / "made", classifier, "directml-fp16")
    floats = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert floats == {onnx.TensorProto.FLOAT}
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert shapes(model.graph.input) == [[1, 1, 8, 8]]
    assert shapes(model.graph.output) == [[1, 10]]
    assert (made.execution_precision, made.one_by_one, made.architecture) == ("FP16", True, "amd64")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


@pytest.mark.parametrize("name", ["directml-fp16", "directml-fp32"])
def test_it_says_what_the_source_says(tmp_path: Path, classifier: Path, name: str) -> None:
    made, _ = make(tmp_path / "made", classifier, name, level="Extended")
    session = directml.Tool().load(tmp_path / "made" / made.model_file, made.settings, 1, DIRECTML)
    images, labels = models.digits()
    found = [session.infer({"image": images[index : index + 1]}).argmax() for index in range(60)]
    assert np.mean(np.array(found) == labels[:60]) >= 0.9
    warm = directml.Tool().warm(1, DIRECTML)
    assert warm.infer({"x": np.array([-2.0], np.float32)}).tolist() == [0.0]


def test_a_newer_opset_is_brought_down(tmp_path: Path) -> None:
    path = models.save(tmp_path / "new.onnx", models.relu(shape=["batch", 4], opset=22))
    _, model = make(tmp_path / "made", path, "directml-fp32")
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [directml.NEWEST_OPSET]


def test_an_opset_that_cannot_be_brought_down(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Swish", ["x"], ["y"])
    tensor: dict[str, tuple[int, list[int | str]]] = {"x": (onnx.TensorProto.FLOAT, [1, 4])}
    made = models.model([node], tensor, {"y": (onnx.TensorProto.FLOAT, [1, 4])}, opsets={"": 24})
    path = models.save(tmp_path / "new.onnx", made)
    with pytest.raises(BadModelError, match="opset 24, of which DirectML does not know all operators"):
        make(tmp_path / "made", path, "directml-fp32")


def test_the_session_is_as_directml_wants_it() -> None:
    setup = session_setup(DIRECTML, directml.SETTINGS)
    assert setup.memory_pattern is False
    assert setup.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert [name for name, _ in setup.providers] == [DIRECTML]
    options = session_options(DIRECTML, directml.SETTINGS, 1)
    assert options.enable_mem_pattern is False
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


@pytest.mark.usefixtures("quick")
def test_without_windows_speed_stays_open_and_that_is_said(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    here = Surroundings(tmp_path / "work", "node-1", 1, lambda: NOW)
    spec = {
        "model": {"uri": str(classifier)},
        "accelerator": "windows-directml",
        "evaluation": {"uri": str(labelled)},
        "gates": [
            {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "5"},
            {"metric": "LatencyP95", "goal": "PercentMinImprovement", "value": "10"},
        ],
    }
    outcome = optimize(OptimizationJobSpec.model_validate(spec), LocalFiles(), Lines(), here)
    reports = {report.result.name: report.result for report in outcome.report.candidates}
    assert set(reports) == {"directml-fp16", "directml-fp32"}
    for result in reports.values():
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "DirectML is there on Windows only" in result.message


def test_the_entry_reports_only() -> None:
    entry = catalogue()["windows-directml"]
    assert entry.schedulable is False
    assert entry.match[0].node_labels == {"kubernetes.io/os": "windows", "skerry.dev/directml": "true"}
