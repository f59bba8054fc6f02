"""The contracts between the operator, the Job and the server."""

import json

import pytest
from pydantic import ValidationError

from skerry.api.edgemodel import EdgeModelSpec, speedup
from skerry.api.jobcontract import TERMINATION_MESSAGE_LIMIT, ChosenVariant, JobResult, Progress, Stage
from skerry.api.metrics import higher_is_better, unit
from skerry.api.reasons import JobReason
from skerry.api.types import EvaluationMetric, Framework, Metric, MetricFigure, Precision, Requirements, Technique


def chosen(figures: int = 8) -> ChosenVariant:
    metrics = [
        MetricFigure(name=metric, baseline="1.25", value="0.5", unit="ms", message="m" * 200) for metric in list(Metric)
    ]
    return ChosenVariant(
        name="openvino-int8-ptq",
        framework=Framework.OPENVINO,
        precision=Precision.INT8,
        technique=Technique.POST_TRAINING,
        size_bytes=1,
        metrics=metrics[:figures],
        requires=Requirements(architecture="amd64"),
    )


def test_a_termination_message_fits_whatever_it_says() -> None:
    result = JobResult(reason=JobReason.BAD_MODEL, message="ü" * 20_000, chosen=chosen())

    text = result.termination_message()

    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    again = JobResult.model_validate_json(text)
    assert again.reason is JobReason.BAD_MODEL
    assert again.message.startswith("üü")


def test_a_short_termination_message_is_whole() -> None:
    result = JobResult(reason=JobReason.SUCCEEDED, message="fine", artifact="oci://r/m@sha256:" + "0" * 64)

    assert JobResult.model_validate_json(result.termination_message()) == result


def test_progress_is_one_line() -> None:
    line = Progress(stage=Stage.QUANTIZING, percent=40, candidate="openvino-int8-ptq", message="a\nb").line()

    assert "\n" not in line
    assert json.loads(line) == {
        "stage": "Quantizing",
        "percent": 40,
        "candidate": "openvino-int8-ptq",
        "message": "a\nb",
    }


def test_a_message_of_a_newer_version_is_still_read() -> None:
    assert JobResult.model_validate_json('{"reason": "Succeeded", "novelty": 1}').reason is JobReason.SUCCEEDED


def test_an_unknown_field_in_a_spec_is_an_error() -> None:
    with pytest.raises(ValidationError, match="sauce"):
        EdgeModelSpec.model_validate({"source": {"uri": "oci://r/m:1"}, "sauce": {}})


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_has_a_unit_and_a_direction(metric: Metric) -> None:
    assert unit(metric) in {"%", "ms", "1/s", "MiB", "s", "tokens/s", "J"}
    assert higher_is_better(metric) == ("Throughput" in metric or metric is Metric.ACCURACY)


def test_an_error_is_the_better_the_smaller() -> None:
    assert not higher_is_better(Metric.ACCURACY, EvaluationMetric.MEAN_ABSOLUTE_ERROR)
    assert unit(Metric.ACCURACY, EvaluationMetric.MEAN_ABSOLUTE_ERROR) == ""


def test_speedup_is_the_ratio_of_latencies() -> None:
    assert speedup("3.4", "1.0") == "3.4x"
    assert speedup("3.4", "0") == ""
