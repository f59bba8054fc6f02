"""A whole optimization without a cluster: from files to the variant that is laid out and the report."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from skerry.api.artifact import VariantFacts
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, EvaluationMetric, Framework, Metric, ModelFacts, Verdict
from skerry.optimizer import child, measure
from skerry.optimizer.backends import runner
from skerry.optimizer.child import Remote
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.errors import BadDataError, BadModelError, ConfigurationError, OutOfDiskError
from skerry.optimizer.ledger import FolderLedger
from skerry.optimizer.measure import Pair
from skerry.optimizer.pipeline import Surroundings, optimize, threads_here
from skerry.optimizer.report import Report
from skerry.planning.candidates import from_name
from skerry.store.fetch import Fetched
from tests.unit.optimizer import models

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
STATIC = {"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining"}
PLAIN = {"framework": "ONNXRuntime", "precision": "FP32", "technique": "GraphOptimization"}
OPENVINO = {"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}
SMALLER = {"metric": "ArtifactSize", "goal": "PercentMinImprovement", "value": "25"}
AS_GOOD = {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "20"}
IMPOSSIBLE = {"metric": "ArtifactSize", "goal": "PercentMinImprovement", "value": "99"}


class LocalFiles:
    """Sources that are files already."""

    def fetch(self, uri: str, sha256: str | None, folder: Path) -> Fetched:
        del sha256, folder
        path = Path(uri)
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64
        return Fetched(path, digest, 1)


@dataclass
class Lines:
    """Keeps what is reported."""

    stages: list[Stage] = field(default_factory=list)
    results: dict[str, CandidateResult] = field(default_factory=dict)
    models: list[ModelFacts] = field(default_factory=list)
    percents: list[int] = field(default_factory=list)

    def progress(self, stage: Stage, percent: int, **more: Any) -> None:
        self.stages.append(stage)
        self.percents.append(percent)
        if (result := more.get("result")) is not None:
            self.results[result.name] = result
        if (facts := more.get("model")) is not None:
            self.models.append(facts)


pytestmark = pytest.mark.usefixtures("quick")


def run(work: Path, model: Path, lines: Lines | None = None, **spec: Any) -> Outcome:
    document = {"model": {"uri": str(model)}, "accelerator": "cpu", **spec}
    here = Surroundings(work / "work", "node-1", 1, lambda: NOW)
    return optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), lines or Lines(), here)


def test_the_candidate_that_passes_is_laid_out(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    lines = Lines()
    outcome = run(
        tmp_path,
        classifier,
        lines,
        evaluation={"uri": str(labelled)},
        candidates=[PLAIN, STATIC],
        gates=[SMALLER, AS_GOOD],
    )
    assert outcome.reason is JobReason.SUCCEEDED, outcome.message
    assert outcome.chosen is not None
    assert outcome.chosen.name == "onnxruntime-int8-static"
    assert "x as fast at p95" in outcome.message
    assert outcome.folder is not None
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["model.onnx", "skerry.json"]
    facts = VariantFacts.model_validate(json.loads((outcome.folder / "skerry.json").read_text(encoding="utf-8")))
    assert facts == outcome.facts
    assert (facts.framework, facts.device) == (Framework.ONNX_RUNTIME, "CPUExecutionProvider")
    assert facts.evaluation_metric is EvaluationMetric.ACCURACY
    data = hashlib.sha256(labelled.read_bytes()).hexdigest()
    assert (facts.provenance.calibration_sha256, facts.provenance.evaluation_sha256) == (data, data)
    assert facts.provenance.host == outcome.host
    assert "onnxruntime" in facts.provenance.tools
    assert facts.provenance.source_sha256 == hashlib.sha256(classifier.read_bytes()).hexdigest()
    assert lines.results["onnxruntime-fp32"].verdict is Verdict.FAILED
    assert "at least 25 % better wanted" in lines.results["onnxruntime-fp32"].message
    assert set(lines.results) == {"baseline", "onnxruntime-fp32", "onnxruntime-int8-static"}
    assert lines.percents == sorted(lines.percents)
    assert [facts.parameters for facts in lines.models] == [5202]
    check_report(outcome.report)


def check_report(report: Report) -> None:
    again = Report.model_validate_json(report.model_dump_json(by_alias=True))
    assert again == report
    assert report.calibration is not None
    assert report.evaluation is not None
    assert (report.calibration.samples, report.evaluation.samples) == (50, 150)
    assert "taken out of the evaluation data" in report.calibration.remark
    assert report.evaluation.distribution == {str(label): 15 for label in range(10)}
    assert report.chosen in report.pareto
    assert report.baseline.tools["onnxruntime"] == metadata.version("onnxruntime")
    assert {"Fetching", "Inspecting", "Baseline", "Quantizing", "Measuring"} <= report.stage_seconds.keys()
    for candidate in (report.baseline, *report.candidates):
        figures = {figure.metric: figure for figure in candidate.measurements}
        assert len(figures) == 8
        for figure in figures.values():
            assert figure.low <= figure.value <= figure.high
            assert figure.runs > 0
        assert figures[Metric.LATENCY_P95].warmup_runs == 20
        assert figures[Metric.ACCURACY].value > 80


def test_nothing_passes(tmp_path: Path, classifier: Path) -> None:
    lines = Lines()
    outcome = run(tmp_path, classifier, lines, candidates=[PLAIN], gates=[IMPOSSIBLE])
    assert outcome.reason is JobReason.GATES_FAILED
    assert outcome.message.startswith("no candidate passed the gates. Nearest was onnxruntime-fp32: ArtifactSize ")
    assert "Missed gates: onnxruntime-fp32 (ArtifactSize). Loosen the gates" in outcome.message
    assert (outcome.chosen, outcome.folder, outcome.report.chosen) == (None, None, None)


def test_figures_are_never_those_of_another_device(tmp_path: Path) -> None:
    source = models.save(tmp_path / "m.onnx", models.classifier())
    with pytest.raises(ConfigurationError, match="cannot measure models on intel-npu"):
        run(tmp_path, source, accelerator="intel-npu", candidates=[PLAIN], gates=[])


def test_the_source_itself_is_the_last_resort(tmp_path: Path) -> None:
    source = models.save_outside(tmp_path / "My Model", models.classifier(), "weights.data")
    (source.parent / "notes.txt").write_text("not a part of the model", encoding="utf-8")
    outcome = run(tmp_path, source, candidates=[PLAIN], gates=[IMPOSSIBLE], whenNoneQualifies="ServeBaseline")
    assert outcome.reason is JobReason.BASELINE_ONLY
    assert outcome.folder is not None
    assert outcome.facts is not None
    assert (outcome.facts.name, outcome.facts.model_file) == ("baseline", "model.onnx")
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["model.onnx", "skerry.json", "weights.data"]
    assert (outcome.folder / "model.onnx").read_bytes() == source.read_bytes()
    images, _ = models.digits()
    assert child.call("serving", infer, outcome.folder / "model.onnx", images[:1]).shape == (1, 10)


def infer(model: Path, image: np.ndarray) -> np.ndarray:
    return runner(Framework.ONNX_RUNTIME).load(model, {}, 1, "CPUExecutionProvider").infer({"image": image})


def test_without_data_accuracy_is_not_known(tmp_path: Path, classifier: Path) -> None:
    lines = Lines()
    outcome = run(tmp_path, classifier, lines, candidates=[PLAIN], gates=[AS_GOOD])
    result = lines.results["onnxruntime-fp32"]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.message == (
        "Accuracy is not known: there is no evaluation data; give some (spec.evaluation, --data), or drop the gate"
    )
    assert outcome.reason is JobReason.GATES_FAILED
    assert outcome.report.evaluation is None


def test_without_labels_accuracy_is_agreement(tmp_path: Path, classifier: Path) -> None:
    images, _ = models.digits()
    unlabelled = models.save_data(tmp_path / "test.npz", image=images)
    outcome = run(tmp_path, classifier, evaluation={"uri": str(unlabelled)}, candidates=[PLAIN], gates=[AS_GOOD])
    assert outcome.reason is JobReason.SUCCEEDED
    assert outcome.report.evaluation_metric is EvaluationMetric.AGREEMENT
    assert outcome.facts is not None
    assert outcome.facts.metrics[0].value == "100"


def test_a_candidate_that_cannot_be_made_does_not_stop_the_others(tmp_path: Path) -> None:
    lines = Lines()
    source = models.save(tmp_path / "foreign.onnx", models.foreign())
    outcome = run(tmp_path, source, lines, candidates=[OPENVINO, PLAIN], gates=[])
    assert outcome.chosen is not None
    assert outcome.chosen.name == "onnxruntime-fp32"
    failed = lines.results["openvino-fp32"]
    assert failed.verdict is Verdict.FAILED
    assert "Inverse" in failed.message
    assert not failed.metrics


def test_a_candidate_that_takes_the_baseline_along_does_not_stop_the_others(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory runs out in a container, and all its processes end."""
    paired, victims = measure.paired, ["openvino-fp32"]

    def dying(baseline: Remote[Any], *more: Any) -> Pair:
        if victims:
            victims.pop()
            baseline.close()
        return paired(baseline, *more)

    monkeypatch.setattr(measure, "paired", dying)
    lines = Lines()
    outcome = run(tmp_path, classifier, lines, candidates=[OPENVINO, PLAIN], gates=[])
    failed = lines.results["openvino-fp32"]
    assert failed.verdict is Verdict.FAILED
    assert "the unoptimized model's process ended as well, and was started again" in failed.message
    assert outcome.chosen is not None
    assert outcome.chosen.name == "onnxruntime-fp32"
    assert outcome.facts is not None
    assert outcome.facts.provenance.calibration_sha256 is None


