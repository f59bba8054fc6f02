"""The files that a report is kept in."""

from dataclasses import dataclass
from typing import Final

from skerry.api.artifact import REPORT_ARTIFACT_TYPE
from skerry.optimizer.rendering import html, markdown
from skerry.optimizer.report import Report

JSON_FILE: Final = "report.json"
HTML_FILE: Final = "report.html"
MARKDOWN_FILE: Final = "report.md"


@dataclass(frozen=True)
class ReportFile:
    """One form of the report: its file name, its media type and its bytes."""

    name: str
    media_type: str
    content: bytes


def report_files(report: Report) -> list[ReportFile]:
    """Return the report in all its forms, the JSON first: it is the one that the others are made of."""
    document = report.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    return [
        ReportFile(JSON_FILE, REPORT_ARTIFACT_TYPE, document.encode()),
        ReportFile(HTML_FILE, "text/html", html.render(report).encode()),
        ReportFile(MARKDOWN_FILE, "text/markdown", markdown.render(report).encode()),
    ]
