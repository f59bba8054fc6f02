"""The drawings' geometry."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.optimizer.rendering import charts
from skerry.optimizer.rendering.charts import NARROW, WIDE, Dot
from skerry.optimizer.rendering.scales import fit
from skerry.optimizer.rendering.story import told
from skerry.optimizer.report import LayerSensitivity, Report
from tests.support.reports import candidate, histogram, report
from tests.unit.optimizer.rendering.samples import SAMPLES

FIGURES = st.floats(1e-6, 1e12)


def plot_of(made: Report, paper: charts.Paper = WIDE) -> charts.Plot:
    plot = charts.trade_off(made, told(made).rows, paper)
    assert plot is not None
    return plot


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20), st.sampled_from([None, True, False]))
def test_every_figure_has_its_place_and_order(values: list[float], log: bool | None) -> None:  # noqa: FBT001
    scale = fit(values, 10.0, 500.0, log=log)
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 500 for place in places)
    assert len(scale.ticks) <= 20
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


def test_axes_are_logarithmic_when_figures_are_far_apart() -> None:
    assert not fit([10.0, 20.0], 0, 1).log
    assert fit([1.0, 100.0], 0, 1).log
    assert fit([1.0, 1000.0], 0, 1).ticks == [1.0, 10.0, 100.0, 1000.0]
    assert fit([10.0, 20.0], 0, 1, log=False).ticks == [10.0, 12.5, 15.0, 17.5, 20.0]


@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=12))
def test_the_front_passes_through_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    made = report(
        *(candidate(f"c{index}", {"Accuracy": y, "LatencyP95": x}) for index, (x, y) in enumerate(points)),
    )
    plot = plot_of(made)
    corner_x, corner_y = 0.0, 0.0
    corners: list[tuple[float, float]] = []
    for word, numbers in re.findall(r"([MHV])([\d.,]+)", plot.front):
        coordinates = [float(it) for it in numbers.split(",")]
        corner_x = coordinates[0] if word in "MH" else corner_x
        corner_y = coordinates[-1] if word in "MV" else corner_y
        corners.append((corner_x, corner_y))
    assert corners == sorted(corners, key=lambda corner: (corner[0], -corner[1]))
    dots = {dot.tip.partition(" ")[0]: dot for dot in plot.dots}
    for index, (x, y) in enumerate(points):
        beaten = any((a, b) != (x, y) and a <= x and b >= y for a, b in points)
        dot = dots[f"c{index}"]
        if not beaten:
            assert (dot.x, dot.y) in corners


def test_directions_follow_the_metrics() -> None:
    plot = plot_of(SAMPLES["several"]())
    assert (plot.x_title, plot.y_title) == ("latency p95, ms (← better)", "accuracy, % (better ↑)")
    language = plot_of(SAMPLES["language"]())
    assert (language.x_title, language.y_title) == (
        "generation throughput, tokens/s (better →)",
        "perplexity (better ↓)",
    )
    plain = plot_of(SAMPLES["without accuracy"]())
    assert plain.y_title == "memory, MiB (better ↓)"


def test_the_area_is_the_memory() -> None:
    made = report(
        candidate("one", {"Accuracy": 80, "LatencyP95": 1, "ModelMemory": 40}),
        candidate("quarter", {"Accuracy": 85, "LatencyP95": 2, "ModelMemory": 10}),
    )
    radii = {dot.tip.partition(" ")[0]: dot.radius for dot in plot_of(made).dots}
    assert radii["one"] == radii["baseline"] == pytest.approx(2 * radii["quarter"])


def box(dot: Dot) -> tuple[float, float, float, float]:
    left, base = dot.text_at
    return left, base - 10, left + 6.7 * len(dot.text), base + 3


@pytest.mark.parametrize("name", ["several", "many", "long names", "huge"])
@pytest.mark.parametrize("paper", [WIDE, NARROW], ids=["wide", "narrow"])
def test_labels_cover_neither_each_other_nor_the_edge(name: str, paper: charts.Paper) -> None:
    dots = [dot for dot in plot_of(SAMPLES[name](), paper).dots if dot.text]
    assert dots
    for dot in dots:
        left, top, right, bottom = box(dot)
        assert paper.left <= left
        assert right <= paper.width
        assert paper.top <= top
        assert bottom <= paper.height - paper.bottom
    for one, other in itertools.combinations(map(box, dots), 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def distance(dot: Dot, label: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = label
    across, up = max(left - dot.x, dot.x - right, 0), max(top - dot.y, dot.y - bottom, 0)
    return math.hypot(across, up) - dot.radius


@pytest.mark.parametrize("name", ["several", "many", "long names", "huge"])
@pytest.mark.parametrize("paper", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_label_without_a_line_is_nearest_to_its_own_mark(name: str, paper: charts.Paper) -> None:
    dots = plot_of(SAMPLES[name](), paper).dots
    for dot in dots:
        if dot.text and not dot.leader:
            assert min(dots, key=lambda other: distance(other, box(dot))) is dot, dot.text


def test_what_was_chosen_is_always_labelled() -> None:
    plot = plot_of(SAMPLES["many"]())
    assert [dot.text for dot in plot.dots if dot.chosen] == ["candidate-0"]
    assert plot.dots[-1].chosen


def test_nothing_measured_makes_no_drawing() -> None:
    made = SAMPLES["nowhere a number"]()
    bare = made.model_copy(update={"baseline": made.baseline.model_copy(update={"measurements": []})})
    assert charts.trade_off(bare, told(bare).rows, WIDE) is None
    assert charts.distributions(told(bare).rows, WIDE.width) is None


def test_distributions_share_an_axis_the_chosen_one_first() -> None:
    made = report(
        candidate("other", {"LatencyP95": 3.0}).model_copy(update={"latency_histogram": histogram(0, 10, first=10.0)}),
        candidate("best", {"LatencyP95": 1.0}).model_copy(update={"latency_histogram": histogram(5, 5)}),
        chosen="best",
    )
    ridges = charts.distributions(told(made).rows, WIDE.width)
    assert ridges is not None
    assert [ridge.name for ridge in ridges.ridges] == ["best", "other"]
    assert ridges.ridges[0].median < ridges.ridges[1].median
    assert ridges.ridges[0].text == "p50 1.26 ms, p95 1.55 ms, 10 runs"
    assert ridges.beyond == 0


def test_a_long_tail_does_not_squeeze_the_rest() -> None:
    counts = [1000, *[0] * 40, 1]
    made = report(candidate("c", {"LatencyP95": 1.0}).model_copy(update={"latency_histogram": histogram(*counts)}))
    ridges = charts.distributions(told(made).rows, WIDE.width)
    assert ridges is not None
    assert ridges.beyond == 1


@pytest.mark.parametrize(("edges", "counts"), [([1.0, 2.0], [1, 2]), ([2.0, 1.0], [1]), ([0.0, 1.0], [1]), ([], [])])
def test_histograms_that_make_no_sense_are_left_out(edges: list[float], counts: list[int]) -> None:
    bad = histogram(1).model_copy(update={"edges": edges, "counts": counts})
    made = report(candidate("c", {"LatencyP95": 1.0}).model_copy(update={"latency_histogram": bad}))
    assert charts.distributions(told(made).rows, WIDE.width) is None


def test_the_most_sensitive_layers_come_first() -> None:
    layers = [LayerSensitivity(name=f"layer{place}", degradation=float(place)) for place in range(30)]
    made = report(candidate("c").model_copy(update={"sensitivity": layers}))
    (found,) = charts.sensitivities(told(made).rows)
    assert [layer.name for layer in found.layers[:2]] == ["layer29", "layer28"]
    assert found.layers[0].share == 1.0
    assert (len(found.layers), found.more) == (20, 10)
