"""Measuring honestly: fresh processes, paired rounds, and an interval with every comparison.

Each candidate runs in a process of its own. Startup and memory come from several fresh starts; latency and throughput
from rounds in which baseline and candidate take turns in random order, so that a busy neighbour slows both and the
ratio within a round stays true.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.api.types import Framework, Metric, TensorFacts
from skerry.optimizer.backends import backend
from skerry.optimizer.child import Remote
from skerry.optimizer.data import DTYPES, Sample, Samples
from skerry.planning.gates import Comparison

MIB: Final = 1 << 20
WARMUP_RUNS: Final = 20
STARTS: Final = 3
ROUNDS: Final = 14
ROUND_SECONDS: Final = 0.15
MIN_RUNS: Final = 8
MAX_RUNS: Final = 400
BUDGET_SECONDS: Final = 60.0
MIN_ROUNDS: Final = 5
INPUTS: Final = 64
RESAMPLES: Final = 1000
SEED: Final = 11

Latencies = npt.NDArray[np.float64]
"""Milliseconds of single inferences."""

_STATISTICS: Final[Mapping[Metric, Callable[[Latencies], float]]] = {
    Metric.LATENCY_P50: lambda ms: float(np.percentile(ms, 50)),
    Metric.LATENCY_P95: lambda ms: float(np.percentile(ms, 95)),
    Metric.LATENCY_P99: lambda ms: float(np.percentile(ms, 99)),
    Metric.THROUGHPUT: lambda ms: 1000.0 * len(ms) / float(ms.sum()),
}


@dataclass(frozen=True)
class Subject:
    """What is measured: a model's file and how it is run."""

    name: str
    framework: Framework
    model: Path
    settings: Mapping[str, str]
    threads: int


@dataclass(frozen=True)
class Start:
    """One fresh start: seconds to load the model and run it once, and the bytes of memory that added."""

    seconds: float
    memory_bytes: int


class Bench:
    """Lives in a child process and runs one model."""

    def __init__(self, subject: Subject, inputs: Sequence[Sample], warm: bytes) -> None:
        runtime = backend(subject.framework)
        # The runtime's own code and threads are no part of the model: they are there before the counting begins.
        tiny = Path(f"/proc/self/fd/{_memory_file(warm)}")
        runtime.load(tiny, runtime.baseline_settings(), subject.threads).infer({"x": np.zeros(1, np.float32)})
        before = resident_bytes()
        started = time.perf_counter()
        self._session = runtime.load(subject.model, subject.settings, subject.threads)
        self._inputs = list(inputs)
        self._session.infer(self._inputs[0])
        seconds = time.perf_counter() - started
        for index in range(WARMUP_RUNS):
            self._session.infer(self._inputs[index % len(self._inputs)])
        self._start = Start(seconds, max(resident_bytes() - before, 1))

    def start(self) -> Start:
        """Return what starting took."""
        return self._start

    def run(self, count: int) -> Latencies:
        """Run so many inferences one after the other and return the milliseconds of each."""
        taken = np.empty(count)
        inputs, session = self._inputs, self._session
        for index in range(count):
            sample = inputs[index % len(inputs)]
            started = time.perf_counter_ns()
            session.infer(sample)
            taken[index] = (time.perf_counter_ns() - started) / 1e6
        return taken

    def outputs(self, samples: Samples) -> npt.NDArray[Any]:
        """Return the first output of every sample, `[N, …]`."""
        return np.concatenate([self._session.infer(samples.sample(index)) for index in range(len(samples))])


def _memory_file(content: bytes) -> int:
    import os  # noqa: PLC0415 - only here

    descriptor = os.memfd_create("warm.onnx")
    os.write(descriptor, content)
    return descriptor


