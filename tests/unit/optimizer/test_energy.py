"""Energy counters and power sensors, in trees such as the kernel's, and NVML by a stand-in."""

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.types import Framework, Metric
from skerry.optimizer import energy, measure, nvml, power
from skerry.optimizer.bench import Bench, Meter, Round, Subject
from skerry.optimizer.measure import Timings
from tests.unit.optimizer import models

FAKES = Path(__file__).parents[2] / "support" / "fake_nvml"
PATIENCE = 30.0
FINITE = st.floats(min_value=0.0, max_value=1e4)
SAMPLES = st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=30).map(
    lambda pairs: list(zip(itertools.accumulate(gap for gap, _ in pairs), (watts for _, watts in pairs), strict=True))
)


def write(root: Path, folder: str, **files: str | int) -> Path:
    """Write files of a folder of the kernel's; their names with `__` for what Python does not take."""
    path = root / "class" / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(f"{text}\n")
    return path


def rapl(root: Path, name: str, microjoules: int, limit: int = 1000) -> Path:
    return write(root, f"powercap/{name}", energy_uj=microjoules, max_energy_range_uj=limit) / "energy_uj"


def names(root: Path) -> list[str]:
    return [counter.name for counter in energy.counters(root)]


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FAKES))
    import pynvml  # noqa: PLC0415 - only now can it be found

    yield pynvml
    del sys.modules["pynvml"]


def test_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:2"):
        rapl(tmp_path, name, 5)
    write(tmp_path, "powercap/intel-rapl:2", name="psys")
    write(tmp_path, "powercap/intel-rapl:1", name="package-1")
    assert names(tmp_path) == ["intel-rapl:0/energy_uj", "intel-rapl:1/energy_uj"]


def test_boards_count_where_there_is_no_package(tmp_path: Path) -> None:
    write(tmp_path, "hwmon/hwmon3", energy1_input=7, energy2_input="not a number")
    (counter,) = energy.counters(tmp_path)
    assert isinstance(counter, energy.FileCounter)
    assert (counter.name, counter.read()) == ("hwmon3/energy1_input", 7)


def test_no_counter_no_figure(tmp_path: Path) -> None:
    assert energy.counters(tmp_path) == []
    assert not energy.begin([])
    assert energy.joules([]) is None


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    path = rapl(tmp_path, "intel-rapl:0", 100_000, limit=1_000_000)
    found = energy.counters(tmp_path)
    for before, after in ((100_000, 600_000), (900_000, 400_000)):
        path.write_text(str(before))
        assert energy.begin(found)
        path.write_text(str(after))
        assert energy.joules(found) == pytest.approx(0.5)


def test_what_cannot_be_read_or_stands_still_is_no_zero(tmp_path: Path) -> None:
    first, second = (rapl(tmp_path, f"intel-rapl:{place}", 0, limit=10**9) for place in (0, 1))
    found = energy.counters(tmp_path)
    assert energy.begin(found)
    first.write_text("3000000")
    assert energy.joules(found) is None  # the second stood still
    second.write_text("1000000")
    assert energy.joules(found) == pytest.approx(4.0)
    second.write_text("")
    assert energy.joules(found) is None
    assert not energy.begin(found)
    second.unlink()
    assert energy.joules(found) is None
    assert not energy.begin(found)


class Steady:
    """A counter by which every round uses three joules."""

    name = "steady"

    def begin(self) -> None:
        pass

    def joules(self) -> float:
        return 3.0


def test_a_round_has_energy_where_there_is_a_counter(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "here", lambda: [Steady()])
    images, _ = models.digits()
    subject = Subject("digits", Framework.ONNX_RUNTIME, classifier, {}, 1, "CPUExecutionProvider")
    made = Bench(subject, [{"image": images[:1]}], measure.write_warm_model(tmp_path))
    taken = made.run(6)
    assert taken.series[Metric.ENERGY_PER_INFERENCE].tolist() == pytest.approx([0.5] * 6)
    assert taken.counters == ("steady",)
    monkeypatch.setattr(energy, "here", list)
    silent = Bench(subject, [{"image": images[:1]}], measure.write_warm_model(tmp_path)).run(2)
    assert np.size(list(silent.series)) == 0
    assert silent.counters == ()


def test_a_round_has_none_where_a_counter_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = energy.FileCounter(tmp_path / "gone", None)
    monkeypatch.setattr(energy, "here", lambda: [broken])
    taken = Meter().round(np.ones(3))
    assert (dict(taken.series), taken.counters) == ({}, ())


def timings(joules: float, *counters: str) -> Timings:
    energy_series = {Metric.ENERGY_PER_INFERENCE: np.full(4, joules)}
    return Timings((Round(np.ones(4), 0.0, energy_series, counters),) * 3)


