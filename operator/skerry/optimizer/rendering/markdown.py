"""The report in short, as Markdown for pull requests and terminals."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from skerry.optimizer.rendering.command import reproduction
from skerry.optimizer.rendering.story import HEADLINES, Figure, Row, Story, streams_in_words, told
from skerry.optimizer.rendering.words import UNKNOWN, clean, duration
from skerry.optimizer.report import Report

_PUNCTUATION: Final = re.compile(r"([\\`*_\[\]<>|~#&$!])")
_BLANKS: Final = re.compile(r"\s+")
_FIGURES: Final = 4
_DIGITS_OF_A_DIGEST: Final = 12
# A forge turns these into links or notifies people, wherever they come from: a character of no width stops it.
_TRIGGER: Final = re.compile(r"(@|://|www\.)")
_STOP: Final = "\N{ZERO WIDTH SPACE}"


def render(report: Report) -> str:
    """Return the report in short; all that came from the model or the user stays plain text."""
    return "\n\n".join(_paragraphs(report, told(report))) + "\n"


def text(value: str) -> str:
    """Return a text that means nothing but itself, on one line."""
    plain = _BLANKS.sub(" ", clean(value)).strip()
    return _PUNCTUATION.sub(r"\\\1", _TRIGGER.sub(rf"\1{_STOP}", plain))


def code(value: str) -> str:
    """Return a text as code, on one line; within a table it must have no bar."""
    plain = _BLANKS.sub(" ", clean(value)).strip()
    fence = _fence(plain, 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}"


def _fence(content: str, least: int) -> str:
    """Return more backticks than follow each other anywhere in a text."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    return "`" * max(least, longest + 1)


def _paragraphs(report: Report, story: Story) -> Iterator[str]:
    yield f"## {text(story.title)}"
    yield f"**{text(story.sentence)}**"
    if story.detail:
        yield text(story.detail)
    yield _table(story)
    if refused := [f"- {code(row.name)}: {text(row.message)}" for row in story.rows[1:] if row.message]:
        yield "\n".join(refused)
    if story.stream_rows:
        yield "\n".join(["Inferences per second with streams at once:", "", *_streams(story)])
    if report.left_out:
        yield "\n".join(["Not tried:", "", *(f"- {code(name)}: {text(why)}" for name, why in report.left_out.items())])
    yield _where(report, story)
    command = reproduction(report)
    if command is not None:
        fence = _fence(command, 3)
        yield f"To do it again:\n\n{fence}sh\n{command}\n{fence}"


def _table(story: Story) -> str:
    places = [place for place, column in enumerate(story.columns) if column.metric in HEADLINES][:_FIGURES]
    columns = [story.columns[place] for place in places]
    heads = [f"{column.label}{f', {column.unit}' if column.unit else ''}" for column in columns]
    lines = [
        _cells(["candidate", "verdict", *(text(head) for head in heads)]),
        _cells(["---", "---", *("---:" for _ in places)]),
    ]
    lines += [
        _cells([_name(row), row.status, *(_figure(row.figures[place]) for place in places)]) for row in story.rows
    ]
    return "\n".join(lines)


def _cells(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"


def _name(row: Row) -> str:
    return f"**{code(row.name)}**" if row.chosen else code(row.name)


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return UNKNOWN
    return f"{figure.value} ({figure.change})" if figure.change else figure.value


def _streams(story: Story) -> Iterator[str]:
    for row in story.stream_rows:
        figures = [
            f"{_figure(figure)} with {streams_in_words(count)}"
            for count, figure in zip(story.streams, row.figures, strict=True)
            if figure is not None
        ]
        yield f"- {code(row.name)}: {', '.join(figures) or text(row.remark)}"


def _where(report: Report, story: Story) -> str:
    machine = report.machine
    cpu = text(machine.host.cpu_model or machine.architecture)
    tools = ", ".join(f"{name} {version}" for name, version in story.tools)
    facts = [
        f"- model {code(report.source_uri)}, SHA-256 {report.source_sha256[:_DIGITS_OF_A_DIGEST]}…",
        f"- measured on {cpu}, {machine.threads} threads, {report.created_at:%Y-%m-%d %H:%M} UTC",
        f"- Skerry {text(report.skerry_version)}{f', {text(tools)}' if tools else ''}",
        f"- {duration(sum(report.stage_seconds.values()))} in all",
    ]
    data = report.evaluation
    if data is not None:
        facts.insert(1, f"- data {code(data.uri)}, {data.samples:,} samples, SHA-256 {data.sha256[:12]}…")
    return "\n".join(facts)
