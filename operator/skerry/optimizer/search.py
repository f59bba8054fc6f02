"""The stages between fetching and publishing: inspect, baseline, candidates, measure."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.accelerators.cpu import CpuFacts
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CandidateResult, Metric, ModelFacts, Technique
from skerry.optimizer import child, data, inspection, measure
from skerry.optimizer.backends import backend
from skerry.optimizer.backends.base import BASELINE_SETTINGS, REFERENCE, Made, Work
from skerry.optimizer.bench import Bench, Subject
from skerry.optimizer.child import Remote
from skerry.optimizer.errors import BadModelError, ConfigurationError, OptimizationError, OutOfDiskError
from skerry.optimizer.histogram import latency_histogram
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.measure import Conditions, Pair
from skerry.optimizer.trial import (
    BASELINE,
    Baseline,
    Ground,
    Observed,
    Tried,
    baseline_result,
    comparisons,
    measurements,
    pronounce,
    settled,
)
from skerry.planning import candidates as matrix
from skerry.planning.gates import Comparison, GateError, check

_QUANTIZING: Final = frozenset(
    {Technique.POST_TRAINING, Technique.ACCURACY_AWARE, Technique.WEIGHTS_ONLY, Technique.DYNAMIC}
)
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
        max_data_bytes: Most bytes of one data file, unpacked.
    """

    spec: OptimizationJobSpec
    model: Path
    calibration: Path | None
    evaluation: Path | None
    entry: AcceleratorEntry
    cpu: CpuFacts
    threads: int
    max_data_bytes: int


@dataclass
class StageClock:
    """Adds up how long each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the time within the context for a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started


@dataclass(frozen=True)
class Found:
    """All that a search found."""

    ground: Ground
    baseline: Baseline
    tried: list[Tried]
    left_out: dict[str, str]


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def half_precision(entry: AcceleratorEntry, cpu: CpuFacts) -> str | None:
    """Return the half precision that the CPU computes in at full speed, or None."""
    return next((half.precision for half in entry.native_half if half.feature in cpu.features), None)


def native_int8(entry: AcceleratorEntry, cpu: CpuFacts) -> str | None:
    """Return the best feature of the CPU for 8-bit products, or None."""
    return next((feature for feature in entry.native_int8 if feature in cpu.features), None)


def search(inputs: Inputs, reporter: Reporter, folder: Path, clock: StageClock) -> Found:
    """Make and measure every candidate.

    Args:
        inputs: What there is to work with.
        reporter: Is told how far it is.
        folder: Where candidates are written.
        clock: Counts the time of the stages.

    Raises:
        OptimizationError: The model, the data or the configuration is bad.
    """
    with clock.timed(Stage.INSPECTING):
        reporter.progress(Stage.INSPECTING, 8)
        _check_gates(inputs)
        inspected = _inspected(inputs, folder)
        reporter.progress(Stage.INSPECTING, 10, model=inspected.facts)
        ground = _ground(inputs, inspected, folder)
        plan = _plan(inputs, ground)
    with contextlib.ExitStack() as stack:
        with clock.timed(Stage.BASELINE):
            reporter.progress(Stage.BASELINE, 12, message=f"{len(plan.candidates)} candidates will be tried")
            bench, baseline = _measured_baseline(inputs, ground, stack)
            reporter.progress(Stage.BASELINE, 18, result=baseline_result(baseline, ground))
        trials = _Trials(inputs, ground, baseline, bench, folder)
        tried = []
        for number, planned in enumerate(plan.candidates):
            percent = _FIRST_PERCENT + (_LAST_PERCENT - _FIRST_PERCENT) * number // len(plan.candidates)
            stage = Stage.QUANTIZING if planned.request.technique in _QUANTIZING else Stage.CONVERTING
            with clock.timed(stage):
                reporter.progress(stage, percent, candidate=planned.name)
                attempt = trials.make(planned)
            if attempt.made is not None:
                with clock.timed(Stage.MEASURING):
                    reporter.progress(Stage.MEASURING, percent, candidate=planned.name)
                    trials.measure(attempt, attempt.made)
            reporter.progress(Stage.MEASURING, percent, candidate=planned.name, result=attempt.result)
            tried.append(attempt)
    return Found(ground, baseline, tried, dict(plan.left_out))


def _check_gates(inputs: Inputs) -> None:
    for gate in inputs.spec.gates:
        try:
            check(gate)
        except GateError as error:
            raise ConfigurationError(str(error)) from error


def _inspected(inputs: Inputs, folder: Path) -> Inspected:
    """Inspect the model in a child process; whatever goes wrong there is the model's fault."""
    spec = inputs.spec
    what = "inspecting the model"
    return child.call(what, inspection.inspect, inputs.model, spec.model.format, spec.inputs, folder / "pinned")


def _ground(inputs: Inputs, inspected: Inspected, folder: Path) -> Ground:
    """Read the data and settle what all candidates share."""
    spec, tensors = inputs.spec, (inspected.facts.inputs, inspected.facts.outputs)
    limit = inputs.max_data_bytes
    evaluation = data.samples(inputs.evaluation, *tensors, max_bytes=limit) if inputs.evaluation else None
    calibration = data.samples(inputs.calibration, *tensors, minimum=1, max_bytes=limit) if inputs.calibration else None
    metric = None
    if evaluation is not None:
        wanted = spec.evaluation.metric if spec.evaluation is not None else None
        metric = wanted or data.default_metric(evaluation)
        data.check_metric(metric, evaluation)
    most = spec.calibration.max_samples if spec.calibration is not None else data.DEFAULT_CALIBRATION
    held_out = calibration is None and evaluation is not None
    if calibration is not None:
        calibration = calibration.part(np.arange(min(most, len(calibration))))
    elif evaluation is not None:
        calibration, evaluation = data.split(evaluation, most)
    samples = measure.inputs_for(inspected.facts.inputs, evaluation or calibration)
    conditions = Conditions(samples, measure.write_warm_model(folder / "warm"))
    return Ground(inspected, calibration, evaluation, held_out, metric, conditions)


