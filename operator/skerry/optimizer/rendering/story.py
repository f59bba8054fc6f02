"""What a report says, in sentences and rows: what HTML and Markdown have in common."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from skerry.api.metrics import higher_is_better
from skerry.api.types import EvaluationMetric, Gate, Goal, Metric, MetricFigure, Objective, Verdict
from skerry.optimizer.rendering.words import (
    SYMBOLS,
    clean,
    duration,
    label,
    listed,
    mebibytes,
    number,
    quantity,
    spaced,
    times,
)
from skerry.optimizer.report import CandidateReport, DataReport, Measurement, Report, StreamThroughput

HEADLINES: Final = (
    Metric.ACCURACY,
    Metric.GENERATION_THROUGHPUT,
    Metric.TIME_TO_FIRST_TOKEN,
    Metric.LATENCY_P95,
    Metric.MODEL_MEMORY,
    Metric.ARTIFACT_SIZE,
)
"""Figures by which a variant is judged at a glance, as far as the report has them."""
_BUSY_PERCENT: Final = 10.0
_TILES: Final = 4
_CLASSES: Final = 12
_GOALS: Final = {
    Goal.MIN_IMPROVEMENT: "at least {} better",
    Goal.PERCENT_MIN_IMPROVEMENT: "at least {} % better",
    Goal.MAX_DEGRADATION: "at most {} worse",
    Goal.PERCENT_MAX_DEGRADATION: "at most {} % worse",
}


@dataclass(frozen=True)
class Figure:
    """One figure of a row.

    Attributes:
        value: Figure without unit.
        change: How it compares with the baseline; empty for the baseline itself.
        interval: The 95 % interval; empty where it is the figure itself.
        order: What the rows are sorted by.
        verdict: What the gates on it say.
    """

    value: str
    change: str
    interval: str
    order: float
    verdict: Verdict | None


@dataclass(frozen=True)
class Row:
    """The unoptimized model, or a candidate."""

    number: int
    name: str
    baseline: bool
    chosen: bool
    pareto: bool
    made: str
    computes_in: str
    verdict: Verdict | None
    figures: tuple[Figure | None, ...]
    message: str
    report: CandidateReport

    @property
    def status(self) -> str:
        """The verdict with its symbol, or that it is what the others are compared with."""
        if self.baseline:
            return "reference"
        return f"{SYMBOLS[self.verdict]} {self.verdict}" if self.verdict else "not judged"

    @property
    def kind(self) -> str:
        """One word for how it is drawn."""
        return "baseline" if self.baseline else (self.verdict or "unknown").lower()


@dataclass(frozen=True)
class Column:
    """A metric that the report has figures of."""

    metric: Metric
    label: str
    unit: str
    direction: str


@dataclass(frozen=True)
class StreamRow:
    """The throughput of the unoptimized model, or of a candidate, by number of streams; or why there is none."""

    name: str
    kind: str
    chosen: bool
    figures: tuple[Figure | None, ...]
    remark: str


@dataclass(frozen=True)
class Tile:
    """A figure of what is served, at a glance."""

    label: str
    value: str
    change: str
    before: str


@dataclass(frozen=True)
class Story:
    """All of a report that is shown as text."""

    title: str
    sentence: str
    detail: str
    good: bool
    tiles: tuple[Tile, ...]
    gates: tuple[tuple[str, MetricFigure | None], ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    streams: tuple[int, ...]
    stream_rows: tuple[StreamRow, ...]
    data: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    machine: tuple[tuple[str, str], ...]
    tools: tuple[tuple[str, str], ...]
    stages: tuple[tuple[str, str, float], ...]


def told(report: Report) -> Story:
    """Return the report in words."""
    columns = tuple(_columns(report))
    every = (report.baseline, *report.candidates)
    rows = tuple(_row(report, place, each, columns) for place, each in enumerate(every))
    streams = tuple(sorted({figure.streams for each in every for figure in each.streams}))
    seconds = [value for value in report.stage_seconds.values() if math.isfinite(value)]
    longest = max(seconds, default=0.0)
    return Story(
        title=f"{model_name(report)} on {report.machine.host.accelerator}",
        sentence=sentence(report),
        detail=_detail(report),
        good=report.chosen is not None and report.chosen != report.baseline.result.name,
        tiles=tuple(_tiles(report)),
        gates=tuple(_gates(report)),
        columns=columns,
        rows=rows,
        streams=streams,
        stream_rows=tuple(_stream_row(row, streams) for row in rows if row.report.streams or row.report.streams_remark),
        data=tuple(_data(report)),
        machine=tuple(_machine(report)),
        tools=tuple(sorted({pair for each in every for pair in each.tools.items()})),
        stages=tuple(
            (stage.lower(), duration(value), value / longest if longest else 0.0)
            for stage, value in report.stage_seconds.items()
        ),
    )


def model_name(report: Report) -> str:
    """Return the last part of the model's URI, without tag and digest."""
    last = report.source_uri.rstrip("/").rpartition("/")[2]
    if report.source_uri.startswith("oci://"):
        last = last.partition("@")[0].rpartition(":")[0] or last
    return clean(last) or "model"


