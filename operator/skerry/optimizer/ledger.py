"""What was measured is written down, so that a Job that is evicted goes on after the last finished candidate.

A record is found again by a key of everything that the figures hang on. It has the figures, not the files: when the
winner's files are not here any more it is made again, which for most tools gives the same bytes, and is measured again
only where it does not.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import Field, ValidationError

from skerry.accelerators.recipes import Tool
from skerry.api.meta import StatusModel
from skerry.api.types import CandidateRequest, Metric
from skerry.optimizer.backends.base import Made
from skerry.optimizer.report import METHOD, LatencyHistogram, Measurement, StreamThroughput
from skerry.planning.gates import Comparison
from skerry.version import version

_SUFFIX: Final = ".json"


class MadeRecord(StatusModel):
    """How a candidate is run, as its tool said when it made it."""

    model_file: str
    settings: dict[str, str]
    execution_precision: str
    tools: dict[str, str]
    remark: str
    sensitivity: list[tuple[str, float]]
    tool_metrics: dict[str, float]
    emulated: str = ""
    architecture: str = ""
    one_by_one: bool = False


class ComparisonRecord(StatusModel):
    """A figure beside the baseline's."""

    baseline: float
    value: float
    low: float
    high: float


class Record(StatusModel):
    """A candidate that was made and measured."""

    key: str = Field(description="Digest of everything that the figures hang on.")
    name: str
    made: MadeRecord
    comparisons: dict[Metric, ComparisonRecord]
    measurements: list[Measurement]
    histogram: LatencyHistogram | None
    samples: int
    samples_at_most: int
    size_bytes: int
    seconds: float
    files_sha256: str = Field(description="Digest of the listing of the candidate's files.")
    streams: list[StreamThroughput] = Field(default_factory=list, description="Throughput by number of streams.")
    streams_remark: str = ""

    def how(self) -> Made:
        """Return how it is run."""
        made = self.made
        return Made(
            made.model_file,
            made.settings,
            made.execution_precision,
            tools=made.tools,
            remark=made.remark,
            sensitivity=tuple(made.sensitivity),
            tool_metrics=made.tool_metrics,
            emulated=made.emulated,
            architecture=made.architecture,
            one_by_one=made.one_by_one,
        )

    def figures(self) -> dict[Metric, Comparison]:
        """Return its figures."""
        return {
            metric: Comparison(each.baseline, each.value, each.low, each.high)
            for metric, each in self.comparisons.items()
        }


def made_record(made: Made) -> MadeRecord:
    """Return what is written down of how a candidate is run."""
    return MadeRecord(
        model_file=made.model_file,
        settings=dict(made.settings),
        execution_precision=made.execution_precision,
        tools=dict(made.tools),
        remark=made.remark,
        sensitivity=list(made.sensitivity),
        tool_metrics=dict(made.tool_metrics),
        emulated=made.emulated,
        architecture=made.architecture,
        one_by_one=made.one_by_one,
    )


def comparison_records(found: Mapping[Metric, Comparison]) -> dict[Metric, ComparisonRecord]:
    """Return figures as they are written down."""
    return {
        metric: ComparisonRecord(baseline=each.baseline, value=each.value, low=each.low, high=each.high)
        for metric, each in found.items()
    }


def key(ground: Mapping[str, Any], request: CandidateRequest, tool: Tool) -> str:
    """Return the key of a candidate.

    Args:
        ground: What all candidates of a search share, as JSON: digests of model and data, machine, threads.
        request: The candidate.
        tool: What makes it; the versions of its packages count as far as they are installed here.
    """
    versions: dict[str, str] = {}
    for package in tool.packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    whole = {
        "skerry": version(),
        "method": METHOD,
        "ground": ground,
        "candidate": request.wire(),
        "tool": tool.tool,
        "versions": versions,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


class Ledger(Protocol):
    """Where records are kept."""

    def recall(self, wanted: str) -> Record | None:
        """Return the record of a key."""
        ...

    def note(self, record: Record) -> None:
        """Write a record down."""
        ...


@dataclass
class FolderLedger:
    """Records as files.

    Attributes:
        folder: Where they are.
        published: Is called after each new one.
    """

    folder: Path
    published: Callable[[Path], None] = field(default=lambda _: None)

    def recall(self, wanted: str) -> Record | None:
        """Return the record of a key; a file that cannot be read counts as none."""
        try:
            return Record.model_validate_json((self.folder / f"{wanted}{_SUFFIX}").read_bytes())
        except (OSError, ValidationError):
            return None

    def note(self, record: Record) -> None:
        """Write a record down, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{record.key}{_SUFFIX}"
        draft = path.with_suffix(".part")
        draft.write_text(record.model_dump_json(by_alias=True), encoding="utf-8")
        draft.rename(path)
        self.published(self.folder)


class NoLedger:
    """Forgets everything."""

    def recall(self, wanted: str) -> Record | None:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return None

    def note(self, record: Record) -> None:
        """Do nothing."""
