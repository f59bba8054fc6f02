"""Throughput with several streams at once, in real runtimes, and where it cannot be measured."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from skerry.api.types import Framework
from skerry.optimizer import bench as bench_module
from skerry.optimizer import headroom, measure, streams
from skerry.optimizer.backends import runner
from skerry.optimizer.backends.base import BASELINE_DEVICE, BASELINE_SETTINGS, OwnStreams, Session
from skerry.optimizer.bench import Bench, Subject
from skerry.optimizer.child import HERE, Remote
from skerry.optimizer.data import Sample
from skerry.optimizer.errors import ChildDiedError, OptimizationError, OutOfMemoryError
from skerry.optimizer.flow import Flow, flow
from skerry.optimizer.ledger import FolderLedger
from skerry.optimizer.report import CandidateReport, StreamThroughput
from tests.unit.optimizer import models
from tests.unit.optimizer.test_ledger import WINNER, search
from tests.unit.optimizer.test_pipeline import Lines

MIB = 1 << 20
PATIENCE = 30.0


class Meeting:
    """Stands for a model whose inference ends when as many run at once as there are streams."""

    def __init__(self, streams: int) -> None:
        self._together = threading.Barrier(streams)

    def infer(self, sample: Sample) -> Any:
        self._together.wait(PATIENCE)
        return sample


class Counting:
    """Stands for a model: notes the samples that it is given, and for a clock that goes on by one a look."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.looks = 0

    def infer(self, sample: Sample) -> Any:
        self.seen.append(float(sample["x"]))
        return sample["x"]

    def clock(self) -> float:
        self.looks += 1
        return float(self.looks)


class Failing:
    def infer(self, sample: Sample) -> Any:
        message = f"no {len(sample)}"
        raise OptimizationError(message)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_streams_run_at_once(count: int) -> None:
    together = Meeting(count)
    found = flow([together] * count, [{}], 0.0)
    assert found.inferences == (1,) * count


def test_a_stream_runs_samples_in_turn_until_its_time_is_over() -> None:
    model = Counting()
    found = flow([model], [{"x": np.array(each)} for each in (0.0, 1.0, 2.0)], 4.0, model.clock)
    assert model.seen == [0.0, 1.0, 2.0, 0.0]
    assert (found.inferences, found.seconds, found.per_second) == ((4,), (4.0,), 1.0)
    assert found.waited >= 0.0


def test_what_streams_do_is_added_up() -> None:
    assert Flow((10, 20), (1.0, 4.0)).per_second == 15.0
    assert Flow((10, 20), (1.0, 4.0), 0.5).waited == 0.1


def test_a_failure_in_a_stream_is_the_flow_s() -> None:
    with pytest.raises(OptimizationError, match="no 0"):
        flow([Failing(), Failing()], [{}], 0.0)


@pytest.mark.parametrize(("threads", "wanted"), [(1, 2), (2, 2), (3, 3), (4, 4), (64, 4)])
def test_as_many_streams_as_threads_within_bounds(threads: int, wanted: int) -> None:
    assert streams.counts(threads) == (1, wanted)


@pytest.mark.parametrize(("milliseconds", "wanted"), [(0.1, 16), (31.25, 16), (125.0, 4), (500.0, 2), (9000.0, 2)])
def test_slow_models_get_fewer_turns(milliseconds: float, wanted: int) -> None:
    assert streams.turns(milliseconds) == wanted


def test_turns_in_which_neighbours_were_busy_do_not_count() -> None:
    baseline = Process(*[{1: 100.0, 2: 100.0}] * 3, {1: 1.0, 2: 1.0}, waits=(0.0, 0.0, 0.0, 0.5))
    found = of_candidate(baseline, Process({1: 100.0, 2: 100.0}), REFERENCE)
    assert [(each.low, each.high) for each in found.figures] == [(50.0, 50.0), (80.0, 80.0)]