def measured(candidate: CandidateReport) -> dict[Metric, Measurement]:
    """Return a candidate's figures by their metric, those that are numbers."""
    return {
        figure.metric: figure
        for figure in candidate.measurements
        if math.isfinite(figure.value) and math.isfinite(figure.baseline)
    }


def served(report: Report) -> CandidateReport | None:
    """Return what was chosen, which may be the unoptimized model."""
    every = (report.baseline, *report.candidates)
    return next((each for each in every if each.result.name == report.chosen), None)


def sentence(report: Report) -> str:
    """Return what was chosen and why, in one sentence."""
    chosen, count = served(report), len(report.candidates)
    gates = "the gate" if len(report.gates) == 1 else f"all {len(report.gates)} gates"
    if count == 0:
        none = "there was no candidate to try"
    elif not report.gates:
        none = "no candidate could be made and measured"
    elif count == 1:
        none = f"the only candidate did not pass {gates}"
    else:
        none = f"none of the {count} candidates passed {gates}"
    if chosen is None:
        return f"No variant was chosen: {none}."
    if chosen is report.baseline:
        return f"The unoptimized model is served, because {none}."
    passed = sum(each.result.verdict is Verdict.PASSED for each in report.candidates)
    if count == 1:
        why = f"it passed {gates}" if report.gates else "it was the only candidate, and no gates were set"
    elif passed == 1:
        why = f"it alone of {count} candidates passed {gates}"
    elif report.gates:
        why = f"of the {passed} out of {count} candidates that passed {gates} it {_merit(report)}"
    else:
        why = f"of {count} candidates it {_merit(report)}, and no gates were set"
    gains = listed(list(_gains(report, chosen)))
    return f"{chosen.result.name} was chosen, because {why}{f': {gains}' if gains else ''}."


def _merit(report: Report) -> str:
    """Return what the objective found best in the chosen one."""
    if report.objective is Objective.BALANCED:
        return "comes nearest to the best of every figure"
    metric = Metric(report.objective.value)
    meaning = report.evaluation_metric
    extreme = "highest" if higher_is_better(metric, meaning or EvaluationMetric.ACCURACY) else "lowest"
    return f"has the {extreme} {label(metric, meaning)}"


def _gains(report: Report, chosen: CandidateReport) -> Iterator[str]:
    """Yield the chosen one's most telling figures beside the baseline's."""
    figures = measured(chosen)
    for metric in HEADLINES:
        figure = figures.get(metric)
        if figure is None or figure.metric is Metric.ARTIFACT_SIZE:
            continue
        ratio = "" if figure.metric is Metric.ACCURACY or not figure.baseline else f" ({_comparison(figure)})"
        value, before = quantity(figure.value, figure.unit), quantity(figure.baseline, figure.unit)
        yield f"{label(figure.metric, report.evaluation_metric)} {value} instead of {before}{ratio}"


