"""A report on the terminal: the candidates, the gates of the chosen one, and what came of it."""

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.api.types import CandidateResult, Metric, MetricFigure, Verdict
from skerry.optimizer.rendering.story import busy
from skerry.optimizer.rendering.words import clean
from skerry.optimizer.report import Report

STYLES: Final = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}
_SHOWN: Final = (
    (Metric.ACCURACY, "accuracy"),
    (Metric.LATENCY_P95, "latency p95"),
    (Metric.MODEL_MEMORY, "memory"),
    (Metric.ARTIFACT_SIZE, "size"),
)
_WIDTH_OF_ONE_LINE: Final = 112
"""Narrower than this, a figure and its change need two lines."""


def show(screen: Console, report: Report) -> None:
    """Show a report in short; what others wrote into it cannot act on the terminal."""
    machine = report.machine
    name = clean(machine.host.cpu_model or machine.architecture)
    screen.print(f"{name}, {machine.threads} threads, batch 1", markup=False)
    results = [each.result for each in (report.baseline, *report.candidates)]
    screen.print(_candidates(report, results, narrow=screen.width < _WIDTH_OF_ONE_LINE))
    for candidate, reason in report.left_out.items():
        screen.print(f"not tried: {clean(candidate)}: {clean(reason)}", markup=False)
    chosen = next((found for found in results if found.name == report.chosen), None)
    for figure in chosen.metrics if chosen is not None else ():
        if figure.verdict is not None:
            screen.print(
                Text(f"{figure.verdict:<13}", STYLES[figure.verdict]), Text(clean(figure.message)), soft_wrap=True
            )
    screen.print(f"{clean(report.reason)}: {clean(report.message)}", markup=False, soft_wrap=True)
    if caveat := busy(report):
        screen.print(caveat, markup=False, soft_wrap=True)


def _candidates(report: Report, results: list[CandidateResult], *, narrow: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, caption="* Pareto: no other candidate is better in everything", caption_justify="left"
    )
    table.add_column("candidate", overflow="fold")
    table.add_column("in" if narrow else "computes in", no_wrap=True)
    for metric, heading in _SHOWN:
        meaning = report.evaluation_metric if metric is Metric.ACCURACY else None
        table.add_column(meaning or heading, justify="right", no_wrap=not narrow)
    table.add_column("verdict", no_wrap=True)
    baseline = report.baseline.result.name
    for result in results:
        figures = {figure.name: figure for figure in result.metrics}
        verdict = Text(result.verdict, STYLES[result.verdict]) if result.verdict else Text("")
        table.add_row(
            result.name + (" *" if result.pareto else ""),
            Text(clean(result.execution_precision or "")),
            *(_cell(figures.get(metric), baseline=result.name == baseline, narrow=narrow) for metric, _ in _SHOWN),
            verdict,
            style="bold" if result.name == report.chosen else None,
        )
    return table


def _cell(figure: MetricFigure | None, *, baseline: bool, narrow: bool) -> Text:
    """Return a figure with its unit, and how it compares with the baseline's."""
    if figure is None:
        return Text("")
    value = f"{float(figure.value):.3g} {clean(figure.unit)}".rstrip()
    if baseline or figure.name is Metric.ACCURACY or not figure.baseline or float(figure.baseline) == 0:
        return Text(value)
    between = "\n" if narrow else " "
    return Text(f"{value}{between}{100 * (float(figure.value) / float(figure.baseline) - 1):+5.0f} %")