class Process:
    """Stands for a process with a model: so many inferences a second with one stream and with several."""

    def __init__(self, *speeds: dict[int, float], dies: bool = False, waits: Sequence[float] = (0.0,)) -> None:
        self._waits = waits
        self.alive = True
        self.opened: list[int] = []
        self.taken: list[tuple[int, float]] = []
        self._speeds = speeds
        self._dies = dies

    def call(self, method: str, *values: Any) -> Any:
        match method:
            case "open_streams":
                self.opened.append(values[0])
            case "close_streams":
                self.opened.pop()
            case _:
                return self._flow(*values)
        return None

    def _flow(self, count: int, seconds: float) -> Flow:
        if self._dies:
            self.alive = False
            message = "running x: the process crashed with SIGSEGV"
            raise ChildDiedError(message)
        assert self.opened
        turn = sum(before == count for before, _ in self.taken)
        self.taken.append((count, seconds))
        speed = self._speeds[turn % len(self._speeds)][count]
        return Flow((int(speed),) + (0,) * (count - 1), (1.0,) * count, self._waits[turn % len(self._waits)])


def remote(process: Process) -> Remote[Bench]:
    return cast("Remote[Bench]", process)


def of_candidate(baseline: Process, candidate: Process, reference: Sequence[StreamThroughput]) -> streams.Streams:
    pair = (remote(baseline), remote(candidate))
    return streams.of_candidate(pair, reference, 2, 10.0, np.random.default_rng(1))


REFERENCE = (
    StreamThroughput(streams=1, value=50.0, low=50.0, high=50.0, baseline=50.0, runs=1),
    StreamThroughput(streams=2, value=80.0, low=80.0, high=80.0, baseline=80.0, runs=1),
)


def test_the_ratio_within_turns_counts() -> None:
    """A neighbour halves what both give in every second turn."""
    baseline = Process({1: 100.0, 2: 200.0}, {1: 50.0, 2: 100.0})
    candidate = Process({1: 200.0, 2: 300.0}, {1: 100.0, 2: 160.0})
    found = of_candidate(baseline, candidate, REFERENCE)
    assert [(each.streams, each.value, each.low, each.high, each.baseline) for each in found.figures] == [
        (1, 100.0, 100.0, 100.0, 50.0),
        (2, pytest.approx(80.0 * 1.55), pytest.approx(80.0 * 1.5), pytest.approx(80.0 * 1.6), 80.0),
    ]
    assert (found.figures[0].runs, found.figures[0].turns) == (4 * 200 + 4 * 100, streams.TURNS / 2)
    assert baseline.opened == candidate.opened == []
    seconds = [sum(took for count, took in candidate.taken if count == streamed) for streamed in (1, 2)]
    assert seconds == [pytest.approx(streams.SECONDS)] * 2


def test_the_unoptimized_model_s_own_figures_are_what_it_did() -> None:
    found = streams.of_baseline(remote(Process({1: 10.0, 2: 16.0}, {1: 12.0, 2: 18.0})), 2, 10.0)
    assert [(each.streams, each.value, each.low, each.high) for each in found.figures] == [
        (1, 11.0, 11.0, 11.0),
        (2, 17.0, 17.0, 17.0),
    ]


def test_where_it_cannot_be_measured_there_is_a_remark() -> None:
    died = of_candidate(Process({1: 1.0, 2: 1.0}), Process(dies=True), REFERENCE)
    assert died == streams.Streams((), "not measured: running x: the process crashed with SIGSEGV")
    odd = of_candidate(Process({1: 1.0, 2: 1.0}), cast("Process", object()), REFERENCE)
    assert (odd.figures, odd.remark[:13]) == ((), "not measured:")
    slow = streams.of_baseline(remote(Process()), 2, 1000.1)
    assert (slow.figures, "longer than a second" in slow.remark) == ((), True)
    assert of_candidate(Process(), Process(), ()) == streams.NOT_MEASURED


def subject(path: Path, framework: Framework, threads: int) -> Subject:
    return Subject("digits", framework, path, BASELINE_SETTINGS[framework], threads, BASELINE_DEVICE[framework])


@pytest.fixture(params=[Framework.ONNX_RUNTIME, Framework.OPENVINO])
def framework(request: pytest.FixtureRequest) -> Framework:
    return Framework(request.param)


