"""Trying one candidate after the other: making it, measuring it in turns with the baseline, judging it."""

import contextlib
import re
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.accelerators.cpu import CpuFacts
from skerry.api.artifact import MODEL_FILE_PATTERN
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CandidateResult, EvaluationMetric, Metric, ModelKind, Verdict
from skerry.optimizer import backends, boundary, child, data, ledger, measure, streams
from skerry.optimizer.backends.base import Made, Work
from skerry.optimizer.bench import WARMUP_RUNS, Subject
from skerry.optimizer.child import Remote, Standing
from skerry.optimizer.errors import OptimizationError, OutOfDiskError
from skerry.optimizer.histogram import latency_histogram
from skerry.optimizer.ledger import Ledger, NoLedger, Record
from skerry.optimizer.looks import looks
from skerry.optimizer.measure import Pair, Timings
from skerry.optimizer.streams import NOT_MEASURED, Streams
from skerry.optimizer.toolshed import Toolshed
from skerry.optimizer.trial import (
    Baseline,
    Ground,
    Observed,
    Tried,
    comparisons,
    measurements,
    pronounce,
    settled,
)
from skerry.planning.candidates import Planned
from skerry.planning.gates import Comparison, judge
from skerry.store import trees

_SAFE: Final = re.compile(MODEL_FILE_PATTERN)
_LEAST_FREE: Final = 4 << 20
"""Bytes; a disk with less is full."""
_EMULATOR_SECONDS: Final = 300.0
"""After how long an emulator is not asked for further samples: it takes seconds for what a device does in one ms."""


