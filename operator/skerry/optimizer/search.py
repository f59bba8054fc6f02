"""The stages between fetching and publishing: inspect, baseline, candidates, measure."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.accelerators.cpu import CpuFacts
from skerry.api.jobcontract import Stage
from skerry.api.metrics import unit
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import (
    CandidateResult,
    EvaluationMetric,
    Framework,
    Metric,
    MetricFigure,
    ModelFacts,
    ModelFormat,
    Precision,
    Technique,
    Verdict,
)
from skerry.optimizer import accuracy, child, data, inspection, measure
from skerry.optimizer.accuracy import Scored
from skerry.optimizer.backends import backend
from skerry.optimizer.backends.base import Array, Made, Work
from skerry.optimizer.child import Remote
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import ConfigurationError, OptimizationError
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.measure import Bench, Start, Subject, Timings
from skerry.optimizer.report import Measurement
from skerry.planning import candidates as matrix
from skerry.planning.gates import Comparison, combine, judge

BASELINE: Final = "baseline"
NO_DATA: Final = (
    "Accuracy cannot be judged: there is no evaluation data; give spec.evaluation, or drop the Accuracy gate"
)
_QUANTIZING: Final = {Technique.POST_TRAINING, Technique.ACCURACY_AWARE, Technique.WEIGHTS_ONLY, Technique.DYNAMIC}
_FIRST_PERCENT: Final = 20
_LAST_PERCENT: Final = 90


class Reporter(Protocol):
    """Is told how far the search is."""

    def progress(
        self,
        stage: Stage,
        percent: int,
        *,
        candidate: str | None = None,
        message: str = "",
        model: ModelFacts | None = None,
        result: CandidateResult | None = None,
    ) -> None:
        """Take one line of progress."""
        ...


@dataclass(frozen=True)
class Inputs:
    """What was fetched, and the machine that it runs on.

    Attributes:
        spec: What is wanted.
        model: The source model, a file or a folder.
        calibration: File with calibration data.
        evaluation: File with evaluation data.
        entry: The accelerator's entry of the catalogue.
        cpu: The machine's CPU.
        threads: Number of threads that models run with.
    """

    spec: OptimizationJobSpec
    model: Path
    calibration: Path | None
    evaluation: Path | None
    entry: AcceleratorEntry
    cpu: CpuFacts
    threads: int


@dataclass(frozen=True)
class Ground:
    """What all candidates of a search share."""

    inspected: Inspected
    calibration: Samples | None
    evaluation: Samples | None
    metric: EvaluationMetric | None
    samples: list[data.Sample]
    warm: bytes


@dataclass(frozen=True)
class Baseline:
    """The unoptimized model, measured."""

    subject: Subject
    starts: list[Start]
    scored: Scored | None
    outputs: Array | None
    reference: dict[Metric, float]
    size_bytes: int


@dataclass
class Tried:
    """A candidate: how it was made and what it is worth."""

    planned: matrix.Planned
    folder: Path
    result: CandidateResult
    made: Made | None = None
    measurements: list[Measurement] = field(default_factory=list)
    seconds: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True)
class Found:
    """All that a search found."""

    ground: Ground
    baseline: Baseline
    tried: list[Tried]
    left_out: dict[str, str]
    stage_seconds: dict[str, float]


def decimal(value: float) -> str:
    """Return a figure as the API writes it: no exponent, five significant digits."""
    text = np.format_float_positional(value, precision=5, fractional=False, trim="-", unique=False)
    return text.rstrip(".") or "0"


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def half_precision(entry: AcceleratorEntry, cpu: CpuFacts) -> str | None:
    """Return the half precision that the CPU computes in at full speed, or None."""
    return next((half.precision for half in entry.native_half if half.feature in cpu.features), None)


def _make(work: Work) -> Made:
    """Make a candidate; runs in a child process."""
    child.quiet_libraries()
    return backend(work.request.framework).make(work)


def search(inputs: Inputs, reporter: Reporter, folder: Path) -> Found:
    """Make and measure every candidate.

    Raises:
        OptimizationError: The model, the data or the configuration is bad.
    """
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(stage: Stage) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - started

    with timed(Stage.INSPECTING):
        reporter.progress(Stage.INSPECTING, 8)
        ground = _ground(inputs)
        facts = ground.inspected.facts
        reporter.progress(Stage.INSPECTING, 10, model=facts)
        plan = _plan(inputs, ground)
    random = np.random.default_rng(measure.SEED)
    with timed(Stage.BASELINE):
        reporter.progress(Stage.BASELINE, 12)
        subject = _subject(ground.inspected, inputs.threads)
        starts = measure.starts(subject, ground.samples, ground.warm)
        bench = Remote("the baseline", Bench, subject, ground.samples, ground.warm)
    with bench:
        with timed(Stage.BASELINE):
            baseline = _baseline(ground, subject, starts, bench)
            reporter.progress(Stage.BASELINE, 18, result=baseline_result(baseline, ground))
        tried = []
        for number, planned in enumerate(plan.candidates):
            percent = _FIRST_PERCENT + (_LAST_PERCENT - _FIRST_PERCENT) * number // len(plan.candidates)
            quantizing = planned.request.technique in _QUANTIZING
            stage = Stage.QUANTIZING if quantizing else Stage.CONVERTING
            with timed(stage):
                reporter.progress(stage, percent, candidate=planned.name)
                attempt = _make_one(inputs, ground, planned, folder / planned.name)
            if attempt.made is not None:
                with timed(Stage.MEASURING):
                    reporter.progress(Stage.MEASURING, percent, candidate=planned.name)
                    _measure_one(inputs, ground, baseline, bench, attempt, random)
            reporter.progress(Stage.MEASURING, percent, candidate=planned.name, result=attempt.result)
            tried.append(attempt)
    return Found(ground, baseline, tried, plan.left_out, seconds)


def _ground(inputs: Inputs) -> Ground:
    """Inspect the model and read the data."""
    spec = inputs.spec
    inspected = child.call("inspecting the model", inspection.inspect, inputs.model, spec.model.format, spec.inputs)
    tensors = (inspected.facts.inputs, inspected.facts.outputs)
    evaluation = data.samples(inputs.evaluation, *tensors) if inputs.evaluation else None
    calibration = data.samples(inputs.calibration, *tensors, minimum=1) if inputs.calibration else None
    metric = None
    if evaluation is not None:
        wanted = spec.evaluation.metric if spec.evaluation is not None else None
        metric = wanted or data.default_metric(evaluation)
        data.check_metric(metric, evaluation)
    most = spec.calibration.max_samples if spec.calibration is not None else data.DEFAULT_CALIBRATION
    if calibration is None and evaluation is not None:
        calibration, evaluation = data.split(evaluation, most)
    elif calibration is not None:
        calibration = calibration.part(np.arange(min(most, len(calibration))))
    samples = measure.inputs_for(inspected.facts.inputs, evaluation or calibration)
    return Ground(inspected, calibration, evaluation, metric, samples, measure.warm_model())


def _plan(inputs: Inputs, ground: Ground) -> matrix.Plan:
    evaluation = ground.evaluation
    available = matrix.Available(
        model_format=ground.inspected.facts.format,
        calibration=ground.calibration is not None,
        labels=evaluation is not None and evaluation.labels is not None,
    )
    try:
        return matrix.plan(inputs.entry, available, inputs.spec.candidates)
    except matrix.CandidateError as error:
        raise ConfigurationError(str(error)) from error


def _subject(inspected: Inspected, threads: int) -> Subject:
    """Return the source model in its reference runtime at true FP32."""
    onnx = inspected.facts.format is ModelFormat.ONNX
    framework = Framework.ONNX_RUNTIME if onnx else Framework.OPENVINO
    return Subject(BASELINE, framework, inspected.source.path, BASELINE_SETTINGS[framework], threads)


BASELINE_SETTINGS: Final = {
    Framework.ONNX_RUNTIME: {"graphOptimizationLevel": "All"},
    # Without the hint OpenVINO computes FP32 models in BF16 where it can, and every gain would be understated.
    Framework.OPENVINO: {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
}


def _baseline(ground: Ground, subject: Subject, starts: list[Start], bench: Remote[Bench]) -> Baseline:
    own = Timings()
    runs, count = measure.runs_per_round(float(np.median(bench.call("run", measure.MIN_RUNS))))
    own.rounds.extend(bench.call("run", runs) for _ in range(count))
    outputs = bench.call("outputs", ground.evaluation) if ground.evaluation is not None else None
    return Baseline(
        subject=subject,
        starts=[*starts, bench.call("start")],
        scored=_score(ground, outputs, outputs),
        outputs=outputs,
        reference={metric: own.value(metric) for metric in measure.TIMED},
        size_bytes=ground.inspected.facts.size_bytes,
    )


def _score(ground: Ground, outputs: Array | None, baseline: Array | None) -> Scored | None:
    if ground.metric is None or ground.evaluation is None or outputs is None or baseline is None:
        return None
    return accuracy.score(ground.metric, outputs, ground.evaluation.labels, baseline)


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
            MetricFigure(name=metric, baseline=decimal(value), value=decimal(value), unit=_unit(metric, ground))
            for metric, value in baseline_figures(baseline).items()
        ],
        message="the source model, unoptimized",
    )


def baseline_figures(baseline: Baseline) -> dict[Metric, float]:
    """Return the baseline's figures, in the order in which they are shown."""
    figures: dict[Metric, float] = {}
    if baseline.scored is not None:
        figures[Metric.ACCURACY] = baseline.scored.value
    figures.update(baseline.reference)
    for metric in measure.STARTED:
        figures[metric] = measure.compare_starts(metric, baseline.starts, baseline.starts).value
    figures[Metric.ARTIFACT_SIZE] = baseline.size_bytes / measure.MIB
    return figures


