"""The choice in one sentence, and numbers as people read them."""

import pytest

from skerry.api.types import EvaluationMetric, Gate, Metric, Objective, Verdict
from skerry.optimizer.rendering.story import busy, in_words, sentence, told
from skerry.optimizer.rendering.words import clean, duration, label, number, shortened
from skerry.optimizer.report import Measurement, Report
from tests.support.reports import candidate, report
from tests.unit.optimizer.rendering.samples import SAMPLES

FIGURES = {"Accuracy": 89.0, "LatencyP95": 1.0, "ModelMemory": 10.0}


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("no candidate", "No variant was chosen: there was no candidate to try."),
        ("all failed", "No variant was chosen: none of the 3 candidates passed all 3 gates."),
        ("the baseline", "The unoptimized model is served, because the only candidate did not pass all 3 gates."),
        ("one candidate", "only was chosen, because it passed all 3 gates: accuracy 90 % instead of 90 %, latency p95"),
        ("without gates", "only was chosen, because it was the only candidate, and no gates were set: accuracy"),
        ("several", "quick was chosen, because of the 2 out of 4 candidates that passed all 3 gates it has the lowest"),
        (
            "language",
            "llamacpp-q4-k-m was chosen, because it passed all 3 gates: perplexity 12 instead of 10, generation",
        ),
        ("without accuracy", "one was chosen, because it passed all 3 gates: latency p95 2 ms instead of 4 ms (2x as"),
    ],
)
def test_the_choice_in_one_sentence(name: str, beginning: str) -> None:
    plain = sentence(SAMPLES[name]()).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MULTIPLICATION SIGN}", "x")
    assert plain.startswith(beginning)


def test_the_objective_is_the_reason() -> None:
    pair = (candidate("one", FIGURES), candidate("other", FIGURES))
    accuracy = report(*pair, chosen="one", objective=Objective.ACCURACY)
    assert "it has the highest accuracy" in sentence(accuracy)
    error = accuracy.model_copy(update={"evaluation_metric": EvaluationMetric.MEAN_ABSOLUTE_ERROR})
    assert "it has the lowest mean absolute error" in sentence(error)
    assert "nearest to the best of every figure" in sentence(report(*pair, chosen="one", objective=Objective.BALANCED))
    alone = report(pair[0], candidate("bad", verdict=Verdict.FAILED), chosen="one")
    assert "it alone of 2 candidates passed all 3 gates" in sentence(alone)


def test_gates_in_words() -> None:
    def words(metric: str, goal: str, value: str) -> str:
        return in_words(Gate.model_validate({"metric": metric, "goal": goal, "value": value}), None)

    assert words("LatencyP95", "PercentMinImprovement", "50") == "latency p95 at least 50 % better"
    assert words("Accuracy", "MaxDegradation", "2") == "accuracy at most 2 worse"
    assert words("Throughput", "Threshold", "100") == "throughput at least 100"
    assert words("StartupTime", "Threshold", "3") == "startup at most 3"


def test_columns_begin_with_what_counts() -> None:
    story = told(SAMPLES["several"]())
    assert [column.label for column in story.columns] == ["accuracy", "latency p95", "memory", "size"]
    assert [tile.label for tile in story.tiles] == ["accuracy", "latency p95", "memory", "size"]


def test_accuracy_is_compared_by_its_difference_and_errors_by_their_ratio() -> None:
    accuracy, error = (told(SAMPLES[name]()).rows[1].figures[0] for name in ("several", "language"))
    assert accuracy is not None
    assert error is not None
    assert accuracy.change == "\N{MINUS SIGN}1 points"
    assert error.change == "1.2\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.082529, "0.0825"),
        (1.0, "1"),
        (99.96, "100"),
        (100.0, "100"),
        (120.0, "120"),
        (999.9, "1,000"),
        (12345.6, "12,346"),
        (1.5e300, "1.50e+300"),
        (0.00001, "1.00e-05"),
        (-2.5, "-2.5"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_words() -> None:
    assert (duration(3.21), duration(75), duration(59.99)) == ("3.21 s", "1 min 15 s", "60 s")
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert shortened("abc", 3) == "abc"
    assert label(Metric.ACCURACY, EvaluationMetric.COSINE_SIMILARITY) == "cosine similarity"
    assert clean("a\x1b[31m\u202eb\n") == "a\ufffd[31m\ufffdb\n"


def test_a_busy_machine_is_told_beside_the_choice() -> None:
    made = SAMPLES["several"]()
    idle = [figure.model_copy(update={"waited_percent": 3.0}) for figure in made.baseline.measurements]
    waited = [figure.model_copy(update={"waited_percent": 80.0}) for figure in made.baseline.measurements]
    calm = [each.model_copy(update={"measurements": []}) for each in made.candidates]

    def with_figures(figures: list[Measurement]) -> Report:
        baseline = made.baseline.model_copy(update={"measurements": figures})
        return made.model_copy(update={"baseline": baseline, "candidates": calm})

    assert busy(with_figures(idle)) == ""
    share = 80 // made.machine.threads
    assert f"threads waited up to {share} % of the time for a CPU" in busy(with_figures(waited))
    whole = made.model_copy(update={"baseline": made.baseline.model_copy(update={"measurements": waited})})
    assert told(whole).detail.startswith("Mind that the machine was busy")


def test_throughput_by_number_of_streams() -> None:
    story = told(SAMPLES["several"]())
    times = "\N{MULTIPLICATION SIGN}"
    assert story.streams == (1, 2)
    told_of = {
        row.name: [(figure.value, figure.change) if figure else None for figure in row.figures]
        for row in story.stream_rows
    }
    assert told_of == {
        "baseline": [("100", ""), ("150", "")],
        "quick": [("200", f"2{times}"), ("450", f"3{times}")],
        "exact": [("120", f"1.2{times}"), None],
        "vague": [None, None],
    }
    assert [row.remark for row in story.stream_rows] == ["", "", "", "not measured: memory ran out"]
    assert told(SAMPLES["language"]()).stream_rows == ()
