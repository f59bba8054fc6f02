"""Measuring honestly: fresh processes, paired rounds, and an interval with every comparison.

Each candidate runs in a process of its own. Startup and memory come from several fresh starts; latency and throughput
from short rounds in which baseline and candidate take turns in random order, so that a busy neighbour slows both and
the ratio within a round stays true. The kernel tells how long each round had to wait for a CPU: the calmer half of the
rounds counts. Where the answer is still too vague, as many rounds again are taken.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from skerry.api.types import Metric, TensorFacts
from skerry.optimizer.bench import WARM_INPUT, WARMUP_RUNS, Bench, Latencies, Round, Start, Subject
from skerry.optimizer.child import HERE, Place, Remote
from skerry.optimizer.data import DTYPES, Array, Sample, Samples
from skerry.optimizer.language_bench import WARMUP_RUNS as LANGUAGE_WARMUP_RUNS
from skerry.optimizer.language_bench import LanguageBench, Texts
from skerry.planning.gates import Comparison

MIB: Final = 1 << 20
STARTS: Final = 3
FIRST_ROUNDS: Final = 20
MAX_ROUNDS: Final = 80
MIN_ROUNDS: Final = 6
ROUND_SECONDS: Final = 0.05
MIN_RUNS: Final = 10
MIN_RUNS_IF_SLOW: Final = 3
SLOW_MILLISECONDS: Final = 200.0
MAX_RUNS: Final = 500
BUDGET_SECONDS: Final = 60.0
INPUTS: Final = 64
CHUNK: Final = 64
RESAMPLES: Final = 1000
SEED: Final = 11

_STATISTICS: Final[Mapping[Metric, Callable[[Latencies], float]]] = {
    Metric.LATENCY_P50: lambda ms: float(np.percentile(ms, 50)),
    Metric.LATENCY_P95: lambda ms: float(np.percentile(ms, 95)),
    Metric.LATENCY_P99: lambda ms: float(np.percentile(ms, 99)),
    Metric.THROUGHPUT: lambda ms: 1000.0 * len(ms) / float(ms.sum()),
}
TIMED: Final = (
    *_STATISTICS,
    Metric.TIME_TO_FIRST_TOKEN,
    Metric.PROMPT_THROUGHPUT,
    Metric.GENERATION_THROUGHPUT,
    Metric.ENERGY_PER_INFERENCE,
)
_PERCENTILES: Final = (Metric.LATENCY_P50, Metric.LATENCY_P95, Metric.LATENCY_P99)
STARTED: Final = (Metric.STARTUP_TIME, Metric.MODEL_MEMORY)


class Setting(Protocol):
    """What all measurements of a search share."""

    @property
    def warmup_runs(self) -> int:
        """Number of inferences before the first that counts."""
        ...

    def open(self, what: str, subject: Subject, place: Place) -> Remote[Any]:
        """Load a model in a process of its own, in a `Bench` or a `LanguageBench`."""
        ...


@dataclass(frozen=True)
class Conditions:
    """For models of tensors: the inputs that are run in turn, and the model that warms runtimes up."""

    inputs: Sequence[Sample]
    warm: Path
    warmup_runs: int = WARMUP_RUNS

    def open(self, what: str, subject: Subject, place: Place) -> Remote[Any]:
        """Load a model in a process of its own."""
        return Remote(what, Bench, subject, list(self.inputs), self.warm, place=place)


@dataclass(frozen=True)
class LanguageConditions:
    """For language models: the text."""

    texts: Texts
    warmup_runs: int = LANGUAGE_WARMUP_RUNS

    def open(self, what: str, subject: Subject, place: Place) -> Remote[Any]:
        """Load a model in a process of its own."""
        return Remote(what, LanguageBench, subject, self.texts.prompts, place=place)


@dataclass(frozen=True)
class Timings:
    """Rounds of one subject."""

    rounds: tuple[Round, ...] = ()

    @property
    def runs(self) -> int:
        """Number of inferences in all rounds."""
        return sum(len(taken.latencies) for taken in self.rounds)

    @property
    def waited(self) -> float:
        """Which part of a typical round was spent waiting for a CPU."""
        return statistics.median(taken.waited for taken in self.rounds)

    @property
    def counters(self) -> tuple[str, ...]:
        """What counted energy; nothing when that was not the same in all rounds."""
        found = {taken.counters for taken in self.rounds}
        return found.pop() if len(found) == 1 else ()

    def figures(self, metric: Metric) -> list[float]:
        """Return a metric of each round."""
        if metric in _STATISTICS:
            return [_STATISTICS[metric](taken.latencies) for taken in self.rounds]
        return [float(np.median(taken.series[metric])) for taken in self.rounds]

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that were timed in every round."""
        return [
            *_STATISTICS,
            *(metric for metric in self.rounds[0].series if all(metric in it.series for it in self.rounds)),
        ]

    def value(self, metric: Metric) -> float:
        """Return the median of a metric over the rounds."""
        return statistics.median(self.figures(metric))

    def picked(self, indices: Sequence[int]) -> "Timings":
        """Return some of the rounds."""
        return Timings(tuple(self.rounds[index] for index in indices))


