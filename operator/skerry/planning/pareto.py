"""Choosing among candidates: the Pareto set, and the objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skerry.api.metrics import higher_is_better
from skerry.api.types import EvaluationMetric, Metric, Objective

DIMENSIONS: Final = (Metric.ACCURACY, Metric.LATENCY_P95, Metric.MODEL_MEMORY, Metric.ARTIFACT_SIZE)
"""What the Pareto set looks at."""

Losses = dict[Metric, float]
"""Figures turned so that less is better."""


@dataclass(frozen=True)
class Point:
    """A candidate as the choice sees it: its name, its figures, and whether it passed the gates."""

    name: str
    figures: Mapping[Metric, float]
    passed: bool


def _loss(point: Point, metric: Metric, evaluation: EvaluationMetric) -> float:
    figure = point.figures[metric]
    return -figure if higher_is_better(metric, evaluation) else figure


def _losses(point: Point, evaluation: EvaluationMetric) -> Losses:
    return {metric: _loss(point, metric, evaluation) for metric in DIMENSIONS if metric in point.figures}


def _beats(other: Losses, mine: Losses) -> bool:
    """Tell whether a point is as good in everything and better in something; other figures cannot be compared."""
    return other.keys() == mine.keys() and other != mine and all(other[metric] <= mine[metric] for metric in mine)


def pareto(points: Sequence[Point], evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> frozenset[str]:
    """Return the names of the points that no other one beats."""
    losses = {point.name: _losses(point, evaluation) for point in points}
    return frozenset(name for name, mine in losses.items() if not any(_beats(it, mine) for it in losses.values()))


def choose(
    points: Sequence[Point], objective: Objective, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY
) -> str | None:
    """Return the name of the best point among those that passed the gates.

    Only points are considered that no other passed point beats, unless the objective is outside the Pareto set's
    dimensions. Ties are broken by the other dimensions in their order and then by the name, so that the same figures
    always give the same choice. None when no point passed or none has the figure that the objective wants.
    """
    passed = [point for point in points if point.passed]
    front = pareto(passed, evaluation)
    unbeaten = [point for point in passed if point.name in front]
    if objective is Objective.BALANCED:
        return _nearest_to_ideal(unbeaten, evaluation)
    metric = Metric(objective.value)
    eligible = [point for point in (unbeaten if metric in DIMENSIONS else passed) if metric in point.figures]

    def rank(point: Point) -> tuple[float, tuple[float, ...], str]:
        return _loss(point, metric, evaluation), tuple(_losses(point, evaluation).values()), point.name

    return min(eligible, key=rank).name if eligible else None


def losses(
    points: Sequence[Point], objective: Objective, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY
) -> dict[str, float]:
    """Return how far each point is from what the objective wants, less is better; not of those without its figure."""
    if objective is Objective.BALANCED:
        return _distances({point.name: _losses(point, evaluation) for point in points})
    metric = Metric(objective.value)
    return {point.name: _loss(point, metric, evaluation) for point in points if metric in point.figures}


def _shared(rows: Mapping[str, Losses]) -> list[Metric]:
    return [metric for metric in DIMENSIONS if rows and all(metric in row for row in rows.values())]


def _distances(rows: Mapping[str, Losses]) -> dict[str, float]:
    """Return each point's distance to the best of each dimension that all have, each scaled to 0..1 over the points."""
    totals = dict.fromkeys(rows, 0.0)
    for metric in _shared(rows):
        column = [row[metric] for row in rows.values()]
        best, worst = min(column), max(column)
        for name, row in rows.items():
            totals[name] += ((row[metric] - best) / (worst - best)) ** 2 if worst > best else 0.0
    return totals


def _nearest_to_ideal(points: Sequence[Point], evaluation: EvaluationMetric) -> str | None:
    """Return the point with the least distance."""
    rows = {point.name: _losses(point, evaluation) for point in points}
    distances, shared = _distances(rows), _shared(rows)

    def rank(name: str) -> tuple[float, tuple[float, ...], str]:
        return distances[name], tuple(rows[name][metric] for metric in shared), name

    return min(rows, key=rank, default=None)
