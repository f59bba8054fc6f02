"""Measuring: which rounds count, when there are enough, and what the figures are then."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.types import Framework, Metric, TensorFacts, TensorType
from skerry.optimizer import measure
from skerry.optimizer.bench import Bench, Round, Start, Subject, mapped_bytes, resident_bytes
from skerry.optimizer.child import Remote
from skerry.optimizer.data import Samples
from skerry.optimizer.measure import Conditions, Timings
from tests.unit.optimizer import models

MIB = 1 << 20


class FakeBench:
    """Stands for a process that runs a model: so many milliseconds, times what neighbours cost in that round."""

    def __init__(self, milliseconds: float, noise: Sequence[float] = (1.0,)) -> None:
        self.milliseconds = milliseconds
        self.noise = noise
        self.rounds = 0

    def call(self, method: str, count: int) -> Round:
        assert method == "run"
        factor = self.noise[self.rounds % len(self.noise)]
        self.rounds += 1
        return Round(np.full(count, self.milliseconds * factor), waited=factor - 1.0)


def bench(fake: FakeBench) -> Remote[Bench]:
    return cast("Remote[Bench]", fake)


def pair_of(baseline: FakeBench, candidate: FakeBench, *, settled: bool = True) -> measure.Pair:
    random = np.random.default_rng(1)
    return measure.paired(bench(baseline), bench(candidate), random, lambda _: settled)


def test_the_ratio_within_rounds_counts() -> None:
    pair = pair_of(FakeBench(4.0), FakeBench(1.0))
    found = measure.compare_timings(Metric.LATENCY_P95, *pair, reference=8.0)
    assert (found.baseline, found.value, found.low, found.high) == (8.0, 2.0, 2.0, 2.0)
    throughput = measure.compare_timings(Metric.THROUGHPUT, *pair, reference=100.0)
    assert throughput.value == pytest.approx(400.0)


def test_rounds_in_which_neighbours_were_busy_do_not_count() -> None:
    pair = pair_of(FakeBench(4.0, [1.0, 1.0, 1.0, 9.0, 1.0]), FakeBench(1.0))
    assert pair[0].value(Metric.LATENCY_P50) == 4.0
    assert pair[0].waited == 0
    assert len(pair[0].rounds) == len(pair[1].rounds) == measure.FIRST_ROUNDS // 2


def test_doubt_doubles_the_rounds_up_to_a_bound() -> None:
    sure, unsure = FakeBench(1.0), FakeBench(1.0)
    pair_of(sure, FakeBench(1.0), settled=True)
    pair_of(unsure, FakeBench(1.0), settled=False)
    assert sure.rounds == 1 + measure.FIRST_ROUNDS
    assert unsure.rounds == 1 + measure.MAX_ROUNDS


def test_slow_models_get_fewer_rounds() -> None:
    slow = FakeBench(5000.0)
    pair = pair_of(slow, FakeBench(5000.0), settled=False)
    assert slow.rounds == 1 + measure.MIN_ROUNDS
    assert pair[0].runs == measure.MIN_ROUNDS * measure.MIN_RUNS_IF_SLOW


@given(st.floats(min_value=0.001, max_value=1e5))
def test_the_budget_holds_but_for_the_slowest(milliseconds: float) -> None:
    runs, rounds = measure.runs_and_rounds(milliseconds)
    seconds = 2 * runs * rounds * milliseconds / 1000
    fewest = measure.MIN_RUNS if milliseconds < measure.SLOW_MILLISECONDS else measure.MIN_RUNS_IF_SLOW
    assert fewest <= runs <= measure.MAX_RUNS
    assert measure.MIN_ROUNDS <= rounds <= measure.MAX_ROUNDS
    assert seconds <= measure.BUDGET_SECONDS or rounds == measure.MIN_ROUNDS


def test_figures_are_medians_and_percentiles_stay_in_order() -> None:
    steady = Round(np.linspace(1.0, 2.0, 101), 0.0)
    timings = Timings((steady, steady))
    assert timings.value(Metric.LATENCY_P50) == pytest.approx(1.5)
    assert timings.value(Metric.LATENCY_P95) == pytest.approx(1.95)
    noisy = Timings((Round(np.linspace(1.0, 40.0, 101), 0.0),) * 2)
    reference = {metric: noisy.value(metric) for metric in noisy.metrics} | {Metric.LATENCY_P95: 1.0}
    found = measure.compare_all_timings((noisy, timings), reference)
    assert found[Metric.LATENCY_P95].value >= found[Metric.LATENCY_P50].value
    assert found[Metric.LATENCY_P99].value >= found[Metric.LATENCY_P95].value


def test_starts_are_compared_by_medians_and_all_ratios() -> None:
    baseline = [Start(1.0, 10 * MIB), Start(2.0, 10 * MIB), Start(1.5, 12 * MIB)]
    candidate = [Start(0.5, 2 * MIB), Start(0.75, 3 * MIB), Start(0.6, 3 * MIB)]
    found = measure.compare_starts(Metric.MODEL_MEMORY, baseline, candidate)
    assert (found.baseline, found.value) == (10.0, 3.0)
    assert (found.low, found.high) == pytest.approx((10 * 2 / 12, 3.0))
    startup = measure.compare_starts(Metric.STARTUP_TIME, baseline, candidate)
    assert (startup.low, startup.high) == pytest.approx((1.5 * 0.5 / 2.0, 1.5 * 0.75 / 1.0))


def test_inputs_are_made_up_without_data() -> None:
    tensors = [
        TensorFacts(name="image", dtype=TensorType.FP16, shape=[-1, 3, 4, 4]),
        TensorFacts(name="ids", dtype=TensorType.INT64, shape=[1, 8]),
    ]
    (sample,) = measure.inputs_for(tensors, None)
    assert sample["image"].shape == (1, 3, 4, 4)
    assert sample["image"].dtype == np.float16
    assert np.array_equal(sample["ids"], np.zeros((1, 8), np.int64))


def test_memory_of_the_models_files_counts(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\1" * 8 * MIB)
    assert mapped_bytes(tmp_path) == 0
    weights = np.memmap(path, mode="r")
    assert int(weights.sum()) == 8 * MIB
    assert mapped_bytes(tmp_path) == 8 * MIB
    assert mapped_bytes(tmp_path / "elsewhere") == 0
    assert resident_bytes(tmp_path) > 8 * MIB


def test_a_real_process_runs_a_real_model(tmp_path: Path, classifier: Path) -> None:
    images, _ = models.digits()
    conditions = Conditions([{"image": images[:1]}], measure.write_warm_model(tmp_path))
    subject = Subject("digits", Framework.ONNX_RUNTIME, classifier, {}, 1, "CPUExecutionProvider")
    with Remote("running", Bench, subject, conditions.inputs, conditions.warm) as running:
        start: Start = running.call("start")
        taken: Round = running.call("run", 5)
        outputs: Any = measure.outputs(running, Samples({"image": images}))
    assert start.seconds > 0
    assert 0 < start.memory_bytes < 64 * MIB
    assert taken.latencies.shape == (5,)
    assert (taken.latencies > 0).all()
    assert taken.waited >= 0
    assert outputs.shape == (200, 10)