def _plan(inputs: Inputs, ground: Ground) -> matrix.Plan:
    calibration = ground.calibration
    available = matrix.Available(
        model_format=ground.inspected.facts.format,
        calibration=calibration is not None,
        calibration_labels=calibration is not None and calibration.labels is not None,
    )
    try:
        return matrix.plan(inputs.entry, available, inputs.spec.candidates)
    except matrix.CandidateError as error:
        raise ConfigurationError(str(error)) from error


def _measured_baseline(inputs: Inputs, ground: Ground, stack: contextlib.ExitStack) -> tuple[Remote[Bench], Baseline]:
    """Measure the source model in its reference runtime at true FP32, and keep its process for the rounds to come.

    Raises:
        BadModelError: It loads, but cannot be run on the inputs.
    """
    source, conditions = ground.inspected.source, ground.conditions
    framework = REFERENCE[source.format]
    subject = Subject(BASELINE, framework, source.path, BASELINE_SETTINGS[framework], inputs.threads)
    try:
        starts = measure.starts(subject, conditions)
        remote = Remote("running the unoptimized model", Bench, subject, conditions.inputs, conditions.warm)
        bench = stack.enter_context(remote)
        outputs = measure.outputs(bench, ground.evaluation) if ground.evaluation is not None else None
        timings = measure.alone(bench)
        starts.append(bench.call("start"))
    except OptimizationError as error:
        if type(error) is not OptimizationError:
            raise
        message = f"the unoptimized model cannot be run on these inputs: {error}"
        raise BadModelError(message) from error
    scored = ground.score(outputs, outputs)
    size = ground.inspected.facts.size_bytes
    return bench, Baseline(subject, starts, timings, scored, outputs, size)


def _make(work: Work) -> Made:
    """Make a candidate; runs in a child process."""
    return backend(work.request.framework).make(work)


class _Trials:
    """Makes candidates and measures each against the baseline."""

    def __init__(self, inputs: Inputs, ground: Ground, baseline: Baseline, bench: Remote[Bench], folder: Path) -> None:
        self._inputs = inputs
        self._ground = ground
        self._baseline = baseline
        self._bench = bench
        self._folder = folder
        self._random = np.random.default_rng(measure.SEED)

    def make(self, planned: matrix.Planned) -> Tried:
        """Make a candidate; when that fails, its result says why and the search goes on.

        Raises:
            OptimizationError: The others could not be made either: the disk is full, or the baseline died.
        """
        request, ground = planned.request, self._ground
        folder = self._folder / planned.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = CandidateResult(
            name=planned.name, framework=request.framework, precision=request.precision, technique=request.technique
        )
        calibration = ground.calibration
        work = Work(
            source=ground.inspected.source,
            request=request,
            folder=folder,
            calibration=calibration,
            metric=ground.metric or (data.default_metric(calibration) if calibration is not None else None),
            half_precision=half_precision(self._inputs.entry, self._inputs.cpu),
            native_int8=native_int8(self._inputs.entry, self._inputs.cpu) is not None,
        )
        tried = Tried(planned, folder, result)
        started = time.monotonic()
        with self._failing(tried):
            tried.made = child.call(f"making {planned.name}", _make, work)
        tried.seconds = time.monotonic() - started
        tried.size_bytes = folder_size(folder)
        return tried

    def measure(self, tried: Tried, made: Made) -> None:
        """Measure a candidate and judge it."""
        planned, ground, conditions = tried.planned, self._ground, self._ground.conditions
        gates = self._inputs.spec.gates
        model = tried.folder / made.model_file
        subject = Subject(planned.name, planned.request.framework, model, made.settings, self._inputs.threads)
        with self._failing(tried):
            starts = measure.starts(subject, conditions)
            with Remote(f"running {planned.name}", Bench, subject, conditions.inputs, conditions.warm) as candidate:
                starts.append(candidate.call("start"))
                outputs = measure.outputs(candidate, ground.evaluation) if ground.evaluation is not None else None
                scored = ground.score(outputs, self._baseline.outputs)

                def compared(pair: Pair) -> dict[Metric, Comparison]:
                    observed = Observed(pair, starts, scored, tried.size_bytes)
                    return comparisons(ground, self._baseline, observed)

                def clear(pair: Pair) -> bool:
                    return settled(compared(pair), gates, ground.meaning)

                pair = measure.paired(self._bench, candidate, self._random, clear)
            found = compared(pair)
            tried.measurements = measurements(ground, found, pair[1], starts)
            tried.histogram = latency_histogram(pair[1])
            pronounce(tried, made, found, gates, ground)

    @contextlib.contextmanager
    def _failing(self, tried: Tried) -> Iterator[None]:
        """Turn a candidate's failure into its result, unless it ends the search."""
        try:
            yield
        except OptimizationError as error:
            if isinstance(error, OutOfDiskError) or not self._bench.alive:
                raise
            tried.fail(str(error))