def _comparison(figure: Measurement) -> str:
    """Return a ratio in the words that fit the metric."""
    if figure.unit in {"ms", "s"} and figure.value > 0:
        return f"{times(figure.baseline / figure.value)} as fast"
    return times(figure.value / figure.baseline)


def _detail(report: Report) -> str:
    """Return the message of the optimizer where the sentence does not say it already, and how far to trust figures."""
    said = report.chosen is not None and report.chosen != report.baseline.result.name
    caveat = busy(report)
    return " ".join(filter(None, ("" if said else clean(report.message), caveat and f"Mind that {caveat}.")))


def busy(report: Report) -> str:
    """Return a warning where threads had to wait for a CPU; nothing where the machine was idle."""
    every = (report.baseline, *report.candidates)
    longest = max((figure.waited_percent or 0.0 for each in every for figure in each.measurements), default=0.0)
    waited = longest / report.machine.threads
    if waited <= _BUSY_PERCENT:
        return ""
    return (
        f"the machine was busy with other work: threads waited up to {waited:.0f} % of the time for a CPU. When it is "
        "idle, speed-ups may be quite different, intervals are narrower and less is Inconclusive"
    )


def _tiles(report: Report) -> Iterator[Tile]:
    shown = served(report) or report.baseline
    figures, count = measured(shown), 0
    for metric in HEADLINES:
        if metric not in figures or count == _TILES:
            continue
        count += 1
        figure = figures[metric]
        is_baseline = shown is report.baseline
        yield Tile(
            label=label(figure.metric, report.evaluation_metric),
            value=quantity(figure.value, figure.unit),
            change="" if is_baseline else _change(figure, report.evaluation_metric),
            before="unoptimized" if is_baseline else f"was {quantity(figure.baseline, figure.unit)}",
        )


def _gates(report: Report) -> Iterator[tuple[str, MetricFigure | None]]:
    """Yield each gate in words, with the figure of what is served on which it was judged."""
    chosen = served(report)
    figures = {figure.name: figure for figure in chosen.result.metrics} if chosen else {}
    for gate in report.gates:
        figure = figures.get(gate.metric)
        yield in_words(gate, report.evaluation_metric), figure if figure and figure.verdict else None


def in_words(gate: Gate, meaning: EvaluationMetric | None) -> str:
    """Return a gate as latency p95 at least 50 % better."""
    name = label(gate.metric, meaning)
    if gate.goal is Goal.THRESHOLD:
        bound = "at least" if higher_is_better(gate.metric, meaning or EvaluationMetric.ACCURACY) else "at most"
        return f"{name} {bound} {gate.value}"
    return f"{name} {_GOALS[gate.goal].format(gate.value)}"


def _columns(report: Report) -> Iterator[Column]:
    units: dict[Metric, str] = {}
    for each in (report.baseline, *report.candidates):
        for figure in each.measurements:
            units.setdefault(figure.metric, figure.unit)
    meaning = report.evaluation_metric
    for metric in sorted(units, key=lambda it: HEADLINES.index(it) if it in HEADLINES else len(HEADLINES)):
        better = higher_is_better(metric, meaning or EvaluationMetric.ACCURACY)
        direction = "higher is better" if better else "lower is better"
        yield Column(metric, label(metric, meaning), clean(units[metric]), direction)


def _row(report: Report, place: int, each: CandidateReport, columns: tuple[Column, ...]) -> Row:
    result = each.result
    is_baseline = each is report.baseline
    figures = measured(each)
    verdicts = {figure.name: figure.verdict for figure in result.metrics}
    return Row(
        number=place,
        name=result.name,
        baseline=is_baseline,
        chosen=result.name == report.chosen,
        pareto=result.name in report.pareto,
        made=f"{result.framework} · {result.precision} · {spaced(result.technique)}",
        computes_in=clean(result.execution_precision or ""),
        verdict=None if is_baseline else result.verdict,
        figures=tuple(
            _figure(
                figures[column.metric],
                verdicts.get(column.metric),
                "" if is_baseline else _change(figures[column.metric], report.evaluation_metric),
            )
            if column.metric in figures
            else None
            for column in columns
        ),
        message=clean(result.message),
        report=each,
    )


