"""The order of a search: cheap and safe candidates first, then what is still undecided, within the budget."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skerry.api.types import Metric, ModelKind, Objective, Verdict
from skerry.planning.candidates import Plan, Planned, recoveries

_MINUTE: Final = 60.0
_MARGIN: Final = 1.25
"""By how much an estimate of size may be wrong: what would be larger than the smallest by more cannot win."""


@dataclass(frozen=True)
class Limits:
    """How much may be tried; None: no limit.

    Attributes:
        candidates: Number of candidates.
        seconds: Time after which no further candidate is begun.
    """

    candidates: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """What is known of a candidate that was tried.

    Attributes:
        planned: The candidate.
        made: Whether it could be made and measured.
        verdicts: What the gates say of each metric.
        size_percent: Its size in percent of the source model's.
        passed: Whether it passes all gates.
    """

    planned: Planned
    made: bool
    verdicts: Mapping[Metric, Verdict]
    size_percent: float = 100.0
    passed: bool = False

    @property
    def keeps_accuracy(self) -> bool:
        """Whether it was made and no gate on accuracy doubts it."""
        return self.made and self.verdicts.get(Metric.ACCURACY, Verdict.PASSED) is Verdict.PASSED

    @property
    def failed_elsewhere(self) -> list[Metric]:
        """Metrics other than accuracy whose gates it fails for certain."""
        return [
            metric
            for metric, verdict in self.verdicts.items()
            if metric is not Metric.ACCURACY and verdict is Verdict.FAILED
        ]


@dataclass(frozen=True)
class Decision:
    """What to try next; None when the search is over. Of those that were passed over, the reason."""

    candidate: Planned | None
    left_out: Mapping[str, str]


def decide(
    plan: Plan,
    done: Sequence[Trial],
    kind: ModelKind,
    limits: Limits,
    elapsed_seconds: float,
    objective: Objective = Objective.LATENCY_P95,
) -> Decision:
    """Return what to try next.

    Args:
        plan: The candidates of the plan.
        done: What was tried so far, in its order.
        kind: What the model is built of.
        limits: How much may be tried.
        elapsed_seconds: Time since the search began.
        objective: What decides among those that pass. Only a size is known well enough before anything is made: for
            any other objective nothing is left out because of it.
    """
    tried = {trial.planned.name: trial for trial in done}
    left_out: dict[str, str] = {}
    for planned in _order(plan, tried, kind):
        if planned.name in tried:
            continue
        reason = None if plan.asked else _pointless(planned, done) or _larger(planned, done, objective)
        reason = reason or _too_much(limits, len(done), elapsed_seconds)
        if reason is None:
            return Decision(planned, left_out)
        left_out[planned.name] = reason
    return Decision(None, left_out)


def _order(plan: Plan, tried: Mapping[str, Trial], kind: ModelKind) -> Iterator[Planned]:
    """Yield candidates stage by stage; after each stage the recoveries of what lost too much accuracy in it."""
    for stage in sorted({planned.recipe.stage for planned in plan.candidates}):
        within = [planned for planned in plan.candidates if planned.recipe.stage == stage]
        yield from within
        for planned in within:
            if not plan.asked and planned.name in tried:
                yield from _rescue(tried[planned.name], tried, kind)


def _rescue(lost: Trial, tried: Mapping[str, Trial], kind: ModelKind) -> Iterator[Planned]:
    """Yield recoveries one after the other, until one keeps the accuracy."""
    if not lost.made or lost.keeps_accuracy:
        return
    for planned in recoveries(lost.planned, kind):
        yield planned
        found = tried.get(planned.name)
        if found is not None and found.keeps_accuracy:
            return


def _pointless(planned: Planned, done: Sequence[Trial]) -> str | None:
    """Return why a candidate cannot be worth its time after what was found."""
    if planned.recovers:
        lost = next(trial for trial in done if trial.planned.name == planned.recovers)
        if lost.failed_elsewhere:
            return (
                f"{planned.recovers} already fails on {', '.join(lost.failed_elsewhere)}, and what keeps more accuracy "
                "is no better there"
            )
    rescued = planned.recipe.rescues
    family = [trial for trial in done if rescued in {trial.planned.recipe.name, trial.planned.recovers}]
    keeper = next((trial for trial in family if trial.keeps_accuracy), None)
    if rescued and keeper is not None:
        return f"{keeper.planned.name} keeps the accuracy: this takes longer to make and could only be slower"
    return None


def _larger(planned: Planned, done: Sequence[Trial], objective: Objective) -> str | None:
    """Return why a candidate cannot win where the smallest is wanted."""
    passed = [trial for trial in done if trial.passed]
    if objective is not Objective.ARTIFACT_SIZE or not passed:
        return None
    smallest = min(passed, key=lambda trial: trial.size_percent)
    expected = planned.recipe.estimate.size_percent
    if expected <= _MARGIN * smallest.size_percent:
        return None
    return (
        f"{smallest.planned.name} passes with {smallest.size_percent:.0f} % of the model's size, which decides; this "
        f"would have about {expected:.0f} %"
    )


def _too_much(limits: Limits, count: int, elapsed_seconds: float) -> str | None:
    if limits.candidates is not None and count >= limits.candidates:
        return f"{limits.candidates} candidates were tried, as many as spec.optimization.maxCandidates allows"
    if limits.seconds is not None and elapsed_seconds >= limits.seconds:
        return f"the {limits.seconds / _MINUTE:g} minutes of spec.optimization.budgetMinutes were used up"
    return None
