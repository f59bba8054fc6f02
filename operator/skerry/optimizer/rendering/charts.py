"""The geometry of the report's drawings; the template draws what stands here."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from skerry.api.metrics import higher_is_better
from skerry.api.types import EvaluationMetric, Metric
from skerry.optimizer.rendering.scales import Scale, fit
from skerry.optimizer.rendering.story import Row, measured
from skerry.optimizer.rendering.words import SYMBOLS, label, number, quantity, shortened
from skerry.optimizer.report import LatencyHistogram, LayerSensitivity, Measurement, Report

ACROSS: Final = (Metric.LATENCY_P95, Metric.GENERATION_THROUGHPUT, Metric.THROUGHPUT)
"""What the plot has from left to right, the first that the report has."""
UP: Final = (Metric.ACCURACY, Metric.MODEL_MEMORY, Metric.ARTIFACT_SIZE)
"""What it has from bottom to top."""
_SMALLEST: Final = 5.0
_LARGEST: Final = 17.0
_CHARACTER: Final = 6.7
"""Width of a character of the labels."""
_LINE: Final = 14.0
"""Height of a line of the labels."""
_DESCENT: Final = 3.5
_GAP: Final = 5.0
_CLEARLY: Final = 2.0
"""How many times farther from a label all other marks must be, that it needs no line to its own."""
_FARTHEST: Final = 6
"""How many lines away from its mark a label may be."""
_NAMES_UP_TO: Final = 12
_TAIL: Final = 0.975
"""Which part of the inferences is on the axis at least."""
_RIDGE: Final = 58.0
_RIDGE_HEIGHT: Final = 30.0
_LAYERS: Final = 20

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Paper:
    """A drawing's size and the part of it that has the figures."""

    name: str
    width: float
    height: float
    left: float = 62.0
    right: float = 18.0
    top: float = 14.0
    bottom: float = 48.0
    names: bool = True


WIDE: Final = Paper("wide", 860.0, 460.0)
NARROW: Final = Paper("narrow", 350.0, 340.0, left=50.0, right=12.0, names=False)


@dataclass(frozen=True)
class Tick:
    """A line of the grid and its figure."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A candidate on the plot.

    Attributes:
        x: Where it is.
        y: Where it is.
        radius: Its area stands for the memory.
        kind: baseline, passed, failed, inconclusive or unknown.
        chosen: Whether it was chosen.
        across: The interval from left to right.
        up: The interval from top to bottom.
        tip: All about it in words.
        text: Its label; empty where there is no room for it.
        text_at: Where the label begins.
        leader: A line from the mark to a label that is not beside it; empty otherwise.
    """

    x: float
    y: float
    radius: float
    kind: str
    chosen: bool
    across: tuple[float, float]
    up: tuple[float, float]
    tip: str
    text: str
    text_at: tuple[float, float]
    leader: str


@dataclass(frozen=True)
class Plot:
    """The plot of the trade-off."""

    paper: Paper
    title: str
    description: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    dots: list[Dot]
    front: str


@dataclass(frozen=True)
class Ridge:
    """The distribution of one candidate's latencies."""

    name: str
    kind: str
    chosen: bool
    base: float
    outline: str
    median: float
    text: str


@dataclass(frozen=True)
class Ridges:
    """Distributions over one axis."""

    paper: Paper
    description: str
    ticks: list[Tick]
    ridges: list[Ridge]
    beyond: int


@dataclass(frozen=True)
class Layer:
    """A layer's sensitivity as a bar."""

    name: str
    text: str
    share: float


@dataclass(frozen=True)
class Layers:
    """The most sensitive layers of a candidate."""

    candidate: str
    layers: list[Layer]
    more: int


