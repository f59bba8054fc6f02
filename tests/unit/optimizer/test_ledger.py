"""A search that is interrupted goes on after the last finished candidate, and measures nothing twice."""

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import Metric, Verdict
from skerry.optimizer.backends.base import Made
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.ledger import MOST_ATTEMPTS, AttemptLedger, ComparisonRecord, FolderLedger, Record, made_record
from skerry.optimizer.pipeline import Surroundings, optimize
from skerry.optimizer.report import LatencyHistogram, Measurement, StreamThroughput
from skerry.planning.gates import Comparison
from tests.unit.optimizer import models
from tests.unit.optimizer.test_pipeline import AS_GOOD, NOW, OPENVINO, PLAIN, SMALLER, STATIC, Lines, LocalFiles

pytestmark = pytest.mark.usefixtures("quick")

WANTED = {"candidates": [PLAIN, STATIC, OPENVINO], "gates": [SMALLER, AS_GOOD]}
WINNER = "onnxruntime-int8-static"


class EvictedError(Exception):
    """Stands for the end of the pod."""


class Interrupting(Lines):
    """Ends the search when it begins a stage of a candidate."""

    def __init__(self, stage: Stage, candidate: str) -> None:
        super().__init__()
        self._end = (stage, candidate)

    def progress(self, stage: Stage, percent: int, **more: Any) -> None:
        super().progress(stage, percent, **more)
        if (stage, more.get("candidate")) == self._end and more.get("result") is None:
            raise EvictedError


class Counting(Lines):
    """Counts how often each candidate is made and measured."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = Counter[tuple[Stage, str]]()

    def progress(self, stage: Stage, percent: int, **more: Any) -> None:
        super().progress(stage, percent, **more)
        if more.get("result") is None and more.get("candidate"):
            self.begun[stage, more["candidate"]] += 1


def search(
    work: Path,
    model: Path,
    data: Path | None,
    lines: Lines,
    ledger: Path,
    kind: type[FolderLedger] = FolderLedger,
    **more: Any,
) -> Outcome:
    document = {"model": {"uri": str(model)}, "accelerator": "cpu", **WANTED, **more}
    if data is not None:
        document["evaluation"] = {"uri": str(data)}
    here = Surroundings(work, "node-1", 1, lambda: NOW, ledger=kind(ledger))
    return optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), lines, here)


@pytest.mark.parametrize(
    ("stage", "candidate", "measured"),
    [
        (Stage.MEASURING, "onnxruntime-fp32", 0),
        (Stage.QUANTIZING, WINNER, 1),
        (Stage.MEASURING, "openvino-fp32", 2),
    ],
)
def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, classifier: Path, labelled: Path, stage: Stage, candidate: str, measured: int
) -> None:
    ledger = tmp_path / "ledger"
    with pytest.raises(EvictedError):
        search(tmp_path / "one", classifier, labelled, Interrupting(stage, candidate), ledger)
    assert len(list(ledger.glob("*.json"))) == measured

    lines = Counting()
    outcome = search(tmp_path / "two", classifier, labelled, lines, ledger)

    assert outcome.chosen is not None
    assert outcome.chosen.name == WINNER
    assert outcome.folder is not None
    assert (outcome.folder / "model.onnx").is_file()
    assert sum(count for (begun, _), count in lines.begun.items() if begun is Stage.MEASURING) == 3 - measured
    assert len(outcome.report.candidates) == 3
    assert all(each.measurements for each in outcome.report.candidates)


def test_gates_may_change_between(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    first = search(tmp_path / "one", classifier, labelled, Lines(), tmp_path / "ledger")
    lines = Counting()
    second = search(tmp_path / "two", classifier, labelled, lines, tmp_path / "ledger", gates=[])
    assert not lines.begun[Stage.MEASURING, WINNER]
    assert first.chosen is not None
    assert second.chosen is not None
    assert all(result.verdict == "Passed" for result in second.results[1:])


@pytest.mark.parametrize("change", [{"inputs": [{"name": "image", "shape": [1, 1, 8, 8]}]}, {"calibration": None}])
def test_other_ground_other_figures(tmp_path: Path, classifier: Path, labelled: Path, change: dict[str, Any]) -> None:
    search(tmp_path / "one", classifier, labelled, Lines(), tmp_path / "ledger")
    if "calibration" in change:
        change = {"calibration": {"uri": str(labelled), "maxSamples": 20}}
    lines = Counting()
    search(tmp_path / "two", classifier, labelled, lines, tmp_path / "ledger", **change)
    assert sum(count for (begun, _), count in lines.begun.items() if begun is Stage.MEASURING) == 3


def test_other_files_are_measured_anew(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    """What a tool makes differently the second time does not get the first one's figures."""
    ledger = FolderLedger(tmp_path / "ledger")
    search(tmp_path / "one", classifier, labelled, Lines(), ledger.folder)
    for path in ledger.folder.glob("*.json"):
        record = ledger.recall(path.stem)
        assert record is not None
        ledger.note(record.model_copy(update={"files_sha256": "0" * 64}))
    lines = Counting()
    outcome = search(tmp_path / "two", classifier, labelled, lines, ledger.folder)
    assert lines.begun[Stage.MEASURING, WINNER] == 1
    assert not lines.begun[Stage.MEASURING, "onnxruntime-fp32"]
    assert outcome.folder is not None


