"""One candidate's trial: what it is compared with, its figures, and the verdict."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from skerry.api.metrics import unit
from skerry.api.types import (
    CandidateResult,
    EvaluationMetric,
    Framework,
    Gate,
    Metric,
    MetricFigure,
    Precision,
    Technique,
    Verdict,
)
from skerry.optimizer import accuracy, measure
from skerry.optimizer.accuracy import Scored
from skerry.optimizer.backends.base import Array, Made, Source
from skerry.optimizer.bench import Start, Subject
from skerry.optimizer.data import Samples
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.language import Surprise
from skerry.optimizer.language_bench import Texts
from skerry.optimizer.measure import Pair, Setting, Timings
from skerry.optimizer.report import LatencyHistogram, Measurement
from skerry.optimizer.streams import NOT_MEASURED, Streams
from skerry.planning.candidates import Planned
from skerry.planning.gates import Comparison, combine, judge
from skerry.planning.pareto import Point

BASELINE: Final = "baseline"
NO_DATA: Final = "there is no evaluation data; give some (spec.evaluation, --data), or drop the gate"
EMULATED: Final = frozenset({Metric.ACCURACY, Metric.ARTIFACT_SIZE})
"""Metrics that an emulator gives as the device does."""
_MESSAGE_LIMIT: Final = 256
_TEXT_LIMIT: Final = 2000
_NEGLIGIBLE: Final = 1e-9


@dataclass(frozen=True)
class Ground:
    """What all candidates of a search share.

    Attributes:
        inspected: The source model.
        calibration: Samples for quantization.
        evaluation: Samples for accuracy.
        held_out: Whether the calibration samples were taken out of the evaluation data.
        metric: What accuracy means; None without evaluation data.
        conditions: What measurements share.
        texts: Text on which language models are measured, instead of samples.
        calibration_text: File with text to calibrate language models with.
    """

    inspected: Inspected
    calibration: Samples | None
    evaluation: Samples | None
    held_out: bool
    metric: EvaluationMetric | None
    conditions: Setting
    texts: Texts | None = None
    calibration_text: Path | None = None

    def unit(self, metric: Metric) -> str:
        """Return the unit of a metric here."""
        return unit(metric, self.meaning)

    @property
    def meaning(self) -> EvaluationMetric:
        """What accuracy means, or would mean."""
        return self.metric or EvaluationMetric.ACCURACY

    def score(self, outputs: Array, baseline: Array, rows: Array | None = None) -> Scored | None:
        """Return what outputs on the evaluation data, or on some of its rows, are worth; None without such data."""
        if self.metric is None or self.evaluation is None:
            return None
        labels = self.evaluation.labels
        if rows is not None:
            baseline = baseline[rows]
            labels = labels[rows] if labels is not None else None
        return accuracy.score(self.metric, outputs, labels, baseline)


@dataclass(frozen=True)
class Baseline:
    """The unoptimized model, measured; with the versions of what runs it."""

    subject: Subject
    starts: Sequence[Start]
    timings: Timings
    scored: Scored | None
    outputs: Array | None
    size_bytes: int
    surprises: Sequence[Surprise] = ()
    source: Source | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    streams: Streams = NOT_MEASURED

    @property
    def samples(self) -> int:
        """Number of samples, or of windows of text, behind its accuracy."""
        if self.surprises:
            return sum(len(part.nll) for part in self.surprises)
        return 0 if self.outputs is None else len(self.outputs)

    def figures(self) -> dict[Metric, float]:
        """Return its figures, in the order in which they are shown."""
        figures: dict[Metric, float] = {}
        if self.scored is not None:
            figures[Metric.ACCURACY] = self.scored.value
        for metric in self.timings.metrics:
            figures[metric] = self.timings.value(metric)
        for metric in measure.STARTED:
            figures[metric] = statistics.median(measure.start_figures(metric, self.starts))
        figures[Metric.ARTIFACT_SIZE] = self.size_bytes / measure.MIB
        return figures


@dataclass(frozen=True)
class Observed:
    """A candidate, measured in turns with the baseline; without rounds and starts where an emulator ran it."""

    pair: Pair | None
    starts: Sequence[Start]
    accuracy: Comparison | None
    size_bytes: int


@dataclass
class Tried:
    """A candidate: how it was made and what it is worth."""

    planned: Planned
    folder: Path
    result: CandidateResult
    made: Made | None = None
    measurements: list[Measurement] = field(default_factory=list)
    histogram: LatencyHistogram | None = None
    missed: tuple[Metric, ...] = ()
    seconds: float = 0.0
    size_bytes: int = 0
    samples: int = 0
    samples_at_most: int = 0
    recalled: str = ""
    streams: Streams = NOT_MEASURED

    @property
    def point(self) -> Point | None:
        """What the choice looks at; None when it could not be made."""
        if self.made is None:
            return None
        figures = {measured.metric: measured.value for measured in self.measurements}
        return Point(self.result.name, figures, self.result.verdict is Verdict.PASSED)

    def fail(self, message: str) -> None:
        """Note that it cannot be made or measured, and why."""
        self.made = None
        failed = {"verdict": Verdict.FAILED, "message": message[:_TEXT_LIMIT]}
        self.result = self.result.model_copy(update=failed)


def decimal(value: float) -> str:
    """Return a figure as the API writes it: no exponent, five significant digits."""
    if abs(value) < _NEGLIGIBLE:
        return "0"
    text = np.format_float_positional(value, precision=5, fractional=False, trim="-", unique=False)
    return text.rstrip(".")


def baseline_result(baseline: Baseline, ground: Ground) -> CandidateResult:
    """Return the baseline as a candidate, for showing it beside the others."""
    onnx = baseline.subject.framework is Framework.ONNX_RUNTIME
    return CandidateResult(
        name=BASELINE,
        framework=baseline.subject.framework,
        precision=Precision.FP32,
        technique=Technique.GRAPH_OPTIMIZATION if onnx else Technique.CONVERSION,
        execution_precision="FP32",
        metrics=[
            MetricFigure(name=metric, baseline=decimal(value), value=decimal(value), unit=ground.unit(metric))
            for metric, value in baseline.figures().items()
        ],
        message="the source model, unoptimized",
    )


def settled(found: Mapping[Metric, Comparison], gates: Sequence[Gate], meaning: EvaluationMetric) -> bool:
    """Tell whether more rounds would change nothing: no timed gate is in doubt, or a gate on something else failed."""
    verdicts = judge(gates, found, meaning)
    timed = {judged.verdict for metric, judged in verdicts.items() if metric in measure.TIMED}
    others = {judged.verdict for metric, judged in verdicts.items() if metric not in measure.TIMED}
    return Verdict.INCONCLUSIVE not in timed or Verdict.FAILED in others


def comparisons(baseline: Baseline, observed: Observed) -> dict[Metric, Comparison]:
    """Return a candidate's figures beside the baseline's, with their intervals."""
    found: dict[Metric, Comparison] = {}
    if observed.accuracy is not None:
        found[Metric.ACCURACY] = observed.accuracy
    reference = baseline.figures()
    if observed.pair is not None:
        found.update(measure.compare_all_timings(observed.pair, reference))
        for metric in measure.STARTED:
            found[metric] = measure.compare_starts(metric, baseline.starts, observed.starts)
    size = observed.size_bytes / measure.MIB
    found[Metric.ARTIFACT_SIZE] = Comparison(reference[Metric.ARTIFACT_SIZE], size, size, size)
    return found


def measurements(
    ground: Ground, found: Mapping[Metric, Comparison], timings: Timings, starts: Sequence[Start], samples: int
) -> list[Measurement]:
    """Return the figures as the report has them; accuracy is that on so many samples."""
    return [_measurement(ground, metric, figure, timings, starts, samples) for metric, figure in found.items()]


def _measurement(
    ground: Ground, metric: Metric, figure: Comparison, timings: Timings, starts: Sequence[Start], samples: int
) -> Measurement:
    runs, rounds, warmup = 1, 1, 0
    spread: tuple[float, float] | None = None
    if metric in measure.TIMED:
        runs, rounds, warmup = timings.runs, len(timings.rounds), ground.conditions.warmup_runs
        low, high = np.percentile(timings.figures(metric), (25, 75))
        spread = (float(low), float(high))
    elif metric in measure.STARTED:
        runs = len(starts)
        each = measure.start_figures(metric, starts)
        spread = (min(each), max(each))
    elif metric is Metric.ACCURACY:
        runs = samples
    return Measurement(
        metric=metric,
        unit=ground.unit(metric),
        value=figure.value,
        low=figure.low,
        high=figure.high,
        baseline=figure.baseline,
        runs=runs,
        rounds=rounds,
        warmup_runs=warmup,
        spread_low=spread[0] if spread else None,
        spread_high=spread[1] if spread else None,
        waited_percent=round(100.0 * timings.waited, 1) if metric in measure.TIMED else None,
        counters=list(timings.counters) if metric is Metric.ENERGY_PER_INFERENCE else [],
    )


def baseline_measurements(baseline: Baseline, ground: Ground) -> list[Measurement]:
    """Return the baseline's own figures as the report has them; its interval is the figure itself."""
    found = {metric: Comparison(value, value, value, value) for metric, value in baseline.figures().items()}
    return measurements(ground, found, baseline.timings, baseline.starts, baseline.samples)


