"""What runs in the child process that is measured: one model, loaded afresh. Imports no more than that needs."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.api.types import Framework, Metric
from skerry.optimizer import energy
from skerry.optimizer.backends import runner
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Backend, OwnStreams, OwnWarmUp, Session
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import OptimizationError, OutOfMemoryError
from skerry.optimizer.flow import Flow, flow
from skerry.optimizer.headroom import free_bytes
from skerry.optimizer.wire import transported

WARMUP_RUNS: Final = 20
_STREAM_WARMUPS: Final = 2
WARM_INPUT: Final = "x"
_KIB: Final = 1024
_COUNTED: Final = frozenset({"RssAnon:", "RssShmem:"})

Latencies = npt.NDArray[np.float64]
"""Milliseconds of single inferences."""


@transported
@dataclass(frozen=True)
class Round:
    """Inferences one after the other.

    Attributes:
        latencies: Milliseconds of each.
        waited: Which part of the round the process's threads were ready to run but had to wait for a CPU, added up over
            the threads: what neighbours on the machine cost. 0 where the kernel does not tell.
        series: What else was timed of each inference, by metric and in its unit.
        counters: What counted energy.
    """

    latencies: Latencies
    waited: float
    series: Mapping[Metric, Latencies] = field(default_factory=dict)
    counters: tuple[str, ...] = ()


@transported
@dataclass(frozen=True)
class Subject:
    """What is measured: a model's file, how and on which device of its framework it is run, and how often before."""

    name: str
    framework: Framework
    model: Path
    settings: Mapping[str, str]
    threads: int
    device: str
    warmups: int = WARMUP_RUNS


@transported
@dataclass(frozen=True)
class Start:
    """One fresh start: seconds to load the model and run it once, and the bytes of memory that it added."""

    seconds: float
    memory_bytes: int


class Meter:
    """Looks at the machine when a round begins, and again when it ends.

    Args:
        others: Further processes whose waiting counts.
    """

    def __init__(self, others: Sequence[int] = ()) -> None:
        self._others = list(others)
        self._counters = energy.here()
        self._counting = energy.begin(self._counters)
        self._waited = self._waiting()

    def _waiting(self) -> int:
        return waited_nanoseconds() + sum(waited_nanoseconds(process) for process in self._others)

    def round(self, latencies: Latencies, series: Mapping[Metric, Latencies] | None = None) -> Round:
        """Return the round that ends now, with what else was timed of each inference."""
        waited = max(self._waiting() - self._waited, 0) / 1e6 / float(latencies.sum())
        found = dict(series or {})
        used = energy.joules(self._counters) if self._counting else None
        if used is None:
            return Round(latencies, waited, found)
        found[Metric.ENERGY_PER_INFERENCE] = np.full(len(latencies), used / len(latencies))
        return Round(latencies, waited, found, tuple(counter.name for counter in self._counters))