def _unit(metric: Metric, ground: Ground) -> str:
    return unit(metric, ground.metric or EvaluationMetric.ACCURACY)


def _make_one(inputs: Inputs, ground: Ground, planned: matrix.Planned, folder: Path) -> Tried:
    """Make a candidate; when that fails, its result says why and the search goes on."""
    request = planned.request
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = CandidateResult(
        name=planned.name, framework=request.framework, precision=request.precision, technique=request.technique
    )
    tried = Tried(planned, folder, result)
    work = Work(
        source=ground.inspected.source,
        request=request,
        folder=folder,
        calibration=ground.calibration,
        validation=ground.evaluation,
        metric=ground.metric,
        half_precision=half_precision(inputs.entry, inputs.cpu),
        threads=inputs.threads,
    )
    started = time.monotonic()
    _guarded(tried, lambda: setattr(tried, "made", child.call(f"making {planned.name}", _make, work)))
    tried.seconds = time.monotonic() - started
    tried.size_bytes = folder_size(folder)
    return tried


def _guarded(tried: Tried, action: Callable[[], None]) -> None:
    """Turn a candidate's failure into its result."""
    try:
        action()
    except OptimizationError as error:
        failed = {"verdict": Verdict.FAILED, "message": str(error)[:2000]}
        tried.result = tried.result.model_copy(update=failed)
        tried.made = None


