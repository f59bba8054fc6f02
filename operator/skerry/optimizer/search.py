"""The stages between fetching and publishing: inspect, baseline, candidates, measure."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from skerry.accelerators.recipes import REFERENCE
from skerry.api.jobcontract import Stage
from skerry.api.types import CandidateResult, ModelFacts, ModelFormat, Technique, WhenNoneQualifies
from skerry.optimizer import boundary, child, conversion, inspection, language_inspection
from skerry.optimizer.child import Place
from skerry.optimizer.detect import locate
from skerry.optimizer.errors import ConfigurationError, UnsupportedFormatError
from skerry.optimizer.grounding import ground, measured_baseline
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.trial import Baseline, Ground, Tried, baseline_result
from skerry.optimizer.trials import Inputs, Trials, verdicts_of
from skerry.planning import candidates as matrix
from skerry.planning.gates import GateError, check
from skerry.planning.pareto import choose
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
        shared = ground(inputs, inspected, folder)
        plan = _plan(inputs, shared)
    with contextlib.ExitStack() as stack:
        with clock.timed(Stage.BASELINE):
            reporter.progress(Stage.BASELINE, 12, message=f"{len(plan.candidates)} candidates are planned")
            bench, baseline = measured_baseline(inputs, shared, stack, folder)
            reporter.progress(Stage.BASELINE, 18, result=baseline_result(baseline, shared))
        trials = Trials(inputs, shared, baseline, bench, folder)
        progress = _Progress(reporter, len(plan.candidates))
        tried, left_out = _try_all(inputs, plan, trials, progress, clock)
        tried = _with_files(inputs, tried, trials, progress, clock)
    return Found(shared, baseline, tried, {**plan.left_out, **left_out})


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
        done = [_trial(each, trials.source_bytes) for each in tried]
        decision = decide(plan, done, trials.kind, limits, time.monotonic() - started, inputs.spec.objective)
        planned = decision.candidate
        if planned is None:
            return tried, decision.left_out
        attempt = trials.recall(planned) or _attempt(trials, planned, progress, clock)
        tried.append(attempt)
        progress.done += 1
        progress.tell(Stage.MEASURING, planned.name, attempt.result)


def _trial(tried: Tried, source_bytes: int) -> Trial:
    return Trial(
        tried.planned,
        tried.made is not None,
        verdicts_of(tried),
        100.0 * tried.size_bytes / source_bytes,
        tried.point is not None and tried.point.passed,
    )


def _attempt(trials: Trials, planned: matrix.Planned, progress: _Progress, clock: StageClock) -> Tried:
    """Make a candidate and measure it."""
    stage = Stage.QUANTIZING if planned.request.technique in _QUANTIZING else Stage.CONVERTING
    with clock.timed(stage):
        progress.tell(stage, planned.name)
        attempt = trials.begin(planned)
    if attempt.made is not None:
        with clock.timed(Stage.MEASURING):
            progress.tell(Stage.MEASURING, planned.name)
            trials.measure(attempt, attempt.made)
    return attempt


def _with_files(
    inputs: Inputs, tried: list[Tried], trials: Trials, progress: _Progress, clock: StageClock
) -> list[Tried]:
    """Return the candidates, the one that will be chosen with its files.

    After an interruption only the figures are left of what was measured before: the winner is made anew, and where that
    does not give the same files it is measured anew as well, which may change who wins.
    """
    while True:
        points = [each.point for each in tried if each.point is not None]
        best = choose(points, inputs.spec.objective, trials.meaning)
        place = next((index for index, each in enumerate(tried) if each.result.name == best), None)
        if place is None or not tried[place].recalled:
            return tried
        progress.tell(Stage.CONVERTING, tried[place].planned.name)
        if not trials.bring_back(tried[place]):
            tried[place] = _attempt(trials, tried[place].planned, progress, clock)


def _check_gates(inputs: Inputs) -> None:
    for gate in inputs.spec.gates:
        try:
            check(gate)
        except GateError as error:
            raise ConfigurationError(str(error)) from error


def _inspected(inputs: Inputs, folder: Path) -> Inspected:
    """Inspect the model in a child process, where the reference runtime of its format is.

    Whatever goes wrong there is the model's fault.
    """
    spec = inputs.spec
    model, wanted = conversion.to_onnx(inputs.model, spec.model.format, inputs.tools, folder / "converted")
    if language_inspection.is_language_model(model, wanted):
        inspected = language_inspection.inspect(model, wanted, inputs.tools)
        boundary.check_source(inspected.source, inputs.roots)
        return inspected
    _, found = child.call("looking for the model", locate, model, wanted)
    place = _reference(inputs, found)
    what = "inspecting the model"
    inspected = child.call(what, inspection.inspect, model, found, spec.inputs, folder / "pinned", place=place)
    boundary.check_source(inspected.source, inputs.roots)
    if model == inputs.model or not inputs.model.is_dir():
        return inspected
    return replace(inspected, source=replace(inspected.source, folder=inputs.model))


def _reference(inputs: Inputs, found: ModelFormat) -> Place:
    """Return where the reference runtime of a format is.

    Raises:
        UnsupportedFormatError: It is not here.
    """
    try:
        return inputs.tools.running(REFERENCE[found])
    except ConfigurationError as error:
        message = f"the model is {found}; {error}"
        raise UnsupportedFormatError(message) from error


def _plan(inputs: Inputs, shared: Ground) -> matrix.Plan:
    calibration = shared.calibration
    available = matrix.Available(
        model_format=shared.inspected.facts.format,
        calibration=calibration is not None or shared.calibration_text is not None,
        calibration_labels=calibration is not None and calibration.labels is not None,
        kind=shared.inspected.source.kind,
        tools=inputs.tools.tools,
    )
    try:
        found = matrix.plan(inputs.entry, available, inputs.spec.candidates)
    except matrix.CandidateError as error:
        raise ConfigurationError(str(error)) from error
    if not found.candidates and inputs.spec.when_none_qualifies is WhenNoneQualifies.FAIL:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        message = f"there is nothing to try for {inputs.entry.name}: {reasons or 'the matrix has no candidates for it'}"
        raise ConfigurationError(message)
    return found