def test_what_ends_the_pod_each_time_is_given_up(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    for number in range(MOST_ATTEMPTS):
        ends = Interrupting(Stage.MEASURING, WINNER)
        with pytest.raises(EvictedError):
            search(tmp_path / str(number), classifier, labelled, ends, tmp_path / "ledger", AttemptLedger)
    lines = Counting()
    outcome = search(tmp_path / "last", classifier, labelled, lines, tmp_path / "ledger", AttemptLedger, gates=[])
    assert not lines.begun[Stage.QUANTIZING, WINNER]
    given_up = lines.results[WINNER]
    assert given_up.verdict is Verdict.FAILED
    assert f"it was begun {MOST_ATTEMPTS} times, and each time the Job's pod ended" in given_up.message
    assert outcome.chosen is not None


def test_what_failed_is_not_begun_again(tmp_path: Path) -> None:
    source = models.save(tmp_path / "foreign.onnx", models.foreign())
    search(tmp_path / "one", source, None, Lines(), tmp_path / "ledger", AttemptLedger, candidates=[OPENVINO])
    lines = Counting()
    search(tmp_path / "two", source, None, lines, tmp_path / "ledger", AttemptLedger, candidates=[OPENVINO])
    assert not lines.begun[Stage.CONVERTING, "openvino-fp32"]
    assert "Inverse" in lines.results["openvino-fp32"].message


def test_weights_beside_a_model_count(tmp_path: Path, labelled: Path) -> None:
    source = models.save_outside(tmp_path / "model", models.classifier())
    search(tmp_path / "one", source, labelled, Lines(), tmp_path / "ledger")
    weights = source.with_name("weights.bin")
    changed = bytearray(weights.read_bytes())
    changed[3] ^= 1  # in the least bits of a weight
    weights.write_bytes(changed)
    lines = Counting()
    search(tmp_path / "two", source, labelled, lines, tmp_path / "ledger")
    assert lines.begun[Stage.MEASURING, WINNER] == 1


def test_figures_of_then_are_said_of_the_baseline_of_now() -> None:
    then = ComparisonRecord(baseline=2.0, value=1.0, low=0.9, high=1.1)
    size = ComparisonRecord(baseline=8.0, value=4.0, low=4.0, high=4.0)
    timed = Measurement(metric=Metric.LATENCY_P50, unit="ms", value=1.0, low=0.9, high=1.1, baseline=2.0, runs=9)
    record = Record(
        key="a" * 64,
        name="x",
        made=made_record(Made("model.onnx", {}, "FP32", {})),
        comparisons={Metric.LATENCY_P50: then, Metric.ARTIFACT_SIZE: size},
        measurements=[timed.model_copy(update={"spread_low": 0.5})],
        histogram=LatencyHistogram(edges=[0.5, 1.5], counts=[9]),
        samples=1,
        samples_at_most=1,
        size_bytes=1,
        seconds=1.0,
        files_sha256="b" * 64,
        streams=[StreamThroughput(streams=2, value=300.0, low=250.0, high=350.0, baseline=200.0, runs=9, turns=2)],
    )
    now = record.beside({Metric.LATENCY_P50: 4.0, Metric.ARTIFACT_SIZE: 8.0}, {2: 100.0})
    found = now.figures()
    assert found[Metric.LATENCY_P50] == Comparison(4.0, 2.0, 1.8, 2.2)
    assert found[Metric.ARTIFACT_SIZE] == Comparison(8.0, 4.0, 4.0, 4.0)
    (figure,) = now.measurements
    assert (figure.baseline, figure.value, figure.spread_low, figure.spread_high) == (4.0, 2.0, 1.0, None)
    assert now.histogram == LatencyHistogram(edges=[1.0, 3.0], counts=[9])
    assert (now.streams[0].baseline, now.streams[0].value) == (100.0, 150.0)


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    ledger = FolderLedger(tmp_path)
    (tmp_path / "abc.json").write_text('{"key": ', encoding="utf-8")
    assert ledger.recall("abc") is None
    assert ledger.recall("never") is None


def test_all_that_a_tool_says_is_written_down() -> None:
    made = Made(
        "m.onnx",
        {"a": "b"},
        "INT8",
        {"tool": "1"},
        "a remark",
        sensitivity=(("layer", 0.5),),
        tool_metrics={"accuracy": 0.9},
        emulated="an emulator ran it",
        architecture="arm64",
        one_by_one=True,
    )
    untold = [field.name for field in fields(Made) if getattr(made, field.name) == field.default]
    record = Record(
        key="k",
        name="x",
        made=made_record(made),
        comparisons={},
        measurements=[],
        histogram=None,
        samples=1,
        samples_at_most=1,
        size_bytes=1,
        seconds=1.0,
        files_sha256="0",
    )
    assert untold == []
    assert Record.model_validate_json(record.model_dump_json(by_alias=True)).how() == made
