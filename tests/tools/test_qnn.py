"""Qualcomm QNN in the emulator of the HTP: really built and really run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from skerry.api.reasons import JobReason
from skerry.api.types import Framework, Metric, Verdict
from skerry.optimizer import trials
from skerry.optimizer.child import Place
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, BadModelError, ConfigurationError
from skerry.optimizer.toolshed import Toolshed
from tests.tools.making import make, run, samples, search, work
from tests.unit.optimizer import models

pytestmark = pytest.mark.tools

A8 = {"framework": "QNN", "precision": "INT8", "technique": "PostTraining"}
A16 = {**A8, "options": {"activations": "UInt16"}}
FP16 = {"framework": "QNN", "precision": "FP16", "technique": "Conversion"}
AS_GOOD = {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "5"}
ALL = {"qnn-int8-ptq": "INT8", "qnn-int8-ptq-uint16": "A16W8", "qnn-fp16": "FP16"}


def test_nothing_is_said_of_speed_and_memory(
    tmp_path: Path, all_tools: Toolshed, classifier: Path, labelled: Path
) -> None:
    outcome, lines = search(tmp_path, all_tools, classifier, labelled, accelerator="qualcomm-hexagon")
    assert outcome.reason is JobReason.GATES_FAILED
    assert "LatencyP95 is not known: measured in the emulator of the HTP" in outcome.message
    candidates = {name: result for name, result in lines.results.items() if name != "baseline"}
    assert {name: result.execution_precision for name, result in candidates.items()} == ALL
    for result in candidates.values():
        figures = {figure.name: figure for figure in result.metrics}
        assert set(figures) == {Metric.ACCURACY, Metric.ARTIFACT_SIZE}
        assert figures[Metric.ACCURACY].verdict is Verdict.PASSED
        assert float(figures[Metric.ACCURACY].value) > 95
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "says nothing about speed and memory of a device" in result.message


def test_what_can_be_said_decides_when_that_is_asked(
    tmp_path: Path, all_tools: Toolshed, classifier: Path, labelled: Path
) -> None:
    wish: dict[str, Any] = {"accelerator": "qualcomm-hexagon", "gates": [AS_GOOD], "candidates": [A8]}
    outcome, _ = search(tmp_path / "a", all_tools, classifier, labelled, objective="ArtifactSize", **wish)
    assert outcome.reason is JobReason.SUCCEEDED, outcome.message
    assert "its speed is not known" in outcome.message
    assert outcome.facts is not None
    assert outcome.folder is not None
    assert (outcome.facts.framework, outcome.facts.device) == (Framework.QNN, "HTP")
    assert (outcome.facts.requires.architecture, outcome.facts.inputs[0].shape) == ("arm64", [1, 1, 8, 8])
    artifact = onnx.load(str(outcome.folder / outcome.facts.model_file))
    assert [node.op_type for node in artifact.graph.node] == ["EPContext"]

    outcome, _ = search(tmp_path / "b", all_tools, classifier, labelled, **wish)
    assert outcome.reason is JobReason.GATES_FAILED
    assert "no candidate that passed the gates has a figure for the objective LatencyP95" in outcome.message


def test_a_slow_emulator_is_not_asked_for_all_samples(
    tmp_path: Path, all_tools: Toolshed, classifier: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_EMULATOR_SECONDS", 0.0)
    wish: dict[str, Any] = {"accelerator": "qualcomm-hexagon", "gates": [AS_GOOD], "candidates": [A8]}
    _, lines = search(tmp_path, all_tools, classifier, labelled, **wish)
    assert lines.results["qnn-int8-ptq"].message.endswith("on 37 of 150 samples, because the emulator is slow")


def outputs(qnn: Place, folder: Path, source: Path, request: dict[str, Any]) -> Any:
    wanted = work(source, request, folder / "candidate", samples())
    made = make(qnn, "qnn", wanted)
    return run(qnn, Framework.QNN, "HTP", wanted.folder / made.model_file, made, samples())


def test_16_bits_keep_more_than_8(tmp_path: Path, qnn: Place, classifier: Path) -> None:
    exact = outputs(qnn, tmp_path / "f", classifier, FP16)
    narrow, again = (outputs(qnn, tmp_path / name, classifier, A8) for name in "an")
    wide = outputs(qnn, tmp_path / "w", classifier, A16)
    assert np.abs(wide - exact).max() < np.abs(narrow - exact).max() < 0.1
    assert np.array_equal(narrow, again)  # though the bytes of a context differ each time


def test_each_channel_with_its_own_scale(tmp_path: Path, qnn: Place, classifier: Path) -> None:
    options = {"granularity": "PerChannel", "calibration": "Percentile", "htpArchitecture": "73"}
    exact = outputs(qnn, tmp_path / "f", classifier, FP16)
    assert np.abs(outputs(qnn, tmp_path / "c", classifier, {**A8, "options": options}) - exact).max() < 0.1


def test_a_node_that_the_device_lacks_is_named(tmp_path: Path, qnn: Place) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["c"], name="first"),
        helper.make_node("NonZero", ["c"], ["n"], name="which"),
        helper.make_node("Cast", ["n"], ["y"], name="last", to=1),
    ]
    weights = {"kernel": np.ones((1, 1, 3, 3), np.float32)}
    model = models.model(nodes, {"image": (1, [1, 1, 8, 8])}, {"y": (1, [4, "n"])}, weights)
    source = models.save(tmp_path / "m.onnx", model)
    with pytest.raises(BadModelError, match=r"the HTP cannot run the nodes .*which \(NonZero\)"):
        make(qnn, "qnn", work(source, FP16, tmp_path / "w" / "candidate", None))


def test_shapes_must_be_fixed(tmp_path: Path, qnn: Place) -> None:
    source = models.save(tmp_path / "m.onnx", models.classifier(side="side"))
    with pytest.raises(BadModelError, match=r"'image' has \[-1, 1, -1, -1\]: pin it in spec.inputs"):
        make(qnn, "qnn", work(source, FP16, tmp_path / "w" / "candidate", None))


def test_calibration_must_say_something(tmp_path: Path, qnn: Place, classifier: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs calibration or evaluation data"):
        make(qnn, "qnn", work(classifier, A8, tmp_path / "a" / "candidate", None))
    zeros = Samples({"image": np.zeros((20, 1, 8, 8), np.float32)})
    with pytest.raises(BadDataError, match="the calibration data is the same number everywhere"):
        make(qnn, "qnn", work(classifier, A8, tmp_path / "b" / "candidate", zeros))