def model_for(framework: Framework, classifier: Path, folder: Path) -> Path:
    """Return the classifier in a framework's own format."""
    if framework is Framework.ONNX_RUNTIME:
        return classifier
    import openvino as ov  # noqa: PLC0415 - heavy

    path = folder / "digits.xml"
    ov.save_model(ov.convert_model(str(classifier)), str(path), compress_to_fp16=False)
    return path


@pytest.mark.usefixtures("quick")
def test_real_runtimes_run_real_streams(framework: Framework, classifier: Path, tmp_path: Path) -> None:
    images, _ = models.digits()
    path = model_for(framework, classifier, tmp_path)
    conditions = measure.Conditions([{"image": images[:1]}], measure.write_warm_model(tmp_path / "warm"))
    with conditions.open("running", subject(path, framework, 2), HERE) as running:
        alone = streams.of_baseline(running, 2, 10.0)
        beside = streams.of_candidate((running, running), alone.figures, 2, 10.0, np.random.default_rng(1))
    for found in (alone, beside):
        assert found.remark == ""
        assert [figure.streams for figure in found.figures] == [1, 2]
        assert all(0 < figure.low <= figure.value <= figure.high for figure in found.figures)
        assert all(figure.runs >= figure.streams * figure.turns for figure in found.figures)


@pytest.mark.parametrize("count", [2, 3])
def test_streams_say_what_one_says(framework: Framework, classifier: Path, tmp_path: Path, count: int) -> None:
    images, _ = models.digits()
    tool, loaded = runner(framework), subject(model_for(framework, classifier, tmp_path), framework, 2)
    assert isinstance(tool, OwnStreams)
    arguments = (loaded.model, loaded.settings, loaded.threads, loaded.device)
    one, several = tool.load(*arguments), tool.streams(*arguments, count)

    def said(session: Session) -> Any:
        return np.concatenate([session.infer({"image": image[None]}) for image in images])

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(said, several))
    for answer in answers:
        np.testing.assert_allclose(answer, said(one), rtol=1e-4, atol=1e-5)


def test_openvino_divides_its_threads_among_streams(classifier: Path) -> None:
    import openvino as ov  # noqa: PLC0415 - heavy

    made: list[Any] = []
    compiling = ov.Core.compile_model

    def compile_model(*words: Any) -> Any:
        made.append(compiling(*words))
        return made[-1]

    tool, loaded = runner(Framework.OPENVINO), subject(classifier, Framework.OPENVINO, 2)
    assert isinstance(tool, OwnStreams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ov.Core, "compile_model", compile_model)
        tool.streams(classifier, loaded.settings, 2, "CPU", 2)
    assert (made[0].get_property("NUM_STREAMS"), made[0].get_property("INFERENCE_NUM_THREADS")) == (2, 2)