def trade_off(report: Report, rows: Sequence[Row], paper: Paper) -> Plot | None:
    """Return the plot of two metrics, with the front of the candidates; None when nothing was measured."""
    found = [(row, measured(row.report)) for row in rows]
    axes = _axes([figures for _, figures in found])
    if axes is None:
        return None
    across, up = axes
    points = [(row, figures) for row, figures in found if across in figures and up in figures]
    x = fit([end for _, it in points for end in _ends(it[across])], paper.left, paper.width - paper.right)
    y = fit([end for _, it in points for end in _ends(it[up])], paper.height - paper.bottom, paper.top)
    meaning = report.evaluation_metric
    most = max((it[Metric.MODEL_MEMORY].value for _, it in points if Metric.MODEL_MEMORY in it), default=0.0)
    dots = [_dot(row, it, (x, y), axes, most) for row, it in points]
    candidates = [(it[across].value, it[up].value) for row, it in points if not row.baseline]
    signs = [-1.0 if higher_is_better(metric, meaning or EvaluationMetric.ACCURACY) else 1.0 for metric in axes]
    titles = [label(metric, meaning) for metric in axes]
    return Plot(
        paper=paper,
        title=f"{titles[1]} over {titles[0]}",
        description="; ".join(dot.tip for dot in dots),
        x_title=_axis_title(titles[0], points[0][1][across].unit, "← better" if signs[0] > 0 else "better →"),
        y_title=_axis_title(titles[1], points[0][1][up].unit, "better ↓" if signs[1] > 0 else "better ↑"),
        x_ticks=[Tick(x(tick), number(tick)) for tick in x.ticks],
        y_ticks=[Tick(y(tick), number(tick)) for tick in y.ticks],
        dots=sorted(_labelled(dots, [row for row, _ in points], paper), key=_on_top),
        front=_front(candidates, (x, y), (signs[0], signs[1])),
    )


def _axes(found: Sequence[dict[Metric, Measurement]]) -> tuple[Metric, Metric] | None:
    """Return the two metrics of which the most candidates have figures; the first ones win ties."""
    pairs = [(x, y) for y in UP for x in ACROSS]
    counts = {pair: sum(pair[0] in it and pair[1] in it for it in found) for pair in pairs}
    best = max(pairs, key=lambda pair: counts[pair])
    return best if counts[best] else None


def _axis_title(name: str, unit: str, better: str) -> str:
    return f"{name}{f', {unit}' if unit else ''} ({better})"


def _ends(figure: Measurement) -> tuple[float, ...]:
    return tuple(end for end in (figure.value, figure.low, figure.high) if math.isfinite(end))


def _dot(
    row: Row, figures: dict[Metric, Measurement], scales: tuple[Scale, Scale], axes: tuple[Metric, Metric], most: float
) -> Dot:
    memory = figures.get(Metric.MODEL_MEMORY)
    radius = _SMALLEST
    if memory is not None and most > 0:
        radius = max(_SMALLEST, round(_LARGEST * math.sqrt(max(memory.value, 0.0) / most), 1))
    spans = [_ends(figures[metric]) for metric in axes]
    places = [(scale(min(span)), scale(max(span))) for scale, span in zip(scales, spans, strict=True)]
    words = [f"{label(metric)} {quantity(figures[metric].value, figures[metric].unit)}" for metric in axes]
    if memory is not None and Metric.MODEL_MEMORY not in axes:
        words.append(f"memory {quantity(memory.value, memory.unit)}")
    verdict = row.status.removeprefix(f"{SYMBOLS[row.verdict]} ").lower() if row.verdict else row.status
    return Dot(
        x=scales[0](figures[axes[0]].value),
        y=scales[1](figures[axes[1]].value),
        radius=radius,
        kind=row.kind,
        chosen=row.chosen,
        across=places[0],
        up=places[1],
        tip=f"{row.name} ({verdict}{', chosen' if row.chosen else ''}): {', '.join(words)}",
        text="",
        text_at=(0.0, 0.0),
        leader="",
    )


def _on_top(dot: Dot) -> tuple[bool, bool, float]:
    """Return the order of drawing: what is chosen last, over everything else, and small marks over large ones."""
    return dot.chosen, dot.kind == "baseline", -dot.radius


