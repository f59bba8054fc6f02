"""What `skerry optimize` shows: a line of progress while it works, then tables."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from skerry.api.jobcontract import Stage
from skerry.api.types import CandidateResult, ModelFacts
from skerry.cli import report_view, screens
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.rendering.files import HTML_FILE
from skerry.optimizer.transfer import Published


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
            self.line(f"{model.format}, {model.parameters:,} parameters, {model.size_bytes / 2**20:.2f} MiB")
        elif result is not None and result.verdict is not None:
            verdict = Text(result.verdict, report_view.STYLES[result.verdict])
            line = Text.assemble("  ", result.name, " ", verdict, f" {result.message}".rstrip())
            self._console.print(line, soft_wrap=True)
        elif not self._console.is_terminal:
            self.line(f"{stage} {detail}".rstrip())

    def line(self, text: str) -> None:
        """Print a line above the progress."""
        if text != self._last:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = text

    def summary(self, stdout: TextIO, outcome: Outcome, folder: Path, published: Published | None) -> None:
        """Show the candidates, the gates of the chosen one, and where everything is."""
        console = screens.console(stdout)
        report_view.show(console, outcome.report)
        if outcome.folder is not None:
            console.print(f"variant: {folder / 'variant'}", markup=False, soft_wrap=True)
        console.print(f"report:  {folder / HTML_FILE}", markup=False, soft_wrap=True)
        if published is not None:
            for reference in (published.artifact, published.report):
                if reference is not None:
                    console.print(f"pushed:  {reference}", markup=False, soft_wrap=True)