class Loading:
    """Stands for a framework that must load a model once for each stream."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def warm(self, threads: int, device: str) -> Counting:
        del threads, device
        return Counting()

    def load(self, model: Path, settings: Any, threads: int, device: str) -> Counting:
        del model, settings, device
        self.threads.append(threads)
        return Counting()


def test_others_load_the_model_once_for_each_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = Loading()
    monkeypatch.setattr(bench_module, "runner", lambda _: framework)
    made = Bench(replace(subject(tmp_path, Framework.ONNX_RUNTIME, 8), warmups=0), [{"x": np.zeros(())}], tmp_path)
    made.open_streams(4)
    assert framework.threads == [8, 2, 2, 2, 2]
    assert len(made.flow(4, 0.0).inferences) == 4
    assert len(made.flow(1, 0.0).inferences) == 1
    made.close_streams()


def test_streams_that_need_more_memory_than_there_is_are_not_loaded(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = models.digits()
    warm = measure.write_warm_model(tmp_path)
    made = Bench(subject(classifier, Framework.ONNX_RUNTIME, 1), [{"image": images[:1]}], warm)
    needed = 2 * made.start().memory_bytes
    monkeypatch.setattr(bench_module, "free_bytes", lambda: needed - 1)
    with pytest.raises(OutOfMemoryError, match="2 streams may need"):
        made.open_streams(2)
    for free in (needed, None):
        monkeypatch.setattr(bench_module, "free_bytes", lambda free=free: free)
        made.open_streams(2)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


MACHINE = {"proc/meminfo": "MemTotal: 4000 kB\nMemAvailable:   2000 kB\nHugePages_Total:  0\n"}
SECOND = {
    "sys/fs/cgroup/memory.max": "900000\n",
    "sys/fs/cgroup/memory.current": "500000\n",
    "sys/fs/cgroup/memory.stat": "anon 100\ninactive_file 200000\n",
}
FIRST = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "700000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 50000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MACHINE, 2000 * 1024),
        (MACHINE | SECOND, 600_000),
        (MACHINE | FIRST, 150_000),
        (MACHINE | SECOND | {"sys/fs/cgroup/memory.max": "max\n"}, 2000 * 1024),
        (SECOND | {"sys/fs/cgroup/memory.current": "2000000\n"}, 0),
        (MACHINE | {"proc/meminfo": "MemTotal: 1 kB\n"}, None),
    ],
)
def test_what_is_free_is_what_machine_and_container_have(
    tmp_path: Path, files: dict[str, str], free: int | None
) -> None:
    assert headroom.free_bytes(write(tmp_path, files)) == free


def test_here_something_is_free() -> None:
    free = headroom.free_bytes()
    assert free is not None
    assert free > MIB


@pytest.mark.usefixtures("quick")
class TestSearch:
    def test_it_is_in_the_report_and_beside_the_model_and_not_measured_twice(
        self, tmp_path: Path, classifier: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = search(tmp_path / "one", classifier, labelled, Lines(), tmp_path / "ledger")
        monkeypatch.setattr(streams, "of_candidate", None)  # who calls it now fails
        second = search(tmp_path / "two", classifier, labelled, Lines(), tmp_path / "ledger")
        for outcome in (first, second):
            assert outcome.facts is not None
            assert outcome.facts.name == WINNER
            assert [each.streams for each in outcome.facts.streams] == [1, 2]
            assert all(float(each.value) > 0 for each in outcome.facts.streams)
            assert outcome.folder is not None
            assert '"streams": 2' in (outcome.folder / "skerry.json").read_text(encoding="utf-8")
            for candidate in (outcome.report.baseline, *outcome.report.candidates):
                assert [each.streams for each in candidate.streams] == [1, 2], candidate.streams_remark

        def ratios(reports: Sequence[CandidateReport]) -> list[list[float]]:
            return [[each.value / each.baseline for each in report.streams] for report in reports]

        for then, now in zip(ratios(first.report.candidates), ratios(second.report.candidates), strict=True):
            assert now == pytest.approx(then), "said of the baseline of now, but not measured again"

    def test_a_failure_is_not_the_candidate_s(
        self, tmp_path: Path, classifier: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "MOST", 0)  # no stream at all, which no thread pool runs
        outcome = search(tmp_path, classifier, labelled, Lines(), tmp_path / "ledger")
        assert outcome.chosen is not None
        assert outcome.report.baseline.streams == []
        assert outcome.report.baseline.streams_remark.startswith("not measured: ")
        assert all(each.measurements and not each.streams for each in outcome.report.candidates)

    def test_a_search_that_ends_with_it_goes_on_after_the_candidate(
        self, tmp_path: Path, classifier: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class EvictedError(BaseException):
            pass

        def evicted(*_: Any) -> None:
            raise EvictedError

        ledger = tmp_path / "ledger"
        with monkeypatch.context() as patch:
            patch.setattr(streams, "of_candidate", evicted)
            with pytest.raises(EvictedError):
                search(tmp_path / "one", classifier, labelled, Lines(), ledger)
        (record,) = (FolderLedger(ledger).recall(path.stem) for path in ledger.glob("*.json"))
        assert record is not None
        assert record.measurements
        outcome = search(tmp_path / "two", classifier, labelled, Lines(), ledger)
        assert outcome.report.candidates[0].streams == []
        assert outcome.report.candidates[1].streams