def _labelled(dots: list[Dot], rows: list[Row], paper: Paper) -> list[Dot]:
    """Give dots their labels, the important ones first, each where it covers nothing; or none where there is no room.

    Many candidates are labelled by their numbers in the table.
    """
    short = not paper.names or len(dots) > _NAMES_UP_TO
    taken: list[Box] = [
        (dot.x - dot.radius, dot.y - dot.radius, dot.x + dot.radius, dot.y + dot.radius) for dot in dots
    ]
    made = list(dots)
    for index in sorted(range(len(dots)), key=lambda index: (not rows[index].chosen, not rows[index].baseline, index)):
        row, dot = rows[index], dots[index]
        words = [str(row.number)] if short and not (paper.names and (row.chosen or row.baseline)) else []
        words = words or [row.name, str(row.number)]
        for text, box in ((word, box) for word in words for box in _places(dot, word)):
            if _inside(box, paper) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = (round(box[0], 1), round(box[3] - _DESCENT, 1))
                made[index] = replace(dot, text=text, text_at=at, leader=_leader(dot, box, dots))
                break
    return made


def _square(dot: Dot) -> Box:
    return dot.x - dot.radius, dot.y - dot.radius, dot.x + dot.radius, dot.y + dot.radius


def _inside(box: Box, paper: Paper) -> bool:
    left, top, right, bottom = box
    return paper.left <= left and right <= paper.width and paper.top <= top and bottom <= paper.height - paper.bottom


def _places(dot: Dot, text: str) -> Iterator[Box]:
    """Yield boxes around a dot where its label could be, the nearest first."""
    width, away = _CHARACTER * len(text), dot.radius + _GAP
    for lines in range(_FARTHEST):
        for top in {dot.y - _LINE / 2 - lines * _LINE, dot.y - _LINE / 2 + lines * _LINE}:
            for left in (dot.x + away, dot.x - away - width, dot.x - width / 2):
                yield (left, top, left + width, top + _LINE)


def _leader(dot: Dot, box: Box, dots: Sequence[Dot]) -> str:
    """Return a path from a mark to its label, where one could take the label for another mark's."""
    own = _gap(dot, box)
    if not any(_gap(other, box) < _CLEARLY * own for other in dots if other is not dot):
        return ""
    nearest = (min(max(dot.x, box[0]), box[2]), min(max(dot.y, box[1]), box[3]))
    return f"M{dot.x},{dot.y}L{nearest[0]:.1f},{nearest[1]:.1f}"


def _gap(dot: Dot, box: Box) -> float:
    """Return how far a label is from the edge of a mark; at the least what is always between the two."""
    across, up = max(box[0] - dot.x, dot.x - box[2], 0.0), max(box[1] - dot.y, dot.y - box[3], 0.0)
    return max(math.hypot(across, up) - dot.radius, _GAP)


def _overlap(one: Box, other: Box) -> bool:
    apart = _GAP
    return one[0] < other[2] + apart and other[0] < one[2] + apart and one[1] < other[3] and other[1] < one[3]


def _front(points: Sequence[tuple[float, float]], scales: tuple[Scale, Scale], signs: tuple[float, float]) -> str:
    """Return the line below which no candidate is: a path from the best in one metric to the best in the other."""
    ordered = sorted((signs[0] * x, signs[1] * y) for x, y in points)
    front: list[tuple[float, float]] = []
    for x, y in ordered:
        if not front or y < front[-1][1]:
            front.append((x, y))
    if not front:
        return ""
    places = [(scales[0](signs[0] * x), scales[1](signs[1] * y)) for x, y in front]
    worst = (scales[0].end if signs[0] > 0 else scales[0].start, scales[1].end if signs[1] > 0 else scales[1].start)
    steps = [f"M{places[0][0]},{worst[1]}", f"V{places[0][1]}"]
    steps += [f"H{after[0]}V{after[1]}" for _, after in itertools.pairwise(places)]
    return "".join([*steps, f"H{worst[0]}"])


