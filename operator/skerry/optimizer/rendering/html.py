"""The report as one HTML file that asks for nothing else: style, drawings and script are inside."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from skerry.optimizer.rendering import charts
from skerry.optimizer.rendering.command import reproduction
from skerry.optimizer.rendering.story import streams_in_words, told
from skerry.optimizer.rendering.words import SYMBOLS, clean, duration, mebibytes
from skerry.optimizer.report import Report

_FOLDER: Final = Path(__file__).parent / "templates"


def render(report: Report) -> str:
    """Return the report as an HTML document; all that came from the model or the user is escaped."""
    story = told(report)
    script = _file("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            story=story,
            plots=[
                plot for paper in (charts.WIDE, charts.NARROW) if (plot := charts.trade_off(report, story.rows, paper))
            ],
            distributions=[
                ridges
                for paper in (charts.WIDE, charts.NARROW)
                if (ridges := charts.distributions(story.rows, paper.width))
            ],
            sensitivities=charts.sensitivities(story.rows),
            command=reproduction(report),
            style=Markup(_file("report.css")),  # noqa: S704 - a file of ours
            script=Markup(script),  # noqa: S704 - a file of ours
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


@cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    environment.filters.update(duration=duration, mebibytes=mebibytes, streams=streams_in_words)
    environment.globals.update(symbols=SYMBOLS)
    return environment


def _printable(value: Any) -> Any:
    """Take from a text what a browser would act on rather than show; escaping comes after."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