def resident_bytes() -> int:
    """Return the resident memory of this process, all its pages counted."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def warm_model() -> bytes:
    """Return the smallest ONNX model that makes a runtime set itself up: y = max(x, 0), `[1]`."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - heavy

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "warm",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def inputs_for(tensors: Sequence[TensorFacts], samples: Samples | None) -> list[Sample]:
    """Return the inputs that are run: the first samples, or numbers between 0 and 1 when there is no data."""
    if samples is not None:
        return [samples.sample(index) for index in range(min(len(samples), INPUTS))]
    random = np.random.default_rng(SEED)
    sample: Sample = {}
    for tensor in tensors:
        shape = [1 if size < 0 else size for size in tensor.shape]
        dtype = np.dtype(DTYPES[tensor.dtype])
        made = random.random(shape) if np.issubdtype(dtype, np.floating) else np.zeros(shape)
        sample[tensor.name] = made.astype(dtype)
    return [sample]


@dataclass
class Timings:
    """Rounds of one subject: each an array of milliseconds."""

    rounds: list[Latencies] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """Number of inferences in all rounds."""
        return sum(len(taken) for taken in self.rounds)

    def value(self, metric: Metric) -> float:
        """Return the median over the rounds of a metric."""
        return statistics.median(_STATISTICS[metric](taken) for taken in self.rounds)


@dataclass(frozen=True)
class Pair:
    """A candidate's measurements beside those of the baseline in the same rounds."""

    baseline: Timings
    candidate: Timings
    starts: tuple[Start, ...]


def starts(subject: Subject, inputs: Sequence[Sample], warm: bytes, *, count: int = STARTS - 1) -> list[Start]:
    """Return what fresh starts took, each in a new process that then ends."""
    found = []
    for _ in range(count):
        with Remote(f"starting {subject.name}", Bench, subject, inputs, warm) as bench:
            found.append(bench.call("start"))
    return found


def runs_per_round(milliseconds: float) -> tuple[int, int]:
    """Return how many runs a round has and how many rounds there are, for a baseline of that latency."""
    runs = int(min(max(1000.0 * ROUND_SECONDS / milliseconds, MIN_RUNS), MAX_RUNS))
    seconds = 2 * ROUNDS * runs * milliseconds / 1000.0
    rounds = ROUNDS if seconds <= BUDGET_SECONDS else max(MIN_ROUNDS, int(ROUNDS * BUDGET_SECONDS / seconds))
    return runs, rounds


def rounds(baseline: Remote[Bench], candidate: Remote[Bench], random: np.random.Generator) -> tuple[Timings, Timings]:
    """Return paired rounds of baseline and candidate, in random order within each round."""
    first = baseline.call("run", MIN_RUNS)
    runs, count = runs_per_round(float(np.median(first)))
    pair = (Timings(), Timings())
    for _ in range(count):
        order = [(baseline, pair[0]), (candidate, pair[1])]
        random.shuffle(order)
        for bench, timings in order:
            timings.rounds.append(bench.call("run", runs))
    return pair


def compare_timings(metric: Metric, baseline: Timings, candidate: Timings, reference: float) -> Comparison:
    """Return a candidate's figure and its 95 % interval, by the median of the rounds' ratios, on the reference's scale.

    Args:
        metric: A metric of latency or throughput.
        baseline: The baseline's rounds.
        candidate: The candidate's rounds, taken in turns with them.
        reference: The baseline's figure that all candidates are shown beside.
    """
    statistic = _STATISTICS[metric]
    ratios = np.array(
        [statistic(mine) / statistic(theirs) for theirs, mine in zip(baseline.rounds, candidate.rounds, strict=True)]
    )
    random = np.random.default_rng(SEED)
    picks = random.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    value = float(np.median(ratios))
    low, high = float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))
    return Comparison(reference, reference * value, reference * min(low, value), reference * max(high, value))


def compare_starts(metric: Metric, baseline: Sequence[Start], candidate: Sequence[Start]) -> Comparison:
    """Return startup seconds or memory MiB: medians, with the smallest and the largest start as the interval."""

    def figures(found: Sequence[Start]) -> list[float]:
        if metric is Metric.STARTUP_TIME:
            return [start.seconds for start in found]
        return [start.memory_bytes / MIB for start in found]

    mine = figures(candidate)
    return Comparison(statistics.median(figures(baseline)), statistics.median(mine), min(mine), max(mine))


TIMED: Final = tuple(_STATISTICS)
STARTED: Final = (Metric.STARTUP_TIME, Metric.MODEL_MEMORY)