def distributions(rows: Sequence[Row], width: float) -> Ridges | None:
    """Return the latencies' distributions over one axis: the baseline, the chosen one, the others."""
    found = [(row, it) for row in rows if (it := row.report.latency_histogram) is not None and _sound(it)]
    if not found:
        return None
    found.sort(key=lambda pair: (not pair[0].baseline, not pair[0].chosen, pair[0].number))
    narrow = width < WIDE.width
    height = _RIDGE * len(found) + 52.0
    paper = Paper("narrow" if narrow else "wide", width, height, left=8.0, right=8.0, top=6.0, bottom=46.0)
    low = min(it.edges[0] for _, it in found)
    high = max(_quantile(it, _TAIL) for _, it in found)
    x = fit([low, max(high, low * 1.05)], paper.left, paper.width - paper.right, log=True)
    ridges = [_ridge(row, it, x, paper.top + _RIDGE * (place + 1)) for place, (row, it) in enumerate(found)]
    beyond = sum(
        count for _, it in found for edge, count in zip(it.edges[:-1], it.counts, strict=True) if edge > x.high
    )
    ticks = [Tick(x(tick), number(tick)) for tick in x.ticks]
    return Ridges(paper, "; ".join(f"{it.name}: {it.text}" for it in ridges), ticks, ridges, beyond)


def _sound(histogram: LatencyHistogram) -> bool:
    edges, counts = histogram.edges, histogram.counts
    ascending = all(0 < one < other < math.inf for one, other in itertools.pairwise(edges))
    return len(edges) == len(counts) + 1 and ascending and min(counts, default=-1) >= 0 and sum(counts) > 0


def _quantile(histogram: LatencyHistogram, share: float) -> float:
    """Return the latency below which that share of the inferences is, evenly spread within each bin."""
    wanted, seen = share * sum(histogram.counts), 0.0
    for (low, high), count in zip(itertools.pairwise(histogram.edges), histogram.counts, strict=True):
        if count and seen + count >= wanted:
            return low * math.pow(high / low, (wanted - seen) / count)
        seen += count
    return histogram.edges[-1]


def _ridge(row: Row, histogram: LatencyHistogram, x: Scale, base: float) -> Ridge:
    highest = max(histogram.counts)
    steps = []
    for (low, high), count in zip(itertools.pairwise(histogram.edges), histogram.counts, strict=True):
        if low <= x.high:
            top = round(base - _RIDGE_HEIGHT * count / highest, 1)
            steps.append(f"V{top}H{x(high)}")
    median, tail = _quantile(histogram, 0.5), _quantile(histogram, 0.95)
    runs = sum(histogram.counts)
    return Ridge(
        name=shortened(row.name, int((x.end - x.start) / _CHARACTER)),
        kind=row.kind,
        chosen=row.chosen,
        base=round(base, 1),
        outline=f"M{x(histogram.edges[0])},{round(base, 1)}{''.join(steps)}V{round(base, 1)}Z",
        median=x(median),
        text=f"p50 {number(median)} ms, p95 {number(tail)} ms, {runs:,} runs",
    )


def sensitivities(rows: Sequence[Row]) -> list[Layers]:
    """Return the most sensitive layers of each candidate for which they were measured."""
    return [_layers(row.name, row.report.sensitivity) for row in rows if row.report.sensitivity]


def _layers(candidate: str, found: Sequence[LayerSensitivity]) -> Layers:
    ordered = sorted((it for it in found if math.isfinite(it.degradation)), key=lambda it: -it.degradation)
    most = max((it.degradation for it in ordered), default=0.0)
    layers = [
        Layer(it.name, number(it.degradation), max(it.degradation, 0.0) / most if most > 0 else 0.0)
        for it in ordered[:_LAYERS]
    ]
    return Layers(candidate, layers, len(ordered) - len(layers))