def _stream_row(row: Row, streams: tuple[int, ...]) -> StreamRow:
    known = {figure.streams: figure for figure in row.report.streams if math.isfinite(figure.value)}
    figures = tuple(_stream_figure(known[count], row) if count in known else None for count in streams)
    return StreamRow(row.name, row.kind, row.chosen, figures, clean(row.report.streams_remark))


def _stream_figure(figure: StreamThroughput, row: Row) -> Figure:
    change = times(figure.value / figure.baseline) if figure.baseline and not row.baseline else ""
    interval = "" if figure.low == figure.high else f"{number(figure.low)} to {number(figure.high)}"
    return Figure(number(figure.value), change, interval, figure.value, None)


def streams_in_words(count: int) -> str:
    """Return a number of streams in words."""
    return "1 stream" if count == 1 else f"{count} streams"


def _figure(figure: Measurement, verdict: Verdict | None, change: str) -> Figure:
    interval = "" if figure.low == figure.high else f"{number(figure.low)} to {number(figure.high)}"
    return Figure(number(figure.value), change, interval, figure.value, verdict)


def _change(figure: Measurement, meaning: EvaluationMetric | None) -> str:
    """Return how a figure compares with the baseline: the difference of accuracies, the ratio of all else."""
    if figure.metric is Metric.ACCURACY and higher_is_better(figure.metric, meaning or EvaluationMetric.ACCURACY):
        difference = figure.value - figure.baseline
        sign = "+" if difference > 0 else "\N{MINUS SIGN}" if difference < 0 else "±"
        return f"{sign}{number(abs(difference))}" + (" points" if figure.unit == "%" else "")
    return times(figure.value / figure.baseline) if figure.baseline else ""


def _data(report: Report) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    model = report.model
    shapes = [
        f"{clean(tensor.name)} {tensor.dtype} [{', '.join('any' if size < 0 else str(size) for size in tensor.shape)}]"
        for tensor in (*model.inputs, *model.outputs)
    ]
    size = f"{model.format}, {model.parameters:,} parameters, {mebibytes(model.size_bytes)}"
    facts = (("source", clean(report.source_uri)), ("SHA-256", report.source_sha256), ("model", size))
    yield "Model", (*facts, ("inputs and outputs", "; ".join(shapes)))
    if report.evaluation is not None:
        meaning = spaced(report.evaluation_metric) if report.evaluation_metric else ""
        yield "Evaluation data", (*_facts(report.evaluation), ("measured", meaning))
    if report.calibration is not None:
        yield "Calibration data", _facts(report.calibration)


def _facts(data: DataReport) -> tuple[tuple[str, str], ...]:
    classes = [f"{clean(name)}: {count:,}" for name, count in data.distribution.items()]
    more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
    facts = (
        ("source", clean(data.uri)),
        ("SHA-256", clean(data.sha256)),
        ("samples", f"{data.samples:,}" + (f", {clean(data.remark)}" if data.remark else "")),
        ("samples of each class", ", ".join(classes[:_CLASSES]) + more),
    )
    return tuple((name, value) for name, value in facts if value)


def _machine(report: Report) -> Iterator[tuple[str, str]]:
    machine = report.machine
    facts = (
        ("node", machine.host.node),
        ("CPU", machine.host.cpu_model),
        ("cores", f"{machine.cpu_cores}, of which models used {machine.threads} threads"),
        ("architecture", machine.architecture),
        ("CPU features", ", ".join(machine.cpu_features)),
        ("frequency governor", machine.cpu_governor),
        ("accelerator", machine.host.accelerator),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("Skerry", report.skerry_version),
        ("measured at", report.created_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
    )
    return ((name, clean(value)) for name, value in facts if value)