def test_energy_is_compared_only_where_the_same_counters_counted() -> None:
    baseline = timings(2.0, "package")
    reference = {metric: baseline.value(metric) for metric in baseline.metrics}
    same = measure.compare_all_timings((baseline, timings(1.0, "package")), reference)
    assert same[Metric.ENERGY_PER_INFERENCE].value == 1.0
    other = measure.compare_all_timings((baseline, timings(1.0, "package", "NVML GPU 0")), reference)
    assert Metric.ENERGY_PER_INFERENCE not in other
    assert Metric.LATENCY_P95 in other
    changing = Timings((*timings(1.0, "package").rounds, *timings(1.0, "board").rounds))
    assert changing.counters == ()


def ina3221(root: Path, folder: str, **rails: tuple[int, int]) -> Path:
    """Write an INA3221 with up to three rails: millivolts and milliamperes; and what it shows besides."""
    path = write(root, f"hwmon/{folder}", name="ina3221", in4_input=10, curr4_input=9999, in7_label="sum of shunt")
    for channel, (name, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        texts: dict[str, str | int] = {f"in{channel}_label": name, f"in{channel}_enable": 1}
        texts |= {f"in{channel}_input": millivolts, f"curr{channel}_input": milliamperes}
        write(root, f"hwmon/{folder}", **texts)
    return path


def test_rails_of_a_board_are_added_up(tmp_path: Path) -> None:
    """A Jetson AGX: two chips, no rail of the whole, and channels that nothing is connected to or that are off."""
    ina3221(tmp_path, "hwmon1", VDD_GPU_SOC=(19_000, 200), VDD_CPU_CV=(19_000, 100), OFF=(5_000, 1_000))
    write(tmp_path, "hwmon/hwmon1", in3_enable=0)
    ina3221(tmp_path, "hwmon2", NC=(5_000, 1_000), VDDQ=(1_000, 50))
    write(tmp_path, "hwmon/hwmon3", name="acpitz", power1_input=10**9)
    (counter,) = energy.counters(tmp_path)
    assert counter.name == "ina3221 VDD_GPU_SOC + ina3221 VDD_CPU_CV + ina3221 VDDQ"
    assert [rail.watts() for rail in power.rails(tmp_path)] == pytest.approx([3.8, 1.9, 0.05])


def test_the_rail_of_the_whole_board_counts_alone(tmp_path: Path) -> None:
    ina3221(tmp_path, "hwmon1", VDD_IN=(5_000, 1_000), VDD_CPU_GPU_CV=(5_000, 400), VDD_SOC=(5_000, 200))
    assert names(tmp_path) == ["ina3221 VDD_IN"]


def test_chips_of_one_rail_tell_its_power(tmp_path: Path) -> None:
    write(tmp_path, "hwmon/hwmon0", name="ina226", in0_input=2, in1_input=12_000, curr1_input=1, power1_input=2_500_000)
    (rail,) = power.rails(tmp_path)
    assert (rail.name, rail.watts()) == ("hwmon0", 2.5)


def test_sensors_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    ina3221(tmp_path, "hwmon1", VDD=(5_000, 1_000))
    (tmp_path / "class/hwmon/hwmon1/curr1_input").unlink()
    write(tmp_path, "hwmon/hwmon2", name="ina219", power1_input="many")
    assert power.counter(tmp_path) is None
    assert energy.counters(tmp_path) == []


def test_counters_go_before_sensors(tmp_path: Path) -> None:
    ina3221(tmp_path, "hwmon1", VDD_IN=(5_000, 1_000))
    rapl(tmp_path, "intel-rapl:0", 5)
    assert names(tmp_path) == ["intel-rapl:0/energy_uj"]


def integrated(samples: list[tuple[float, float]]) -> float:
    integral = power.Integral()
    for moment, watts in samples:
        integral.add(moment, watts)
    return integral.joules


@given(SAMPLES)
def test_energy_is_between_what_the_least_and_the_most_power_give(samples: list[tuple[float, float]]) -> None:
    seconds, watts = samples[-1][0] - samples[0][0], [each for _, each in samples]
    found, slack = integrated(samples), 1e-9 * (1 + seconds * max(watts))
    assert seconds * min(watts) - slack <= found <= seconds * max(watts) + slack


@given(SAMPLES, st.data())
def test_energy_of_two_times_is_that_of_both(samples: list[tuple[float, float]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(samples) - 1))
    parts = integrated(samples[: cut + 1]) + integrated(samples[cut:])
    assert parts == pytest.approx(integrated(samples), rel=1e-9, abs=1e-9)


@given(st.lists(FINITE, min_size=2, max_size=30).map(sorted), FINITE, FINITE)
def test_power_that_rises_evenly_is_integrated_exactly(moments: list[float], begin: float, slope: float) -> None:
    found = integrated([(moment, begin + slope * moment) for moment in moments])
    first, last = moments[0], moments[-1]
    wanted = begin * (last - first) + slope * (last**2 - first**2) / 2
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6 * (1 + begin + slope * last**2))