def _measure_one(
    inputs: Inputs,
    ground: Ground,
    baseline: Baseline,
    bench: Remote[Bench],
    tried: Tried,
    random: np.random.Generator,
) -> None:
    """Measure a candidate against the baseline and judge it."""
    made = tried.made
    if made is None:
        return
    planned = tried.planned
    model = tried.folder / made.model_file
    subject = Subject(planned.name, planned.request.framework, model, made.settings, inputs.threads)

    def action() -> None:
        starts = measure.starts(subject, ground.samples, ground.warm)
        with Remote(f"running {planned.name}", Bench, subject, ground.samples, ground.warm) as candidate:
            starts.append(candidate.call("start"))
            theirs, mine = measure.rounds(bench, candidate, random)
            outputs = candidate.call("outputs", ground.evaluation) if ground.evaluation is not None else None
        scored = _score(ground, outputs, baseline.outputs)
        comparisons = _comparisons(ground, baseline, tried, starts, (theirs, mine), scored)
        tried.measurements = _measurements(comparisons, ground, mine, len(starts))
        _judge(inputs, ground, tried, made, comparisons)

    _guarded(tried, action)


def _comparisons(
    ground: Ground,
    baseline: Baseline,
    tried: Tried,
    starts: list[Start],
    timings: tuple[Timings, Timings],
    scored: Scored | None,
) -> dict[Metric, Comparison]:
    found: dict[Metric, Comparison] = {}
    if ground.metric is not None and scored is not None and baseline.scored is not None:
        found[Metric.ACCURACY] = accuracy.compare(ground.metric, scored, baseline.scored)
    for metric in measure.TIMED:
        found[metric] = measure.compare_timings(metric, *timings, baseline.reference[metric])
    for metric in measure.STARTED:
        found[metric] = measure.compare_starts(metric, baseline.starts, starts)
    size = tried.size_bytes / measure.MIB
    found[Metric.ARTIFACT_SIZE] = Comparison(baseline.size_bytes / measure.MIB, size, size, size)
    return found


def _measurements(
    comparisons: dict[Metric, Comparison], ground: Ground, timings: Timings, starts: int
) -> list[Measurement]:
    def runs(metric: Metric) -> tuple[int, int]:
        if metric in measure.TIMED:
            return timings.runs, len(timings.rounds)
        if metric is Metric.ACCURACY:
            return len(ground.evaluation or ()), 1
        return (starts, 1) if metric in measure.STARTED else (1, 1)

    return [
        Measurement(
            metric=metric,
            unit=_unit(metric, ground),
            value=found.value,
            low=found.low,
            high=found.high,
            baseline=found.baseline,
            runs=runs(metric)[0],
            rounds=runs(metric)[1],
        )
        for metric, found in comparisons.items()
    ]


def _judge(inputs: Inputs, ground: Ground, tried: Tried, made: Made, comparisons: dict[Metric, Comparison]) -> None:
    verdicts = judge(inputs.spec.gates, comparisons, ground.metric or EvaluationMetric.ACCURACY)
    figures = []
    for metric, found in comparisons.items():
        verdict = verdicts.get(metric)
        figures.append(
            MetricFigure(
                name=metric,
                baseline=decimal(found.baseline),
                value=decimal(found.value),
                unit=_unit(metric, ground),
                verdict=verdict.verdict if verdict else None,
                message=verdict.message[:256] if verdict else "",
            )
        )
    remarks = [made.remark] if made.remark else []
    remarks += [verdict.message for verdict in verdicts.values() if verdict.verdict is not Verdict.PASSED]
    if Metric.ACCURACY in verdicts and Metric.ACCURACY not in comparisons:
        remarks.append(NO_DATA)
    tried.result = tried.result.model_copy(
        update={
            "execution_precision": made.execution_precision,
            "verdict": combine(verdict.verdict for verdict in verdicts.values()),
            "metrics": figures,
            "message": "; ".join(remarks)[:2000],
        }
    )
