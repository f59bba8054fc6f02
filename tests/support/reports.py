"""Reports to show: made by hand for the edges, and one of a real optimization."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from skerry.api.metrics import unit
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import EvaluationMetric, Metric, ModelFacts, Verdict, default_gates
from skerry.cli.main import run
from skerry.optimizer import measure, streams
from skerry.optimizer.report import CandidateReport, HostReport, LatencyHistogram, Measurement, Report
from tests.support import models

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BASELINE: Mapping[Metric, float] = {
    Metric.ACCURACY: 90.0,
    Metric.LATENCY_P95: 4.0,
    Metric.MODEL_MEMORY: 40.0,
    Metric.ARTIFACT_SIZE: 20.0,
}
_NOTHING: Mapping[str, float] = MappingProxyType({})
DIGEST = "0123456789abcdef" * 4


def measurement(metric: Metric, value: float, baseline: float, meaning: EvaluationMetric) -> Measurement:
    """Return a figure with an interval of a tenth around it."""
    ends = sorted((0.95 * value, 1.05 * value))
    return Measurement(
        metric=metric,
        unit=unit(metric, meaning),
        value=value,
        low=ends[0],
        high=ends[1],
        baseline=baseline,
        runs=100,
        rounds=10,
    )


def candidate(
    name: str,
    figures: Mapping[str, float] = _NOTHING,
    verdict: Verdict | None = Verdict.PASSED,
    *,
    message: str = "",
    beside: Mapping[Metric, float] = BASELINE,
    meaning: EvaluationMetric = EvaluationMetric.ACCURACY,
) -> CandidateReport:
    """Return a candidate with figures by the names of their metrics, beside a baseline's; without any it failed."""
    result = {
        "name": name,
        "framework": "ONNXRuntime",
        "precision": "INT8",
        "technique": "PostTraining",
        "executionPrecision": "INT8",
        "verdict": verdict,
        "message": message,
        "metrics": [
            {"name": metric, "baseline": "1", "value": "1", "unit": "ms", "verdict": verdict, "message": message}
            for metric in figures
        ],
    }
    measurements = [
        measurement(Metric(metric), value, beside[Metric(metric)], meaning) for metric, value in figures.items()
    ]
    return CandidateReport.model_validate({"result": result, "measurements": measurements})


def histogram(*counts: int, first: float = 1.0) -> LatencyHistogram:
    """Return a histogram with bins of a tenth decade each."""
    return LatencyHistogram(edges=[first * 10 ** (index / 10) for index in range(len(counts) + 1)], counts=list(counts))


def report(*candidates: CandidateReport, **changes: Any) -> Report:
    """Return a report of candidates beside a baseline; the spec asks for what the other fields say."""
    figures = {metric.value: value for metric, value in BASELINE.items()}
    spec = OptimizationJobSpec.model_validate(
        {
            "model": {"uri": "oci://registry:5000/models/digits:1.0"},
            "accelerator": "cpu",
            "evaluation": {"uri": "oci://registry:5000/data/digits:1.0"},
        }
    )
    host = {"node": "edge-1", "cpuModel": "A CPU", "accelerator": "cpu"}
    made = Report(
        skerry_version="1.2.3",
        created_at=NOW,
        source_uri=spec.model.uri,
        source_sha256=DIGEST,
        spec=spec,
        model=ModelFacts.model_validate(
            {
                "format": "ONNX",
                "sizeBytes": 20 << 20,
                "parameters": 5_000_000,
                "inputs": [{"name": "image", "dtype": "FP32", "shape": [-1, 3, 8, 8]}],
                "outputs": [{"name": "scores", "dtype": "FP32", "shape": [-1, 10]}],
            }
        ),
        machine=HostReport.model_validate(
            {
                "host": host,
                "architecture": "amd64",
                "cpuCores": 4,
                "cpuFeatures": ["avx2"],
                "threads": 2,
                "python": "3.13",
                "kernel": "6.1",
            }
        ),
        evaluation_metric="Accuracy",
        evaluation={"uri": "oci://registry:5000/data/digits:1.0", "sha256": DIGEST, "samples": 100},
        calibration=None,
        gates=default_gates(),
        objective="LatencyP95",
        baseline=candidate("baseline", figures, None),
        candidates=list(candidates),
        left_out={},
        pareto=[],
        chosen=None,
        reason="Succeeded",
        message="",
        stage_seconds={"Fetching": 0.2, "Measuring": 75.0},
    )
    return made.model_copy(update=changes)


def real(folder: Path) -> Path:
    """Optimize a small model for a short while and return the folder with the result."""
    out = folder / "result"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"FIRST_ROUNDS": 2, "MAX_ROUNDS": 2, "MIN_ROUNDS": 1, "ROUND_SECONDS": 0.005}.items():
            patch.setattr(measure, name, value)
        patch.setattr(streams, "SECONDS", 0.01)
        for name in ("TMPDIR", "CI", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            patch.setenv(name, "")  # what the optimization sets for its children is taken back
        model = models.classifier(folder / "model.onnx")
        data = models.samples(folder / "data.npz")
        words = ["optimize", str(model), "--data", str(data), "--out", str(out), "--threads", "1"]
        words += ["--candidate", "onnxruntime-int8-static", "--candidate", "onnxruntime-fp32"]
        words += ["--candidate", "onnxruntime-int8-static:keepSensitive=1"]
        assert run([*words, "--gate", "ArtifactSize:PercentMinImprovement:25"]) == 0
    return out
