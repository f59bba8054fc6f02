"""In which order a model's variants are preferred where a deployment does not say."""

import math
from collections.abc import Sequence

from skerry.api import labels
from skerry.api.edgemodel import Variant
from skerry.api.metrics import unit
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import EvaluationMetric, Metric
from skerry.planning.pareto import Point, losses


def best_first(variants: Sequence[Variant], spec: OptimizationJobSpec) -> list[Variant]:
    """Return variants in the order of the objective, and then those that are not published.

    The CPU comes after its equals, and after all that are published when one lacks the figure: what cannot be compared
    had better run on what was bought for it. Names decide the rest, so that the order is always the same.
    """
    published = [variant for variant in variants if variant.artifact]
    far = losses([_point(variant) for variant in published], spec.objective, _meaning(spec, published))
    compared = len(far) == len(published)

    def rank(variant: Variant) -> tuple[bool, float, bool, str]:
        cpu = variant.accelerator == labels.CPU
        loss = far.get(variant.accelerator, math.inf)
        return cpu and not compared, loss, cpu, variant.accelerator

    return [*sorted(published, key=rank), *(variant for variant in variants if not variant.artifact)]


def _point(variant: Variant) -> Point:
    figures = {figure.name: float(figure.value) for figure in variant.metrics}
    return Point(variant.accelerator, figures, passed=True)


def _meaning(spec: OptimizationJobSpec, published: Sequence[Variant]) -> EvaluationMetric:
    """Return what accuracy means for the model; where that was left to the data, the figures' unit tells."""
    if spec.evaluation is not None and spec.evaluation.metric is not None:
        return spec.evaluation.metric
    units = {figure.unit for variant in published for figure in variant.metrics if figure.name is Metric.ACCURACY}
    an_error = units == {unit(Metric.ACCURACY, EvaluationMetric.MEAN_ABSOLUTE_ERROR)}
    return EvaluationMetric.MEAN_ABSOLUTE_ERROR if an_error else EvaluationMetric.ACCURACY
