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
    Metric.PROMPT_THROUGHPUT: "tokens/s",
    Metric.GENERATION_THROUGHPUT: "tokens/s",
    Metric.TIME_TO_FIRST_TOKEN: "ms",
    Metric.ENERGY_PER_INFERENCE: "J",
}
_MORE_IS_BETTER: Final = (Metric.THROUGHPUT, Metric.PROMPT_THROUGHPUT, Metric.GENERATION_THROUGHPUT)
_LESS_IS_BETTER: Final = (EvaluationMetric.MEAN_ABSOLUTE_ERROR, EvaluationMetric.PERPLEXITY)
_PERCENT: Final = (EvaluationMetric.ACCURACY, EvaluationMetric.F1, EvaluationMetric.AGREEMENT)


def unit(metric: Metric, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> str:
    """Return the unit of a metric; that of Accuracy depends on what accuracy means for the model."""
    if metric is Metric.ACCURACY:
        return "%" if evaluation in _PERCENT else ""
    return _UNITS[metric]


def higher_is_better(metric: Metric, evaluation: EvaluationMetric = EvaluationMetric.ACCURACY) -> bool:
    """Tell whether a larger figure is the better one."""
    if metric is Metric.ACCURACY:
        return evaluation not in _LESS_IS_BETTER
    return metric in _MORE_IS_BETTER