def unknown(made: Made) -> dict[Metric, str]:
    """Return why metrics have no figure, where they have none."""
    found = {metric: made.emulated for metric in Metric if made.emulated and metric not in EMULATED}
    return {**found, Metric.ACCURACY: NO_DATA}


def pronounce(
    tried: Tried, made: Made, found: Mapping[Metric, Comparison], gates: Sequence[Gate], ground: Ground
) -> None:
    """Give a candidate its figures and the verdict of the gates."""
    verdicts = judge(gates, found, ground.meaning, unknown(made))
    figures = []
    for metric, figure in found.items():
        verdict = verdicts.get(metric)
        figures.append(
            MetricFigure(
                name=metric,
                baseline=decimal(figure.baseline),
                value=decimal(figure.value),
                unit=ground.unit(metric),
                verdict=verdict.verdict if verdict else None,
                message=verdict.message[:_MESSAGE_LIMIT] if verdict else "",
            )
        )
    tried.missed = tuple(metric for metric, verdict in verdicts.items() if verdict.verdict is not Verdict.PASSED)
    remarks = [verdicts[metric].message for metric in tried.missed]
    remarks += [remark for remark in (made.remark, made.emulated) if remark and not any(remark in it for it in remarks)]
    if tried.samples < tried.samples_at_most:
        share = f"{tried.samples} of {tried.samples_at_most} samples"
        accuracy_verdict = verdicts.get(Metric.ACCURACY)
        condemned = accuracy_verdict is not None and accuracy_verdict.verdict is Verdict.FAILED
        slow = made.emulated and not condemned
        remarks.append(f"on {share}, because the emulator is slow" if slow else f"{share} were enough to see that")
    tried.result = tried.result.model_copy(
        update={
            "execution_precision": made.execution_precision,
            "verdict": combine(verdict.verdict for verdict in verdicts.values()),
            "metrics": figures,
            "message": "; ".join(remarks)[:_TEXT_LIMIT],
        }
    )