Pair = tuple[Timings, Timings]
"""Rounds of the baseline, and as many of a candidate, taken in turns."""


def write_warm_model(folder: Path) -> Path:
    """Write the smallest ONNX model that makes a runtime set itself up, `x` `[1]` in and max(x, 0) out."""
    from onnx import TensorProto, helper, save_model  # noqa: PLC0415 - heavy

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", [WARM_INPUT], ["y"])],
        "warm",
        [value(WARM_INPUT, TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "warm.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


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


def starts(subject: Subject, setting: Setting, *, count: int = STARTS - 1, place: Place = HERE) -> list[Start]:
    """Return what fresh starts took, each in a new process that then ends."""
    found, what = [], f"starting {subject.name}"
    for _ in range(count):
        with setting.open(what, subject, place) as bench:
            found.append(bench.call("start"))
    return found


def outputs(bench: Remote[Bench], samples: Samples) -> Array:
    """Return the first output of every sample, `[N, …]`; the samples go to the process piece by piece."""
    every = np.arange(len(samples))
    pieces = (every[start : start + CHUNK] for start in range(0, len(every), CHUNK))
    return np.concatenate([bench.call("outputs", samples.part(piece)) for piece in pieces])


def runs_and_rounds(milliseconds: float) -> tuple[int, int]:
    """Return how many runs a round has, and how many rounds there may be, for a model of that latency."""
    fewest = MIN_RUNS if milliseconds < SLOW_MILLISECONDS else MIN_RUNS_IF_SLOW
    runs = int(min(max(1000.0 * ROUND_SECONDS / milliseconds, fewest), MAX_RUNS))
    affordable = int(1000.0 * BUDGET_SECONDS / (2 * runs * milliseconds))
    return runs, min(MAX_ROUNDS, max(MIN_ROUNDS, affordable))


def calmer(waits: Sequence[float]) -> list[int]:
    """Return the indices of the rounds that waited least for a CPU: half of them, but no less than MIN_ROUNDS."""
    order = sorted(range(len(waits)), key=lambda index: (waits[index], index))
    return sorted(order[: max(len(waits) // 2, MIN_ROUNDS)])


def _typical(bench: Remote[Any]) -> float:
    """Return the milliseconds of a typical inference."""
    return float(np.median(bench.call("run", MIN_RUNS_IF_SLOW).latencies))


def alone(bench: Remote[Any]) -> Timings:
    """Return the calmer rounds of one subject with nothing to compare it with."""
    runs, most = runs_and_rounds(_typical(bench))
    timings = Timings(tuple(bench.call("run", runs) for _ in range(min(FIRST_ROUNDS, most))))
    return timings.picked(calmer([taken.waited for taken in timings.rounds]))


def paired(
    baseline: Remote[Any],
    candidate: Remote[Any],
    random: np.random.Generator,
    settled: Callable[[Pair], bool],
) -> Pair:
    """Return the calmer rounds of baseline and candidate, taken in random order within each round.

    Args:
        baseline: The baseline's process.
        candidate: The candidate's process.
        random: Decides who goes first.
        settled: Tells whether the answer is clear; as long as it is not, as many rounds again are taken.
    """
    slower = max(_typical(bench) for bench in (baseline, candidate))
    runs, most = runs_and_rounds(slower)
    taken: tuple[list[Round], list[Round]] = ([], [])
    wanted = min(FIRST_ROUNDS, most)
    while True:
        while len(taken[0]) < wanted:
            for which in random.permutation(2):
                taken[which].append((baseline, candidate)[which].call("run", runs))
        indices = calmer([max(theirs.waited, mine.waited) for theirs, mine in zip(*taken, strict=True)])
        pair = (Timings(tuple(taken[0])).picked(indices), Timings(tuple(taken[1])).picked(indices))
        if wanted >= most or settled(pair):
            return pair
        wanted = min(2 * wanted, most)


def compare_timings(metric: Metric, baseline: Timings, candidate: Timings, reference: float) -> Comparison:
    """Return a candidate's figure and its 95 % interval, by the median of the rounds' ratios, on the reference's scale.

    Args:
        metric: A metric of latency or throughput.
        baseline: The baseline's rounds.
        candidate: The candidate's rounds, taken in turns with them.
        reference: The baseline's figure that all candidates are shown beside.
    """
    ratios = np.array(candidate.figures(metric)) / np.array(baseline.figures(metric))
    random = np.random.default_rng(SEED)
    medians = np.median(ratios[random.integers(0, len(ratios), (RESAMPLES, len(ratios)))], axis=1)
    value = float(np.median(ratios))
    low, high = (float(np.quantile(medians, end)) for end in (0.025, 0.975))
    return Comparison(reference, reference * value, reference * min(low, value), reference * max(high, value))


def compare_all_timings(pair: Pair, reference: Mapping[Metric, float]) -> dict[Metric, Comparison]:
    """Return all of a candidate's timed figures, given the baseline's.

    Each is estimated from ratios of its own; where noise would put a higher percentile below a lower one, it is raised.
    Energy is compared only where the same counters counted both: containers beside each other may see other devices.
    """
    shared = [metric for metric in pair[0].metrics if metric in pair[1].metrics and metric in reference]
    if pair[0].counters != pair[1].counters:
        shared = [metric for metric in shared if metric is not Metric.ENERGY_PER_INFERENCE]
    found = {metric: compare_timings(metric, *pair, reference[metric]) for metric in shared}
    for lower, higher in itertools.pairwise(_PERCENTILES):
        floor, figure = found[lower], found[higher]
        found[higher] = Comparison(
            figure.baseline,
            max(figure.value, floor.value),
            max(figure.low, floor.low),
            max(figure.high, floor.high, floor.value),
        )
    return found


def start_figures(metric: Metric, found: Sequence[Start]) -> list[float]:
    """Return the startup seconds or the memory MiB of each start."""
    if metric is Metric.STARTUP_TIME:
        return [start.seconds for start in found]
    return [start.memory_bytes / MIB for start in found]


def compare_starts(metric: Metric, baseline: Sequence[Start], candidate: Sequence[Start]) -> Comparison:
    """Return startup seconds or memory MiB: medians, with an interval that spans the ratios of all starts."""
    mine, theirs = start_figures(metric, candidate), start_figures(metric, baseline)
    reference, value = statistics.median(theirs), statistics.median(mine)
    low, high = reference * min(mine) / max(theirs), reference * max(mine) / min(theirs)
    return Comparison(reference, value, min(low, value), max(high, value))
