"""A whole search on a network that INT8 by default ruins, and with candidates that go wrong."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from skerry.accelerators.catalogue import catalogue
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.reasons import JobReason
from skerry.api.types import Framework, Precision, Technique, Verdict
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.pipeline import Surroundings, optimize
from tests.unit.optimizer import models
from tests.unit.optimizer.test_pipeline import Lines, LocalFiles

pytestmark = pytest.mark.usefixtures("quick")
GATE = {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "5"}


def run(work: Path, lines: Lines, spec: dict[str, Any], row: tuple[Framework, Technique]) -> Outcome:
    """Run a search whose matrix has one row."""
    cpu = catalogue()["cpu"]
    rows = [
        each for each in cpu.candidates if (each.framework, each.technique) == row and each.precision is Precision.INT8
    ]
    only = {"cpu": cpu.model_copy(update={"candidates": rows})}
    here = Surroundings(work, "node-1", 1, lambda: datetime(2026, 11, 21, tzinfo=UTC))
    here = dataclasses.replace(here, catalogue=only)
    return optimize(OptimizationJobSpec.model_validate({"accelerator": "cpu", **spec}), LocalFiles(), lines, here)


@pytest.mark.parametrize(
    ("framework", "name"),
    [(Framework.OPENVINO, "openvino-int8-ptq"), (Framework.ONNX_RUNTIME, "onnxruntime-int8-static")],
)
def test_a_recovery_rescues_what_the_default_recipe_loses(
    tmp_path: Path, depthwise: Path, framework: Framework, name: str
) -> None:
    lines = Lines()
    spec = {
        "model": {"uri": str(depthwise / "depthwise.onnx")},
        "calibration": {"uri": str(depthwise / "calibration.npz")},
        "evaluation": {"uri": str(depthwise / "test.npz")},
        "gates": [GATE],
    }
    outcome = run(tmp_path, lines, spec, (framework, Technique.POST_TRAINING))
    assert lines.results[name].verdict is Verdict.FAILED
    kept = lines.results[f"{name}-keep"]
    assert kept.verdict is not Verdict.FAILED
    assert "in floating point" in kept.message
    if outcome.reason is JobReason.SUCCEEDED:
        assert outcome.chosen is not None
        assert outcome.chosen.name.startswith(f"{name}-")


def test_a_candidate_that_makes_no_numbers_fails_and_others_go_on(tmp_path: Path) -> None:
    """In steps of 8 bits, the small channel beside a large one is 0, and 0 by 0 is not a number."""
    shapes: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, ["batch", 4])}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["both"]), helper.make_node("Div", ["both", "both"], ["y"])]
    weights = {"w": np.tile(np.array([1000.0, 0.001], np.float32), (4, 1))}
    made = models.model(nodes, shapes, {"y": (TensorProto.FLOAT, ["batch", 2])}, weights)
    rows = np.random.default_rng(1).random((40, 4)).astype(np.float32) + 0.5
    static = {"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining"}
    full = {"framework": "ONNXRuntime", "precision": "FP32", "technique": "GraphOptimization"}
    spec = {
        "model": {"uri": str(models.save(tmp_path / "m.onnx", made))},
        "evaluation": {"uri": str(models.save_data(tmp_path / "test.npz", x=rows))},
        "candidates": [static, full],
    }
    lines = Lines()
    run(tmp_path / "work", lines, spec, (Framework.ONNX_RUNTIME, Technique.CONVERSION))
    assert lines.results["onnxruntime-int8-static"].verdict is Verdict.FAILED
    assert "not a number (NaN)" in lines.results["onnxruntime-int8-static"].message
    assert lines.results["onnxruntime-fp32"].metrics
