"""The stages between fetching and publishing: inspect, baseline, candidates, measure."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from skerry.api.jobcontract import Stage
from skerry.api.types import CandidateResult, ModelFacts, Technique
from skerry.optimizer import child, data, inspection, measure
from skerry.optimizer.backends.base import BASELINE_DEVICE, BASELINE_SETTINGS, REFERENCE
from skerry.optimizer.bench import Bench, Subject
from skerry.optimizer.child import Remote
from skerry.optimizer.errors import BadModelError, ConfigurationError, OptimizationError
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.measure import Conditions
from skerry.optimizer.trial import BASELINE, Baseline, Ground, Tried, baseline_result
from skerry.optimizer.trials import Inputs, Trials, verdicts_of
from skerry.planning import candidates as matrix
from skerry.planning.gates import GateError, check
from skerry.planning.searching import Limits, Trial, decide

_QUANTIZING: Final = frozenset(
    {Technique.POST_TRAINING, Technique.ACCURACY_AWARE, Technique.WEIGHTS_ONLY, Technique.DYNAMIC}
)
_MINUTE: Final = 60.0
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


def search(inputs: Inputs, reporter: Reporter, folder: Path, clock: StageClock) -> Found:
    """Make and measure candidates, cheap and safe ones first, until what remains cannot win or the budget is spent.

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
            reporter.progress(Stage.BASELINE, 12, message=f"{len(plan.candidates)} candidates are planned")
            bench, baseline = _measured_baseline(inputs, ground, stack)
            reporter.progress(Stage.BASELINE, 18, result=baseline_result(baseline, ground))
        trials = Trials(inputs, ground, baseline, bench, folder)
        tried, left_out = _try_all(inputs, plan, trials, _Progress(reporter, len(plan.candidates)), clock)
    return Found(ground, baseline, tried, {**plan.left_out, **left_out})


@dataclass
class _Progress:
    """Tells how far the search is: as far as candidates of the plan, and of what joined it, are done."""

    reporter: Reporter
    expected: int
    done: int = 0

    def tell(self, stage: Stage, candidate: str, result: CandidateResult | None = None) -> None:
        share = min(self.done / max(self.expected, self.done + 1), 1.0)
        percent = _FIRST_PERCENT + int((_LAST_PERCENT - _FIRST_PERCENT) * share)
        self.reporter.progress(stage, percent, candidate=candidate, result=result)


def _try_all(
    inputs: Inputs, plan: matrix.Plan, trials: Trials, progress: _Progress, clock: StageClock
) -> tuple[list[Tried], Mapping[str, str]]:
    """Return what was tried, in its order, and why the others were not."""
    settings = inputs.spec.optimization
    minutes = settings.budget_minutes
    limits = Limits(settings.max_candidates, None if minutes is None else minutes * _MINUTE)
    started = time.monotonic()
    tried: list[Tried] = []
    while True:
        done = [Trial(each.planned, each.made is not None, verdicts_of(each)) for each in tried]
        decision = decide(plan, done, trials.kind, limits, time.monotonic() - started)
        planned = decision.candidate
        if planned is None:
            return tried, decision.left_out
        stage = Stage.QUANTIZING if planned.request.technique in _QUANTIZING else Stage.CONVERTING
        with clock.timed(stage):
            progress.tell(stage, planned.name)
            attempt = trials.make(planned)
        if attempt.made is not None:
            with clock.timed(Stage.MEASURING):
                progress.tell(Stage.MEASURING, planned.name)
                trials.measure(attempt, attempt.made)
        tried.append(attempt)
        progress.done += 1
        progress.tell(Stage.MEASURING, planned.name, attempt.result)


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
        kind=ground.inspected.source.kind,
        tools=inputs.tools.tools,
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
    device, settings = BASELINE_DEVICE[framework], BASELINE_SETTINGS[framework]
    subject = Subject(BASELINE, framework, source.path, dict(settings), inputs.threads, device)
    place = inputs.tools.running(framework)
    try:
        starts = measure.starts(subject, conditions, place=place)
        what = "running the unoptimized model"
        remote = Remote(what, Bench, subject, conditions.inputs, conditions.warm, place=place)
        bench = stack.enter_context(remote)
        outputs = measure.outputs(bench, ground.evaluation) if ground.evaluation is not None else None
        timings = measure.alone(bench)
        starts.append(bench.call("start"))
    except OptimizationError as error:
        if type(error) is not OptimizationError:
            raise
        message = f"the unoptimized model cannot be run on these inputs: {error}"
        raise BadModelError(message) from error
    scored = ground.score(outputs, outputs) if outputs is not None else None
    size = ground.inspected.facts.size_bytes
    return bench, Baseline(subject, starts, timings, scored, outputs, size)