def test_a_counter_of_power_begins_anew_and_forgets(tmp_path: Path) -> None:
    path = write(tmp_path, "hwmon/hwmon0", name="ina226", power1_input=2_000_000) / "power1_input"
    moments = iter([0.0, 1.0, 3.0, 10.0, 12.0])
    counter = power.PowerCounter([power.Rail("ina226", "x", (path,))], lambda: next(moments))
    counter.begin()
    counter.sample()
    path.write_text("4000000")
    assert counter.joules() == pytest.approx(2.0 + 6.0)
    counter.begin()
    assert counter.joules() == pytest.approx(8.0)


def test_a_sample_that_fails_is_told_at_the_end_and_forgotten_at_the_next_beginning(tmp_path: Path) -> None:
    path = write(tmp_path, "hwmon/hwmon0", name="ina226", power1_input=2_000_000) / "power1_input"
    counter = power.PowerCounter([power.Rail("ina226", "x", (path,))])
    counter.begin()
    path.write_text("?")
    counter.sample()
    path.write_text("2000000")
    with pytest.raises(ValueError, match="invalid literal"):
        counter.joules()
    assert energy.joules([counter]) is None
    counter.begin()
    assert counter.joules() >= 0


class Watched:
    """Stands for a counter of power: lets tests wait for samples."""

    name = "watched"

    def __init__(self) -> None:
        self.samples = 0
        self.begun = 0
        self.sampled = threading.Semaphore(0)

    def begin(self) -> None:
        self.begun += 1

    def sample(self) -> None:
        self.samples += 1
        self.sampled.release()

    def joules(self) -> float:
        return float(self.samples)


def power_threads() -> int:
    return sum(thread.name == "power" for thread in threading.enumerate())


def test_a_thread_takes_samples_while_it_counts_and_only_then() -> None:
    watched = Watched()
    counter = power.Sampling(watched, period=0.001)
    for begun in (1, 2):
        counter.begin()
        assert watched.begun == begun
        for _ in range(3):
            assert watched.sampled.acquire(timeout=PATIENCE)
        assert counter.joules() == watched.samples
        assert power_threads() == 0


def test_what_began_twice_is_sampled_by_one_thread() -> None:
    counter = power.Sampling(Watched(), period=PATIENCE)
    counter.begin()
    counter.begin()
    assert power_threads() == 1
    counter.joules()
    assert power_threads() == 0


def test_a_board_s_sensors_count_in_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ina3221(tmp_path, "hwmon1", VDD_IN=(5_000, 1_000))
    found = energy.counters(tmp_path)
    monkeypatch.setattr(energy, "here", lambda: found)
    began = time.monotonic()
    meter = Meter()
    taken = meter.round(np.ones(2))
    (joules,) = set(taken.series[Metric.ENERGY_PER_INFERENCE].tolist())
    assert 0 < 2 * joules <= 5.0 * (time.monotonic() - began)
    assert taken.counters == ("ina3221 VDD_IN",)


def test_gpus_count_beside_packages(tmp_path: Path, fake_nvml: Any) -> None:
    fake_nvml.GPUS = [5_000, "Not Supported", 7_000]
    path = rapl(tmp_path, "intel-rapl:0", 0, limit=10**9)
    found = energy.counters(tmp_path)
    assert [counter.name for counter in found] == ["intel-rapl:0/energy_uj", "NVML GPU 0", "NVML GPU 2"]
    assert energy.begin(found)
    path.write_text("1000000")
    fake_nvml.GPUS = [5_500, "Not Supported", 7_250]
    assert energy.joules(found) == pytest.approx(1.0 + 0.5 + 0.25)


def test_a_board_s_sensors_see_its_gpu_themselves(tmp_path: Path, fake_nvml: Any) -> None:
    fake_nvml.GPUS = [5_000]
    ina3221(tmp_path, "hwmon1", VDD_IN=(5_000, 1_000))
    assert names(tmp_path) == ["ina3221 VDD_IN"]


@pytest.mark.parametrize(
    "change",
    [
        lambda nvml: setattr(nvml, "DRIVER", False),
        lambda nvml: setattr(nvml, "GPUS", ["Not Supported"]),
        lambda nvml: setattr(nvml, "GPUS", []),
    ],
    ids=["no driver", "not supported", "no GPU"],
)
def test_no_gpu_no_figure(tmp_path: Path, fake_nvml: Any, change: Callable[[Any], None]) -> None:
    fake_nvml.GPUS = [5_000]
    change(fake_nvml)
    assert energy.counters(tmp_path) == []


def test_a_gpu_that_is_lost_is_no_zero(fake_nvml: Any) -> None:
    fake_nvml.GPUS = [5_000]
    found = nvml.counters()
    assert energy.begin(found)
    assert energy.joules(found) is None  # it stood still
    fake_nvml.GPUS = ["GPU is lost"]
    assert energy.joules(found) is None
    assert not energy.begin(found)


def test_without_the_binding_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.counters() == []
