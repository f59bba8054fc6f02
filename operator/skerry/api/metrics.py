"""Unit and direction of each metric."""

from typing import Final

from skerry.api.types import EvaluationMetric, Metric

_UNITS: Final = {
    Metric.LATENCY_P50: "ms",
    Metric.LATENCY_P95: "ms",
    Metric.LATENCY_P99: "ms",
    Metric.THROUGHPUT: "1/s",
    Metric.MODEL_MEMORY: "MiB",
    Metric.ARTIFACT_SIZE: "MiB",
    Metric.STARTUP_TIME: "s",
}
_PERCENT: Final = (EvaluationMetric.ACCURACY, EvaluationMetric.F1, EvaluationMetric.AGREEMENT)


def unit(metric: Metric, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> str:
    """Return the unit of a metric; that of Accuracy depends on what accuracy means for the model."""
    if metric is Metric.ACCURACY:
        return "%" if evaluation in _PERCENT else ""
    return _UNITS[metric]


def higher_is_better(metric: Metric, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> bool:
    """Tell whether a larger figure is the better one."""
    if metric is Metric.ACCURACY:
        return evaluation is not EvaluationMetric.MEAN_ABSOLUTE_ERROR
    return metric is Metric.THROUGHPUT