@dataclass(frozen=True)
class Inputs:
    """What was fetched, and the machine that it runs on.

    Attributes:
        spec: What is wanted.
        model: The source model, a file or a folder.
        calibration: File with calibration data.
        evaluation: File with evaluation data.
        entry: The accelerator's entry of the catalogue.
        cpu: The machine's CPU.
        threads: Number of threads that models run with.
        max_data_bytes: Most bytes of one data file, unpacked.
        tools: Where the tools are.
        digests: SHA-256 of model, calibration and evaluation data, by these names.
        ledger: What was measured before an interruption.
        roots: Folders in which the source, and what is made of it, lies.
    """

    spec: OptimizationJobSpec
    model: Path
    calibration: Path | None
    evaluation: Path | None
    entry: AcceleratorEntry
    cpu: CpuFacts
    threads: int
    max_data_bytes: int
    tools: Toolshed
    digests: Mapping[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=NoLedger)
    roots: Sequence[Path] = ()


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder.

    Raises:
        OptimizationError: There is a link in it.
    """
    return sum(path.stat().st_size for path in boundary.regular_files(folder).values())


def half_precision(entry: AcceleratorEntry, cpu: CpuFacts) -> str | None:
    """Return the half precision that the CPU computes in at full speed, or None."""
    return next((half.precision for half in entry.native_half if half.feature in cpu.features), None)


def native_int8(entry: AcceleratorEntry, cpu: CpuFacts) -> str | None:
    """Return the best feature of the CPU for 8-bit products, or None."""
    return next((feature for feature in entry.native_int8 if feature in cpu.features), None)


class Trials:
    """Makes candidates and measures each against the baseline."""

    def __init__(self, inputs: Inputs, ground: Ground, baseline: Baseline, bench: Standing[Any], folder: Path) -> None:
        self._inputs = inputs
        self._ground = ground
        self._baseline = baseline
        self._bench = bench
        self._folder = folder
        self._random = np.random.default_rng(measure.SEED)
        self._versions: dict[str, Mapping[str, str]] = {}

    @property
    def kind(self) -> ModelKind:
        """What the model is built of."""
        return self._ground.inspected.source.kind

    @property
    def source_bytes(self) -> int:
        """Size of the unoptimized model."""
        return self._baseline.size_bytes

    @property
    def meaning(self) -> EvaluationMetric:
        """What accuracy means."""
        return self._ground.meaning

    def _key(self, planned: Planned) -> str:
        """Return the key under which a candidate's figures are kept."""
        inputs, spec = self._inputs, self._inputs.spec
        shared = {
            "digests": dict(inputs.digests),
            "files": self._files,
            "inputs": [shape.wire() for shape in spec.inputs],
            "calibration": spec.calibration.max_samples if spec.calibration else None,
            "metric": self._ground.metric,
            "accelerator": inputs.entry.wire(),
            "cpu": [inputs.cpu.model, sorted(inputs.cpu.features)],
            "threads": inputs.threads,
        }
        tool = planned.tool.tool
        return ledger.key(shared, planned.request, tool, self._versions_of(tool))

    def _versions_of(self, tool: str) -> Mapping[str, str]:
        """Return what a tool consists of where it runs, which is asked for once, and only when it matters."""
        inputs = self._inputs
        if not inputs.ledger.keeps:
            return {}
        if tool not in self._versions:
            place = inputs.tools.places[tool]
            self._versions[tool] = child.call(f"asking {tool} for its version", backends.versions, tool, place=place)
        return self._versions[tool]

    @cached_property
    def _files(self) -> dict[str, str]:
        """SHA-256 of each of the source's files: a local one may have its weights in another beside it."""
        if not self._inputs.ledger.keeps:
            return {}
        return {name: trees.sha256(path) for name, path in sorted(self._ground.inspected.source.files.items())}

    def recall(self, planned: Planned) -> Tried | None:
        """Return a candidate that was measured before an interruption, judged by today's gates, without its files.

        Also one that failed before it, or ended the pod each time that it was begun.
        """
        wanted = self._key(planned)
        record, trouble = self._inputs.ledger.recall(wanted), self._inputs.ledger.trouble(wanted)
        if record is None and trouble is not None:
            lost = self._begun(planned)
            lost.fail(trouble)
            return lost
        if record is None:
            return None
        streams_now = {each.streams: each.value for each in self._baseline.streams.figures}
        record = record.beside(self._baseline.figures(), streams_now)
        tried = self._begun(planned)
        tried.made, tried.seconds, tried.size_bytes = record.how(), record.seconds, record.size_bytes
        tried.samples, tried.samples_at_most = record.samples, record.samples_at_most
        tried.measurements, tried.histogram = record.measurements, record.histogram
        tried.streams = Streams(tuple(record.streams), record.streams_remark)
        tried.recalled = record.files_sha256
        pronounce(tried, tried.made, record.figures(), self._inputs.spec.gates, self._ground)
        partly = tried.samples < tried.samples_at_most and not tried.made.emulated
        if partly and verdicts_of(tried).get(Metric.ACCURACY) is not Verdict.FAILED:
            return None  # gates of then condemned it on a part of the data; to pass today's it is run on all
        return tried

    def bring_back(self, tried: Tried) -> bool:
        """Make a recalled candidate's files again; return whether they are the same, so that its figures hold."""
        again = self.make(tried.planned)
        same = again.made is not None and trees.sha256(again.folder) == tried.recalled
        if same:
            tried.made, tried.recalled = again.made, ""
        return same

    def _note(self, tried: Tried, made: Made, found: Mapping[Metric, Comparison]) -> None:
        record = Record(
            key=self._key(tried.planned),
            name=tried.planned.name,
            made=ledger.made_record(made),
            comparisons=ledger.comparison_records(found),
            measurements=tried.measurements,
            histogram=tried.histogram,
            samples=tried.samples,
            samples_at_most=tried.samples_at_most,
            size_bytes=tried.size_bytes,
            seconds=tried.seconds,
            files_sha256=trees.sha256(tried.folder),
            streams=list(tried.streams.figures),
            streams_remark=tried.streams.remark,
        )
        with self._written_down() as book:
            book.note(record)

    def _begun(self, planned: Planned) -> Tried:
        """Return a candidate of which nothing is known yet, with an empty folder."""
        folder, request = self._folder / planned.name, planned.request
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = CandidateResult(
            name=planned.name, framework=request.framework, precision=request.precision, technique=request.technique
        )
        return Tried(planned, folder, result)

    def begin(self, planned: Planned) -> Tried:
        """Make a candidate that is to be measured, having written down that it was begun."""
        with self._written_down() as book:
            book.begin(self._key(planned))
        return self.make(planned)

    def make(self, planned: Planned) -> Tried:
        """Make a candidate; when that fails, its result says why and the search goes on.

        Raises:
            OptimizationError: The others could not be made either: the disk is full, or the baseline runs no more.
        """
        request, ground, inputs = planned.request, self._ground, self._inputs
        tried = self._begun(planned)
        calibration = ground.calibration
        work = Work(
            source=ground.inspected.source,
            request=request,
            folder=tried.folder,
            calibration=calibration,
            metric=ground.metric or (data.default_metric(calibration) if calibration is not None else None),
            half_precision=half_precision(inputs.entry, inputs.cpu),
            native_int8=native_int8(inputs.entry, inputs.cpu) is not None,
            device=inputs.entry.devices[request.framework],
            text=ground.calibration_text,
            prepared=self._baseline.source,
        )
        started = time.monotonic()
        tool = planned.tool.tool
        with self._failing(tried):
            tried.made = child.call(
                f"making {planned.name}", backends.make, tool, work, place=inputs.tools.places[tool]
            )
            files = boundary.regular_files(tried.folder)
            tried.size_bytes = sum(path.stat().st_size for path in files.values())
            _check(tried.made, tried.folder, files)
        tried.seconds = time.monotonic() - started
        return tried

    def measure(self, tried: Tried, made: Made) -> None:
        """Measure a candidate and judge it."""
        planned, ground, conditions = tried.planned, self._ground, self._ground.conditions
        inputs, gates = self._inputs, self._inputs.spec.gates
        framework = planned.request.framework
        subject = Subject(
            planned.name,
            framework,
            tried.folder / made.model_file,
            made.settings,
            inputs.threads,
            inputs.entry.devices[framework],
            0 if made.emulated else WARMUP_RUNS,
        )
        place = inputs.tools.running(framework)
        self._bench.renew()
        with self._failing(tried):
            starts = [] if made.emulated else measure.starts(subject, conditions, place=place)
            what = f"running {planned.name}"
            with conditions.open(what, subject, place) as candidate:
                starts.append(candidate.call("start"))
                worth, tried.samples = self._accuracy(candidate, made)
                tried.samples_at_most = self._baseline.samples

                def compared(pair: Pair | None) -> dict[Metric, Comparison]:
                    observed = Observed(pair, starts, worth, tried.size_bytes)
                    return comparisons(self._baseline, observed)

                def clear(pair: Pair) -> bool:
                    return settled(compared(pair), gates, ground.meaning)

                pair = None if made.emulated else measure.paired(self._bench.remote, candidate, self._random, clear)
                found = compared(pair)
                timings = Timings() if pair is None else pair[1]
                tried.measurements = measurements(ground, found, timings, starts, tried.samples)
                tried.histogram = None if pair is None else latency_histogram(timings)
                pronounce(tried, made, found, gates, ground)
                self._note(tried, made, found)
                # Only now, so that a search which ends here goes on with the next candidate.
                if pair is not None and tried.samples == tried.samples_at_most:
                    tried.streams = self._streams(candidate, pair)
                    self._note(tried, made, found)

    def _streams(self, candidate: Remote[Any], pair: Pair) -> Streams:
        """Return the throughput with several streams at once; none of language models, which cannot share."""
        if self.kind is ModelKind.LANGUAGE:
            return NOT_MEASURED
        slower = max(timings.value(Metric.LATENCY_P50) for timings in pair)
        reference, threads = self._baseline.streams.figures, self._inputs.threads
        return streams.of_candidate((self._bench.remote, candidate), reference, threads, slower, self._random)

    def _accuracy(self, candidate: Remote[Any], made: Made) -> tuple[Comparison | None, int]:
        """Return the accuracy, and on how many samples: all, or a first part.

        That is, a part that already fails the gates, or that took an emulator, which is slow, long enough.
        """
        found, started = None, time.monotonic()
        for look in looks(self._ground, self._baseline, candidate):
            found = look
            slow = bool(made.emulated) and time.monotonic() - started > _EMULATOR_SECONDS
            if slow or self._condemned(look.accuracy):
                break
        return (None, 0) if found is None else (found.accuracy, found.samples)

    def _condemned(self, found: Comparison) -> bool:
        verdicts = judge(self._inputs.spec.gates, {Metric.ACCURACY: found}, self._ground.meaning)
        judged = verdicts.get(Metric.ACCURACY)
        return judged is not None and judged.verdict is Verdict.FAILED

    @contextlib.contextmanager
    def _failing(self, tried: Tried) -> Iterator[None]:
        """Turn a candidate's failure into its result, and see to the baseline's process, which may have died with it.

        Raises:
            OptimizationError: The disk is full, or the baseline cannot be started any more.
        """
        try:
            yield
        except OutOfDiskError:
            raise
        except OptimizationError as error:
            self._lose(tried, str(error))
        except Exception as error:  # noqa: BLE001 - what a process answered may be anything; the others go on
            traceback.print_exc()
            self._lose(tried, f"what its process answered cannot be used: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _written_down(self) -> Iterator[Ledger]:
        """Give the ledger; that it cannot be written is no fault of a candidate.

        Raises:
            OutOfDiskError: It cannot be written.
        """
        try:
            yield self._inputs.ledger
        except OSError as error:
            message = f"what was measured cannot be written down: {error}"
            raise OutOfDiskError(message) from error

    def _lose(self, tried: Tried, message: str) -> None:
        """Note that a candidate failed, unless that was for want of space, which libraries say in many words.

        Raises:
            OutOfDiskError: The disk is full.
        """
        if shutil.disk_usage(self._folder).free < _LEAST_FREE:
            full = f"the disk that holds {self._folder} is full: {message}"
            raise OutOfDiskError(full)
        if self._bench.renew():
            message += "; the unoptimized model's process ended as well, and was started again"
        tried.fail(message)
        with self._written_down() as book:
            book.fail(self._key(tried.planned), tried.result.message)


def _check(made: Made, folder: Path, files: Mapping[str, Path]) -> None:
    """Refuse a candidate whose main file is not one of its files.

    Raises:
        OptimizationError: It is not.
    """
    if made.model_file not in files and not (folder / made.model_file).is_dir():
        message = f"its tool made no {made.model_file}"
        raise OptimizationError(message)
    if not _SAFE.fullmatch(made.model_file):
        message = f"its tool named a file {made.model_file!r}, which cannot be served"
        raise OptimizationError(message)


def verdicts_of(tried: Tried) -> Mapping[Metric, Verdict]:
    """Return what the gates say of each metric of a candidate."""
    return {figure.name: figure.verdict for figure in tried.result.metrics if figure.verdict is not None}