def test_candidates_are_made_of_a_model_with_its_weights_beside_it(tmp_path: Path, labelled: Path) -> None:
    """As exports of PyTorch have them."""
    source = models.save_outside(tmp_path / "model", models.classifier())
    names = ("onnxruntime-int8-static", "onnxruntime-int8-dynamic", "onnxruntime-fp32", "onnxruntime-fp16")
    wanted = [from_name(name, {}).wire() for name in (*names, "openvino-int8-ptq", "openvino-int8-weights")]
    lines = Lines()
    run(tmp_path, source, lines, evaluation={"uri": str(labelled)}, candidates=wanted, gates=[])
    assert {name: result.message for name, result in lines.results.items() if not result.metrics} == {}
    assert len(lines.results) == 1 + len(wanted)


def test_data_of_several_files(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("calibration.npz", "test.npz"):
        (folder / name).write_bytes(labelled.read_bytes())
    with pytest.raises(BadDataError, match=r"several files \(calibration.npz, test.npz\); data is one file"):
        run(tmp_path, classifier, evaluation={"uri": str(folder)}, candidates=[PLAIN])


def test_nothing_to_try_is_said_before_anything_is_measured(tmp_path: Path, classifier: Path) -> None:
    lines = Lines()
    with pytest.raises(ConfigurationError, match=r"there is nothing to try for nvidia-gpu: .*tensorrt is not here"):
        run(tmp_path, classifier, lines, accelerator="nvidia-gpu")
    assert Stage.BASELINE not in lines.stages


def test_records_that_cannot_be_written_are_no_fault_of_the_candidates(tmp_path: Path, classifier: Path) -> None:
    (tmp_path / "ledger").write_text("in the way", encoding="utf-8")
    here = Surroundings(tmp_path / "work", "node-1", 1, lambda: NOW, ledger=FolderLedger(tmp_path / "ledger"))
    document = {"model": {"uri": str(classifier)}, "accelerator": "cpu", "candidates": [PLAIN], "gates": []}
    with pytest.raises(OutOfDiskError, match="what was measured cannot be written down"):
        optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), Lines(), here)


