"""Choosing among candidates: the Pareto set, and the objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.api.metrics import higher_is_better
from skerry.api.types import EvaluationMetric, Metric, Objective

DIMENSIONS = (Metric.ACCURACY, Metric.LATENCY_P95, Metric.MODEL_MEMORY, Metric.ARTIFACT_SIZE)
"""What the Pareto set looks at."""


@dataclass(frozen=True)
class Point:
    """A candidate as the choice sees it: its name, its figures, and whether it passed the gates."""

    name: str
    figures: Mapping[Metric, float]
    passed: bool


def _losses(point: Point, evaluation: EvaluationMetric) -> tuple[float, ...]:
    """Return the figures of DIMENSIONS that exist, turned so that less is better."""
    return tuple(_loss(point, metric, evaluation) for metric in DIMENSIONS if metric in point.figures)


def _loss(point: Point, metric: Metric, evaluation: EvaluationMetric) -> float:
    figure = point.figures[metric]
    return -figure if higher_is_better(metric, evaluation) else figure


def pareto(points: Sequence[Point], evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> frozenset[str]:
    """Return the names of the points that no other one beats: as good in everything and better in something."""
    losses = {point.name: _losses(point, evaluation) for point in points}

    def beaten(name: str) -> bool:
        mine = losses[name]
        return any(
            len(other) == len(mine) and other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in losses.values()
        )

    return frozenset(name for name in losses if not beaten(name))


def choose(
    points: Sequence[Point], objective: Objective, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY
) -> str | None:
    """Return the name of the best point among those that passed and are in the Pareto set of those that passed.

    Ties are broken by the other dimensions in their order and then by the name, so that the same figures always give the
    same choice. None when no point passed or none has the figure that the objective wants.
    """
    passed = [point for point in points if point.passed]
    front = pareto(passed, evaluation)
    candidates = [point for point in passed if point.name in front]
    if objective is Objective.BALANCED:
        return _nearest_to_ideal(candidates, evaluation)
    metric = Metric(objective.value)
    measured = [point for point in passed if metric in point.figures]
    if metric in DIMENSIONS:
        measured = [point for point in measured if point.name in front]
    if not measured:
        return None
    return min(
        measured, key=lambda point: (_loss(point, metric, evaluation), _losses(point, evaluation), point.name)
    ).name


def _nearest_to_ideal(points: Sequence[Point], evaluation: EvaluationMetric) -> str | None:
    """Return the point nearest to the best of each dimension, each scaled to 0..1 over the points."""
    if not points:
        return None
    rows = {point.name: _losses(point, evaluation) for point in points}
    width = min(len(row) for row in rows.values())
    columns = [[row[index] for row in rows.values()] for index in range(width)]

    def distance(name: str) -> float:
        total = 0.0
        for value, column in zip(rows[name], columns, strict=False):
            best, worst = min(column), max(column)
            total += ((value - best) / (worst - best)) ** 2 if worst > best else 0.0
        return total

    return min(rows, key=lambda name: (distance(name), rows[name], name))
