"""Energy counters, in a tree such as the kernel's."""

from pathlib import Path

import numpy as np
import pytest

from skerry.api.types import Framework, Metric
from skerry.optimizer import energy, measure
from skerry.optimizer.bench import Bench, Subject
from tests.unit.optimizer import models


def rapl(root: Path, name: str, microjoules: int, limit: int = 1000) -> Path:
    folder = root / "class" / "powercap" / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder / "energy_uj"


def test_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        rapl(tmp_path, name, 5)
    assert [counter.path.parent.name for counter in energy.counters(tmp_path)] == ["intel-rapl:0", "intel-rapl:1"]


def test_boards_count_where_there_is_no_package(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    (folder / "energy1_input").write_text("7\n")
    (folder / "energy2_input").write_text("not a number\n")
    assert [counter.read() for counter in energy.counters(tmp_path)] == [7]


def test_no_counter_no_figure(tmp_path: Path) -> None:
    assert energy.counters(tmp_path) == []


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", 0, limit=1_000_000)
    found = energy.counters(tmp_path)
    assert energy.joules(found, [100_000], [600_000]) == pytest.approx(0.5)
    assert energy.joules(found, [900_000], [400_000]) == pytest.approx(0.5)


def test_a_round_has_energy_where_there_is_a_counter(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(0, 10**9, 3_000_000))

    class Steady(energy.Counter):
        def read(self) -> int:
            return next(readings)

    monkeypatch.setattr(energy, "counters", lambda: [Steady(tmp_path, None)])
    images, _ = models.digits()
    subject = Subject("digits", Framework.ONNX_RUNTIME, classifier, {}, 1, "CPUExecutionProvider")
    made = Bench(subject, [{"image": images[:1]}], measure.write_warm_model(tmp_path))
    series = made.run(6).series
    assert series[Metric.ENERGY_PER_INFERENCE].tolist() == pytest.approx([0.5] * 6)
    monkeypatch.setattr(energy, "counters", list)
    silent = Bench(subject, [{"image": images[:1]}], measure.write_warm_model(tmp_path))
    assert np.size(list(silent.run(2).series)) == 0
