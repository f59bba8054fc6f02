"""What `skerry optimize` shows: a line of progress while it works, then tables."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from skerry.api.jobcontract import Stage
from skerry.api.types import CandidateResult, Metric, MetricFigure, ModelFacts, Verdict
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.transfer import Published
from skerry.optimizer.trial import BASELINE

_SHOWN: Final = (
    (Metric.ACCURACY, "accuracy"),
    (Metric.LATENCY_P95, "latency p95"),
    (Metric.MODEL_MEMORY, "memory"),
    (Metric.ARTIFACT_SIZE, "size"),
)
_STYLES: Final = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}
_WIDTH_WITHOUT_TERMINAL: Final = 120
_WIDTH_OF_ONE_LINE: Final = 112
"""Narrower than this, a figure and its change need two lines."""
_BUSY_PERCENT: Final = 10.0


@contextmanager
def libraries_to_log(log: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Send what libraries and child processes print to a file; yield streams to the real stdout and stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = (os.dup(1), os.dup(2))
    try:
        with (
            log.open("wb") as file,
            os.fdopen(os.dup(saved[0]), "w", encoding="utf-8") as stdout,
            os.fdopen(os.dup(saved[1]), "w", encoding="utf-8") as stderr,
        ):
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield stdout, stderr
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


class Screen:
    """Shows progress on a terminal as a bar, elsewhere as a line for each stage; then the results."""

    def __init__(self, stderr: TextIO) -> None:
        self._console = Console(file=stderr)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<12}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=100, stage="", detail="")
        self._stack = ExitStack()
        self._last = ""

    def __enter__(self) -> Self:
        self._stack.enter_context(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def progress(
        self,
        stage: Stage,
        percent: int,
        *,
        candidate: str | None = None,
        message: str = "",
        model: ModelFacts | None = None,
        result: CandidateResult | None = None,
    ) -> None:
        """Show how far it is."""
        detail = candidate or message
        self._bar.update(self._task, completed=percent, stage=stage, detail=detail)
        if model is not None:
            self._line(f"{model.format}, {model.parameters:,} parameters, {model.size_bytes / 2**20:.2f} MiB")
        elif result is not None and result.verdict is not None:
            verdict = Text(result.verdict, _STYLES[result.verdict])
            line = Text.assemble("  ", result.name, " ", verdict, f" {result.message}".rstrip())
            self._console.print(line, soft_wrap=True)
        elif not self._console.is_terminal:
            self._line(f"{stage} {detail}".rstrip())

    def _line(self, text: str) -> None:
        if text != self._last:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = text

    def summary(self, stdout: TextIO, outcome: Outcome, folder: Path, published: Published | None) -> None:
        """Show the candidates, the gates of the chosen one, and where everything is."""
        console = Console(file=stdout, highlight=False)
        if not console.is_terminal:
            console = Console(file=stdout, highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
        machine = outcome.report.machine
        console.print(
            f"{machine.host.cpu_model or machine.architecture}, {machine.threads} threads, batch 1", markup=False
        )
        console.print(_candidates(outcome, narrow=console.width < _WIDTH_OF_ONE_LINE))
        for name, reason in outcome.report.left_out.items():
            console.print(f"not tried: {name}: {reason}", markup=False)
        chosen = next(
            (found for found in outcome.results if outcome.chosen and found.name == outcome.chosen.name), None
        )
        for figure in chosen.metrics if chosen is not None else ():
            if figure.verdict is not None:
                console.print(
                    Text(f"{figure.verdict:<13}", _STYLES[figure.verdict]), Text(figure.message), soft_wrap=True
                )
        console.print(f"{outcome.reason}: {outcome.message}", markup=False, soft_wrap=True)
        if (waited := _waited_percent(outcome)) > _BUSY_PERCENT:
            console.print(
                f"the machine was busy with other work: threads waited up to {waited:.0f} % of the time for a CPU; "
                "when it is idle, intervals are narrower and less is Inconclusive",
                markup=False,
                soft_wrap=True,
            )
        if outcome.folder is not None:
            console.print(f"variant: {folder / 'variant'}", markup=False, soft_wrap=True)
        console.print(f"report:  {folder / 'report.json'}", markup=False, soft_wrap=True)
        if published is not None:
            for reference in (published.artifact, published.report):
                if reference is not None:
                    console.print(f"pushed:  {reference}", markup=False, soft_wrap=True)


def _waited_percent(outcome: Outcome) -> float:
    """Return which part of its time a thread had to wait for a CPU, of the candidate that waited most."""
    reports = (outcome.report.baseline, *outcome.report.candidates)
    waited = (figure.waited_percent or 0.0 for report in reports for figure in report.measurements)
    return max(waited, default=0.0) / outcome.report.machine.threads


def _candidates(outcome: Outcome, *, narrow: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, caption="* Pareto: no other candidate is better in everything", caption_justify="left"
    )
    table.add_column("candidate", overflow="fold")
    table.add_column("in" if narrow else "computes in", no_wrap=True)
    for metric, heading in _SHOWN:
        meaning = outcome.report.evaluation_metric if metric is Metric.ACCURACY else None
        table.add_column(meaning or heading, justify="right", no_wrap=not narrow)
    table.add_column("verdict", no_wrap=True)
    chosen = outcome.chosen.name if outcome.chosen else None
    for result in outcome.results:
        figures = {figure.name: figure for figure in result.metrics}
        verdict = Text(result.verdict, _STYLES[result.verdict]) if result.verdict else Text("")
        table.add_row(
            result.name + (" *" if result.pareto else ""),
            result.execution_precision or "",
            *(_cell(figures.get(metric), baseline=result.name == BASELINE, narrow=narrow) for metric, _ in _SHOWN),
            verdict,
            style="bold" if result.name == chosen else None,
        )
    return table


def _cell(figure: MetricFigure | None, *, baseline: bool, narrow: bool) -> str:
    """Return a figure with its unit, and how it compares with the baseline's."""
    if figure is None:
        return ""
    value = f"{float(figure.value):.3g} {figure.unit}".rstrip()
    if baseline or figure.name is Metric.ACCURACY or not figure.baseline or float(figure.baseline) == 0:
        return value
    between = "\n" if narrow else " "
    return f"{value}{between}{100 * (float(figure.value) / float(figure.baseline) - 1):+5.0f} %"
