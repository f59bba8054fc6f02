"""The Pareto set and the choice."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.api.metrics import higher_is_better
from skerry.api.types import Metric, Objective
from skerry.planning.pareto import DIMENSIONS, Point, choose, pareto

FIGURES = st.fixed_dictionaries({metric: st.integers(min_value=1, max_value=9).map(float) for metric in DIMENSIONS})
POINTS = st.lists(st.tuples(FIGURES, st.booleans()), max_size=8).map(
    lambda rows: [Point(f"c{index}", figures, passed) for index, (figures, passed) in enumerate(rows)]
)
OBJECTIVES = st.sampled_from([*(Objective(metric.value) for metric in DIMENSIONS), Objective.BALANCED])


def as_good(one: Point, other: Point) -> bool:
    return all(
        one.figures[metric] >= other.figures[metric]
        if higher_is_better(metric)
        else one.figures[metric] <= other.figures[metric]
        for metric in DIMENSIONS
    )


def beats(one: Point, other: Point) -> bool:
    return as_good(one, other) and one.figures != other.figures


@given(POINTS)
def test_nobody_in_the_set_is_beaten_and_everybody_outside_is_by_one_inside(points: list[Point]) -> None:
    front = pareto(points)
    inside = [point for point in points if point.name in front]
    for point in points:
        assert any(beats(other, point) for other in inside) is (point.name not in front)


@given(POINTS, OBJECTIVES)
def test_the_choice_has_passed_and_nothing_that_passed_beats_it(points: list[Point], objective: Objective) -> None:
    best = choose(points, objective)
    passed = {point.name: point for point in points if point.passed}
    if not passed:
        assert best is None
        return
    assert best in passed
    assert not any(beats(other, passed[best]) for other in passed.values())


@given(POINTS, OBJECTIVES, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order(points: list[Point], objective: Objective, random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, objective) == choose(points, objective)


@given(POINTS, st.sampled_from(DIMENSIONS))
def test_the_objective_decides(points: list[Point], metric: Metric) -> None:
    best = choose(points, Objective(metric.value))
    figures = [point.figures[metric] for point in points if point.passed]
    if best is not None:
        wanted = max(figures) if higher_is_better(metric) else min(figures)
        assert next(point for point in points if point.name == best).figures[metric] == wanted


def point(name: str, accuracy: float, latency: float, memory: float, size: float = 1.0, **more: float) -> Point:
    figures = dict(zip(DIMENSIONS, (accuracy, latency, memory, size), strict=True))
    return Point(name, figures | {Metric(key): value for key, value in more.items()}, passed=True)


def test_balanced_is_nearest_to_the_best_of_everything() -> None:
    points = [point("fast", 90, 1, 9), point("small", 90, 9, 1), point("both", 90, 2, 2)]
    assert choose(points, Objective.BALANCED) == "both"


def test_an_objective_outside_the_dimensions_looks_at_all_that_passed() -> None:
    points = [point("quick-start", 90, 5, 5, StartupTime=0.1), point("better", 91, 1, 1, StartupTime=0.2)]
    assert pareto(points) == {"better"}
    assert choose(points, Objective.STARTUP_TIME) == "quick-start"


def test_what_was_not_measured_cannot_be_compared() -> None:
    unknown = Point("unknown", {Metric.LATENCY_P95: 1.0}, passed=True)
    assert pareto([unknown, point("known", 90, 2, 2)]) == {"unknown", "known"}
    assert choose([unknown], Objective.ACCURACY) is None
