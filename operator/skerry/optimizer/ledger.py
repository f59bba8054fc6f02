"""What was measured is written down, so that a Job that is evicted goes on after the last finished candidate.

A record is found again by a key of everything that the figures hang on. It has the figures, not the files: when the
winner's files are not here any more it is made again, which for most tools gives the same bytes, and is measured again
only where it does not.

That a candidate was begun is written down as well: one that ends the pod each time must not be begun for ever.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pydantic import Field, ValidationError

from skerry.api.meta import StatusModel
from skerry.api.types import CandidateRequest, Metric
from skerry.optimizer.backends.base import Made
from skerry.optimizer.report import METHOD, LatencyHistogram, Measurement, StreamThroughput
from skerry.planning.gates import Comparison
from skerry.version import version

_RECORD: Final = ".json"
_ATTEMPT: Final = ".attempt"
MOST_ATTEMPTS: Final = 3
"""How often a candidate is begun without an end: what is evicted with its node has no part in that, once or twice."""


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

    def beside(self, baseline: Mapping[Metric, float], streams: Mapping[int, float]) -> "Record":
        """Return the record with its figures said of the baseline as it was measured this time.

        A candidate was measured in turns with the baseline of then: what holds of it is the ratio.

        Args:
            baseline: The baseline's figures of now.
            streams: Its throughput of now, by number of streams.
        """

        def factor(metric: Metric, before: float) -> float:
            return baseline[metric] / before if metric in baseline and before > 0 else 1.0

        latency = self.comparisons.get(Metric.LATENCY_P50)
        slower = 1.0 if latency is None else factor(Metric.LATENCY_P50, latency.baseline)
        return self.model_copy(
            update={
                "comparisons": {
                    metric: _scaled(each, factor(metric, each.baseline)) for metric, each in self.comparisons.items()
                },
                "measurements": [_scaled(each, factor(each.metric, each.baseline)) for each in self.measurements],
                "streams": [
                    _scaled(each, streams.get(each.streams, each.baseline) / each.baseline) for each in self.streams
                ],
                "histogram": None
                if self.histogram is None
                else self.histogram.model_copy(update={"edges": [slower * edge for edge in self.histogram.edges]}),
            }
        )

    def figures(self) -> dict[Metric, Comparison]:
        """Return its figures."""
        return {
            metric: Comparison(each.baseline, each.value, each.low, each.high)
            for metric, each in self.comparisons.items()
        }


_SCALED: Final = ("baseline", "value", "low", "high", "spread_low", "spread_high")
Scalable = TypeVar("Scalable", ComparisonRecord, Measurement, StreamThroughput)


def _scaled(figure: Scalable, factor: float) -> Scalable:
    known = {name: getattr(figure, name, None) for name in _SCALED}
    return figure.model_copy(update={name: factor * value for name, value in known.items() if value is not None})


class Attempt(StatusModel):
    """A candidate that was begun, and has no record yet."""

    times: int = 0
    failure: str = Field(default="", description="Why it could not be made or measured, when that is known.")

    def trouble(self) -> str | None:
        """Return why it is not begun again, or None."""
        if self.failure:
            return self.failure
        if self.times < MOST_ATTEMPTS:
            return None
        return (
            f"it was begun {self.times} times, and each time the Job's pod ended before it was done: evicted, or "
            "killed for what it took"
        )


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


def key(ground: Mapping[str, Any], request: CandidateRequest, tool: str, versions: Mapping[str, str]) -> str:
    """Return the key of a candidate.

    Args:
        ground: What all candidates of a search share, as JSON: digests of model and data, machine, threads.
        request: The candidate.
        tool: Name of what makes it.
        versions: Versions of what the tool consists of, where it runs.
    """
    whole = {
        "skerry": version(),
        "method": METHOD,
        "ground": ground,
        "candidate": request.wire(),
        "tool": tool,
        "versions": dict(versions),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


class Ledger(Protocol):
    """Where records are kept."""

    @property
    def keeps(self) -> bool:
        """Whether anything is."""
        ...

    def recall(self, wanted: str) -> Record | None:
        """Return the record of a key."""
        ...

    def note(self, record: Record) -> None:
        """Write a record down."""
        ...

    def begin(self, wanted: str) -> None:
        """Write down that a candidate is begun."""
        ...

    def fail(self, wanted: str, message: str) -> None:
        """Write down that a candidate failed, and why."""
        ...

    def trouble(self, wanted: str) -> str | None:
        """Return why a candidate is not to be begun again, or None."""
        ...


@dataclass
class FolderLedger:
    """Records as files.

    Attributes:
        folder: Where they are.
    """

    folder: Path
    keeps = True

    def recall(self, wanted: str) -> Record | None:
        """Return the record of a key; a file that cannot be read counts as none."""
        try:
            record = Record.model_validate_json((self.folder / f"{wanted}{_RECORD}").read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.key == wanted else None

    def note(self, record: Record) -> None:
        """Write a record down, whole or not at all."""
        self._write(f"{record.key}{_RECORD}", record)
        (self.folder / f"{record.key}{_ATTEMPT}").unlink(missing_ok=True)

    def begin(self, wanted: str) -> None:
        """Do nothing: whoever stopped a search with Ctrl-C means no harm to its candidate."""

    def fail(self, wanted: str, message: str) -> None:
        """Do nothing: who asks again has perhaps mended it."""

    def trouble(self, wanted: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None

    def _write(self, name: str, what: StatusModel) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        draft = path.with_suffix(".part")
        draft.write_text(what.model_dump_json(by_alias=True), encoding="utf-8")
        draft.rename(path)


class AttemptLedger(FolderLedger):
    """Records as files, and what was begun."""

    def begin(self, wanted: str) -> None:
        """Count an attempt."""
        earlier = self._attempt(wanted)
        self._write(f"{wanted}{_ATTEMPT}", earlier.model_copy(update={"times": earlier.times + 1}))

    def fail(self, wanted: str, message: str) -> None:
        """Keep why it failed."""
        self._write(f"{wanted}{_ATTEMPT}", self._attempt(wanted).model_copy(update={"failure": message}))

    def trouble(self, wanted: str) -> str | None:
        """Return why it is not begun again."""
        return self._attempt(wanted).trouble()

    def _attempt(self, wanted: str) -> Attempt:
        try:
            return Attempt.model_validate_json((self.folder / f"{wanted}{_ATTEMPT}").read_bytes())
        except (OSError, ValidationError):
            return Attempt()

    def files(self) -> list[Path]:
        """Return all that is written down, in the order of the names."""
        return sorted(path for path in self.folder.glob("*") if path.suffix in {_RECORD, _ATTEMPT})

    @property
    def measured(self) -> int:
        """How many records there are."""
        return len(list(self.folder.glob(f"*{_RECORD}")))


class NoLedger:
    """Forgets everything."""

    keeps = False

    def recall(self, wanted: str) -> Record | None:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return None

    def note(self, record: Record) -> None:
        """Do nothing."""

    def begin(self, wanted: str) -> None:
        """Do nothing."""

    def fail(self, wanted: str, message: str) -> None:
        """Do nothing."""

    def trouble(self, wanted: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None
