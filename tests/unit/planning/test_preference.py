"""The order of a model's variants where a deployment does not say."""

import itertools
from typing import Any

import pytest

from skerry.api.edgemodel import Variant
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import Metric, MetricFigure
from skerry.planning.preference import best_first


def variant(accelerator: str, artifact: str | None = "oci://r/m@sha256:1", unit: str = "ms", **figures: str) -> Variant:
    metrics = [MetricFigure(name=Metric(name), value=value, unit=unit) for name, value in figures.items()]
    return Variant(accelerator=accelerator, optimization_job_name="j", artifact=artifact, metrics=metrics)


def order(*variants: Variant, **fields: Any) -> list[str]:
    """Return the names in their order, which is the same however the variants come."""
    spec = OptimizationJobSpec.model_validate({"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu", **fields})
    found = {tuple(each.accelerator for each in best_first(given, spec)) for given in itertools.permutations(variants)}
    assert len(found) == 1
    return list(found.pop())


def test_the_fastest_is_the_first() -> None:
    cpu, gpu, npu = (variant(name, LatencyP95=ms) for name, ms in (("cpu", "2.5"), ("gpu", "0.9"), ("npu", "10.0")))
    assert order(cpu, gpu, npu) == ["gpu", "cpu", "npu"]


def test_more_throughput_is_better() -> None:
    assert order(variant("cpu", Throughput="9"), variant("npu", Throughput="10"), objective="Throughput") == [
        "npu",
        "cpu",
    ]


@pytest.mark.parametrize(
    ("unit", "evaluation", "first"),
    [("%", None, "npu"), ("", None, "gpu"), ("", "CosineSimilarity", "npu"), ("", "MeanAbsoluteError", "gpu")],
)
def test_what_accuracy_means_decides_which_is_better(unit: str, evaluation: str | None, first: str) -> None:
    data = {"evaluation": {"uri": "oci://r/d:1", "metric": evaluation}} if evaluation else {}
    less, more = variant("gpu", Accuracy="0.5", unit=unit), variant("npu", Accuracy="0.9", unit=unit)
    assert order(less, more, objective="Accuracy", **data)[0] == first


def test_balanced_wants_what_is_near_the_best_of_everything() -> None:
    fast = variant("gpu", LatencyP95="1", ModelMemory="100", ArtifactSize="100")
    middle = variant("npu", LatencyP95="2", ModelMemory="20", ArtifactSize="20")
    small = variant("cpu", LatencyP95="9", ModelMemory="10", ArtifactSize="10")
    assert order(fast, middle, small, objective="Balanced") == ["npu", "cpu", "gpu"]


def test_among_equals_the_cpu_is_the_last() -> None:
    assert order(*(variant(name, LatencyP95="1.0") for name in ("cpu", "gpu", "npu"))) == ["gpu", "npu", "cpu"]


def test_where_a_figure_is_missing_the_cpu_is_the_last() -> None:
    cpu, gpu = variant("cpu", LatencyP95="0.1"), variant("gpu", LatencyP95="3.0")
    assert order(cpu, gpu, variant("apex")) == ["gpu", "apex", "cpu"]


def test_what_is_not_published_counts_for_nothing() -> None:
    assert order(variant("cpu", LatencyP95="1.0"), variant("apex", None), variant("npu", LatencyP95="2.0")) == [
        "cpu",
        "npu",
        "apex",
    ]
