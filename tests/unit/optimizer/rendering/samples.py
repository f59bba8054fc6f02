"""Reports at the edges of what there can be."""

from collections.abc import Callable
from typing import Any

from skerry.api.types import EvaluationMetric, Metric, Objective, Verdict
from skerry.optimizer.report import LayerSensitivity, Report, StreamThroughput
from tests.support.reports import candidate, histogram, report

HOSTILE = "</script></style><img src=x onerror=alert(1)>'\"`|*_[a](javascript:x) {{ 7*7 }} @all \x1b[31m\u202e\x00 &lt;"


def _figures(latency: float, accuracy: float, memory: float = 20.0) -> dict[str, float]:
    return {"Accuracy": accuracy, "LatencyP95": latency, "ModelMemory": memory, "ArtifactSize": 5.0}


def _streams(*values: float) -> list[StreamThroughput]:
    """Return the throughput with one stream and more, beside a baseline with 100 and 150."""
    return [
        StreamThroughput(streams=count, value=value, low=0.9 * value, high=value, baseline=before, runs=50, turns=8)
        for count, value, before in zip((1, 2), values, (100.0, 150.0), strict=False)
    ]


def several() -> Report:
    first = candidate("quick", _figures(1.0, 89.0, 10.0))
    second = candidate("exact", _figures(1.6, 90.0))
    third = candidate("vague", _figures(2.0, 89.5), verdict=Verdict.INCONCLUSIVE, message="it is not certain")
    broken = candidate("broken", verdict=Verdict.FAILED, message="Inverse is not known")
    update = {"latency_histogram": histogram(1, 5, 3), "tools": {"onnxruntime": "1.31"}, "options": {"a": "b"}}
    made = report(
        first.model_copy(update={**update, "streams": _streams(200.0, 450.0)}),
        second.model_copy(update={"streams": _streams(120.0)}),
        third.model_copy(update={"streams_remark": "not measured: memory ran out"}),
        broken,
        chosen="quick",
        pareto=["exact", "quick"],
        left_out={"openvino-int8-aware": "it needs labels"},
    )
    return made.model_copy(update={"baseline": made.baseline.model_copy(update={"streams": _streams(100.0, 150.0)})})


def many() -> Report:
    verdicts = list(Verdict)
    return report(
        *(
            candidate(f"candidate-{place}", _figures(1 + place / 10, 80 + place % 7, 1 + place), verdicts[place % 3])
            for place in range(40)
        ),
        chosen="candidate-0",
    )


def huge() -> Report:
    return report(candidate("large", _figures(1.5e300, 1e15, 9e99)), candidate("small", _figures(1e-300, -1e15, 1e-9)))


def nowhere_a_number() -> Report:
    return report(candidate("odd", _figures(float("nan"), float("inf"))))


def long_names() -> Report:
    return report(
        candidate("a" * 63, _figures(1.0, 89.0)),
        candidate("b" * 63, _figures(1.0, 89.0)),
        chosen="a" * 63,
        source_uri=f"oci://registry/{'long/' * 100}model:1",
    )


def without_accuracy() -> Report:
    bare = {"LatencyP95": 2.0, "ModelMemory": 20.0, "ArtifactSize": 5.0}
    made = report(candidate("one", bare), chosen="one", evaluation=None, evaluation_metric=None)
    figures = [it for it in made.baseline.measurements if it.metric is not Metric.ACCURACY]
    return made.model_copy(update={"baseline": made.baseline.model_copy(update={"measurements": figures})})


def language() -> Report:
    """A language model: perplexity instead of accuracy, tokens instead of inferences."""
    meaning = EvaluationMetric.PERPLEXITY
    before = {
        Metric.ACCURACY: 10.0,
        Metric.GENERATION_THROUGHPUT: 20.0,
        Metric.TIME_TO_FIRST_TOKEN: 80.0,
        Metric.MODEL_MEMORY: 40.0,
    }
    figures = {"Accuracy": 12.0, "GenerationThroughput": 50.0, "TimeToFirstToken": 40.0, "ModelMemory": 20.0}
    plain = {metric.value: value for metric, value in before.items()}
    return report(
        candidate("llamacpp-q4-k-m", figures, beside=before, meaning=meaning),
        chosen="llamacpp-q4-k-m",
        baseline=candidate("baseline", plain, None, beside=before, meaning=meaning),
        evaluation_metric=meaning,
        objective=Objective.GENERATION_THROUGHPUT,
    )


def hostile() -> Report:
    """A report in which everything that is free text is an attack."""
    it = candidate("it", _figures(1.0, 89.0), verdict=Verdict.FAILED, message=HOSTILE)
    texts = {HOSTILE: HOSTILE}
    update: dict[str, Any] = {"options": texts, "settings": texts, "tools": texts}
    update["sensitivity"] = [LayerSensitivity(name=HOSTILE, degradation=0.5)]
    update["latency_histogram"] = histogram(3, 4)
    update["streams_remark"] = HOSTILE
    made = report(it.model_copy(update=update), left_out=texts, message=HOSTILE, reason=HOSTILE)
    host = made.machine.host.model_copy(update={"node": HOSTILE, "cpu_model": HOSTILE, "accelerator": HOSTILE[:60]})
    machine = made.machine.model_copy(
        update={
            "host": host,
            **dict.fromkeys(("architecture", "kernel", "python", "cpu_governor"), HOSTILE),
            "cpu_features": [HOSTILE],
        }
    )
    tensor = made.model.inputs[0].model_copy(update={"name": HOSTILE})
    assert made.evaluation is not None
    assert made.spec is not None
    data = made.evaluation.model_copy(update={"uri": HOSTILE, "remark": HOSTILE, "distribution": {HOSTILE: 3}})
    return made.model_copy(
        update={
            "machine": machine,
            "model": made.model.model_copy(update={"inputs": [tensor]}),
            "evaluation": data,
            "calibration": data,
            "source_uri": HOSTILE,
            "skerry_version": HOSTILE,
            "method": HOSTILE,
            "stage_seconds": {HOSTILE: 1.0},
            "spec": made.spec.model_copy(update={"model": made.spec.model.model_copy(update={"uri": HOSTILE})}),
        }
    )


SAMPLES: dict[str, Callable[[], Report]] = {
    "several": several,
    "no candidate": report,
    "one candidate": lambda: report(candidate("only", _figures(1.0, 90.0)), chosen="only"),
    "all failed": lambda: report(*(candidate(f"c{place}", verdict=Verdict.FAILED, message="no") for place in range(3))),
    "the baseline": lambda: report(candidate("c", _figures(9.0, 9.0), Verdict.FAILED), chosen="baseline"),
    "many": many,
    "huge": huge,
    "nowhere a number": nowhere_a_number,
    "long names": long_names,
    "without accuracy": without_accuracy,
    "language": language,
    "without gates": lambda: report(candidate("only", _figures(1.0, 90.0)), gates=[], chosen="only"),
    "without a spec": lambda: report(spec=None, stage_seconds={}),
    "hostile": hostile,
}