class Bench:
    """One loaded model.

    Args:
        subject: The model.
        inputs: Samples to run in turn.
        warm: File of a one-node ONNX model that is run first: the runtime's own memory and threads, which any model
            needs, are there before the counting begins. Frameworks that cannot load it have one of their own.
    """

    def __init__(self, subject: Subject, inputs: Sequence[Sample], warm: Path) -> None:
        runtime = runner(subject.framework)
        first = _warmed(runtime, subject, warm)
        before = resident_bytes(subject.model.parent)
        started = time.perf_counter()
        self._session = runtime.load(subject.model, subject.settings, subject.threads, subject.device)
        self._runtime, self._subject = runtime, subject
        self._streams: list[Session] = []
        self._inputs = list(inputs)
        first_output = self._session.infer(self._inputs[0])
        seconds = time.perf_counter() - started
        _check_numbers(first_output)
        if subject.warmups:
            self.run(subject.warmups)
        self._start = Start(seconds, max(resident_bytes(subject.model.parent) - before, 1))
        del first  # until here its memory is the runtime's own

    def start(self) -> Start:
        """Return what starting took."""
        return self._start

    def run(self, count: int) -> Round:
        """Run so many inferences one after the other."""
        taken = np.empty(count)
        meter = Meter()
        inputs, session = self._inputs, self._session
        for index in range(count):
            sample = inputs[index % len(inputs)]
            started = time.perf_counter_ns()
            session.infer(sample)
            taken[index] = (time.perf_counter_ns() - started) / 1e6
        return meter.round(taken)

    def open_streams(self, count: int) -> None:
        """Load the model for so many streams at once, which share the threads of the one.

        Raises:
            OutOfMemoryError: There is no memory for that, which is better known before.
        """
        needed, free = count * self._start.memory_bytes, free_bytes()
        if free is not None and needed > free:
            message = f"{count} streams may need {needed >> 20} MiB more, and {free >> 20} MiB are free"
            raise OutOfMemoryError(message)
        self._streams = _streams(self._runtime, self._subject, count)
        for session in self._streams:
            for _ in range(_STREAM_WARMUPS):
                session.infer(self._inputs[0])

    def close_streams(self) -> None:
        """Give up what `open_streams` loaded."""
        self._streams = []

    def flow(self, count: int, seconds: float) -> Flow:
        """Run inferences for so long: in one stream as ever, or in the streams that were opened."""
        before = waited_nanoseconds()
        done = flow([self._session] if count == 1 else self._streams[:count], self._inputs, seconds)
        # What the runtime's own threads waited; those of the streams are gone by now.
        others = max(waited_nanoseconds() - before, 0) / 1e9
        return replace(done, waited_seconds=done.waited_seconds + others)

    def outputs(self, samples: Samples) -> npt.NDArray[Any]:
        """Return the first output of every sample, `[N, …]`."""
        return np.concatenate([self._session.infer(samples.sample(index)) for index in range(len(samples))])


def _check_numbers(output: npt.NDArray[Any]) -> None:
    """Refuse a model that computes nothing, whether there is data to see that or not.

    Raises:
        OptimizationError: Its output has values that are not numbers.
    """
    if np.issubdtype(output.dtype, np.floating) and np.isnan(output).any():
        message = "the output is not a number (NaN) for the first sample"
        raise OptimizationError(message)


def _streams(runtime: Backend, subject: Subject, count: int) -> list[Session]:
    """Return what so many streams run."""
    model, settings, device = subject.model, subject.settings, subject.device
    if isinstance(runtime, OwnStreams):
        return list(runtime.streams(model, settings, subject.threads, device, count))
    share = max(subject.threads // count, 1)
    return [runtime.load(model, settings, share, device) for _ in range(count)]


def _warmed(runtime: Backend, subject: Subject, onnx: Path) -> Session:
    """Return a session of a one-node model that was run once."""
    if isinstance(runtime, OwnWarmUp):
        return runtime.warm(subject.threads, subject.device)
    session = runtime.load(onnx, BASELINE_SETTINGS[subject.framework], subject.threads, subject.device)
    session.infer({WARM_INPUT: np.zeros(1, np.float32)})
    return session


def waited_nanoseconds(process: int | str = "self") -> int:
    """Return for how long a process's threads have been ready to run without a CPU, since they began."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError, IndexError):  # the thread ended meanwhile, or the kernel keeps no such count
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    return total


def resident_bytes(model_folder: Path, process: int | str = "self") -> int:
    """Return a process's private resident memory, and the pages of the model's files that it has mapped.

    Pages of the runtime's libraries are left out: all processes of a node share them, and no model adds to them.
    """
    total = 0
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if words and words[0] in _COUNTED:
            total += int(words[1]) * _KIB
    return total + mapped_bytes(model_folder, process)


def mapped_bytes(model_folder: Path, process: int | str = "self") -> int:
    """Return the bytes of a model's files that a process has mapped and that are in memory."""
    total = 0
    prefix = os.fspath(model_folder.resolve()) + "/"
    of_model = False
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            of_model = len(words) > 5 and words[5].startswith(prefix)  # noqa: PLR2004 - the path of a mapping
        elif of_model and words[0] == "Rss:":
            total += int(words[1]) * _KIB
    return total