def test_a_model_that_computes_no_numbers(tmp_path: Path) -> None:
    """Also where there is no data to see that on."""
    nodes = [helper.make_node("Sub", ["x", "x"], ["nought"]), helper.make_node("Div", ["nought", "nought"], ["y"])]
    shapes: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, [1, 4])}
    source = models.save(tmp_path / "nan.onnx", models.model(nodes, shapes, {"y": (TensorProto.FLOAT, [1, 4])}))
    with pytest.raises(BadModelError, match=r"the output is not a number \(NaN\) for the first sample"):
        run(tmp_path, source, candidates=[PLAIN], gates=[])


def test_an_ir_with_a_free_batch(tmp_path: Path, classifier: Path) -> None:
    folder = tmp_path / "ir"
    folder.mkdir()
    child.call("converting", models.to_ir, classifier, folder / "digits.xml")
    outcome = run(
        tmp_path,
        folder,
        candidates=[OPENVINO],
        gates=[IMPOSSIBLE],
        whenNoneQualifies="ServeBaseline",
        inputs=[{"name": "image", "shape": [1, 1, 8, 8]}],
    )
    assert outcome.facts is not None
    assert outcome.folder is not None
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["model.bin", "model.xml", "skerry.json"]
    assert outcome.facts.settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert outcome.facts.inputs[0].shape == [1, 1, 8, 8]


def test_a_model_that_loads_but_cannot_run(tmp_path: Path) -> None:
    source = models.save(tmp_path / "unrunnable.onnx", models.unrunnable())
    with pytest.raises(BadModelError, match=r"the unoptimized model cannot be run on these inputs: .*Reshape"):
        run(tmp_path, source, gates=[])


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ({"accelerator": "tpu"}, ConfigurationError, "no accelerator 'tpu' in the catalogue: there is amd-gpu"),
        (
            {"candidates": [STATIC]},
            ConfigurationError,
            "candidate onnxruntime-int8-static was asked for, but quantizing activations needs calibration",
        ),
        (
            {"gates": [{"metric": "LatencyP95", "goal": "PercentMinImprovement", "value": "100"}]},
            ConfigurationError,
            "can never be met",
        ),
        ({"inputs": [{"name": "picture", "shape": [1]}]}, BadModelError, "spec.inputs names picture"),
    ],
)
def test_bad_specs(tmp_path: Path, classifier: Path, spec: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        run(tmp_path, classifier, **spec)


def test_data_beyond_a_quarter_of_the_memory_limit(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    document = {"model": {"uri": str(classifier)}, "accelerator": "cpu", "evaluation": {"uri": str(labelled)}}
    here = Surroundings(tmp_path, "node-1", 1, lambda: NOW, memory_bytes=40_000)
    with pytest.raises(BadDataError, match="the limit is 10000"):
        optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), Lines(), here)


def test_threads_are_the_limit_within_what_there_is() -> None:
    assert threads_here(1) == 1
    assert threads_here(10_000) == threads_here(None) >= 1
