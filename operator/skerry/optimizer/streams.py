"""Throughput with several streams at once: what one replica gives when requests come faster than one after the other.

One stream uses all threads for one inference; several share the same number of threads. The unoptimized model and a
candidate take turns, as in the rounds of `measure`, and the ratio within a turn counts. It is no part of any verdict:
where it fails there is a remark instead of figures.
"""

import contextlib
import statistics
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from skerry.optimizer import measure
from skerry.optimizer.child import Remote, summary
from skerry.optimizer.errors import OptimizationError
from skerry.optimizer.flow import Flow
from skerry.optimizer.report import StreamThroughput

TURNS: Final = 16
SECONDS: Final = 0.5
"""How long one subject is measured with one number of streams, over all turns."""
FEWEST: Final = 2
MOST: Final = 4
_SLOWEST_MILLISECONDS: Final = 1000.0

Flows = Mapping[int, Sequence[Sequence[Flow]]]
"""For each number of streams, the turns of each subject that count."""


@dataclass(frozen=True)
class Streams:
    """Throughput by number of streams; a remark instead where it could not be measured."""

    figures: tuple[StreamThroughput, ...] = ()
    remark: str = ""


NOT_MEASURED: Final = Streams()


def counts(threads: int) -> tuple[int, int]:
    """Return the numbers of streams that are measured: one, and as many as there are threads, within bounds."""
    return 1, min(max(threads, FEWEST), MOST)


def turns(milliseconds: float) -> int:
    """Return in how many turns a model of that latency is measured: at least two, so that each begins once."""
    return int(min(max(1000.0 * SECONDS / milliseconds, 2), TURNS))


def of_baseline(bench: Remote[Any], threads: int, milliseconds: float) -> Streams:
    """Return the unoptimized model's throughput, which candidates are shown beside.

    Args:
        bench: Its process.
        threads: Number of threads that it runs with.
        milliseconds: Its latency.
    """

    def figures() -> Iterator[StreamThroughput]:
        flows = _flows([bench], threads, milliseconds, np.random.default_rng(0))
        for count, (mine,) in flows.items():
            value = statistics.median(flow.per_second for flow in mine)
            yield _figure(count, value, [1.0], value, mine)

    return _without_harm(figures, milliseconds)


def of_candidate(
    pair: tuple[Remote[Any], Remote[Any]],
    reference: Sequence[StreamThroughput],
    threads: int,
    milliseconds: float,
    random: np.random.Generator,
) -> Streams:
    """Return a candidate's throughput: the unoptimized model's, times the median ratio within turns.

    Args:
        pair: The processes of the unoptimized model and of the candidate.
        reference: The unoptimized model's figures; without any, nothing is measured.
        threads: Number of threads that both run with.
        milliseconds: Latency of the slower one.
        random: Decides who goes first in a turn.
    """
    known = {figure.streams: figure.value for figure in reference}
    if not known:
        return NOT_MEASURED

    def figures() -> Iterator[StreamThroughput]:
        for count, (theirs, mine) in _flows(pair, threads, milliseconds, random).items():
            ratios = [own.per_second / other.per_second for other, own in zip(theirs, mine, strict=True)]
            yield _figure(count, known[count] * statistics.median(ratios), ratios, known[count], mine)

    return _without_harm(figures, milliseconds)


def _figure(
    count: int, value: float, ratios: Sequence[float], baseline: float, mine: Sequence[Flow]
) -> StreamThroughput:
    return StreamThroughput(
        streams=count,
        value=value,
        low=min(value, baseline * min(ratios)),
        high=max(value, baseline * max(ratios)),
        baseline=baseline,
        runs=sum(sum(flow.inferences) for flow in mine),
        turns=len(mine),
    )


def _without_harm(figures: Callable[[], Iterator[StreamThroughput]], milliseconds: float) -> Streams:
    """Return figures, or why there are none: whatever goes wrong here is no fault of the candidate."""
    if milliseconds > _SLOWEST_MILLISECONDS:
        return Streams(remark="not measured: an inference takes longer than a second")
    try:
        return Streams(tuple(figures()))
    except Exception as error:  # noqa: BLE001 - what a process answered may be anything
        traceback.print_exc()
        return Streams(remark=f"not measured: {summary(error)}")


def _flows(benches: Sequence[Remote[Any]], threads: int, milliseconds: float, random: np.random.Generator) -> Flows:
    """Let subjects take turns, each with one stream and with several."""
    wanted, number = counts(threads), turns(milliseconds)
    flows = {count: tuple[list[Flow], ...]([] for _ in benches) for count in wanted}
    with contextlib.ExitStack() as stack:
        for bench in benches:
            stack.callback(_close, bench)
            bench.call("open_streams", max(wanted))
        for _ in range(number):
            for count in wanted:
                for which in random.permutation(len(benches)):
                    flows[count][which].append(benches[which].call("flow", count, SECONDS / number))
    return {count: _calmer(taken) for count, taken in flows.items()}


def _calmer(taken: Sequence[Sequence[Flow]]) -> Sequence[Sequence[Flow]]:
    """Return the turns in which subjects waited least for a CPU, as `measure` picks rounds."""
    picked = measure.calmer([max(flow.waited for flow in turn) for turn in zip(*taken, strict=True)])
    return [[flows[index] for index in picked] for flows in taken]


def _close(bench: Remote[Any]) -> None:
    """Let a process give up its streams, if it is still there."""
    if bench.alive:
        with contextlib.suppress(OptimizationError):
            bench.call("close_streams")
