"""`skerry accelerators`, as people use it."""

import json
from pathlib import Path

import pytest
import yaml

from skerry.accelerators.catalogue import catalogue
from skerry.cli.main import run

MINE = {
    "name": "mine",
    "description": "My card.",
    "match": [{"pci": {"vendor": "abcd", "devices": ["0001"]}}],
    "frameworks": [{"name": "OpenVINO", "reason": "it runs there", "source": "its manual"}],
}


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


@pytest.mark.usefixtures("wide")
def test_the_table_tells_of_each_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["accelerators"]) == 0

    told = capsys.readouterr().out
    for name in catalogue():
        assert name in told
    npu = next(line for line in told.splitlines() if line.split()[:1] == ["intel-npu"])
    assert "PCI 8086:7d1d,ad1d,643e" in npu
    assert "npu.intel.com/accel" in npu
    assert "its accel device" in npu
    assert "OpenVINO, ONNXRuntime" in npu
    assert "nothing: it is only reported" in told


def test_one_is_explained_with_reasons_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["accelerators", "show", "jetson-orin"]) == 0

    told = capsys.readouterr().out
    assert "device tree nvidia,tegra234" in told
    assert "runtime class nvidia" in told
    assert "TensorRT: NVIDIA's own compiler" in told
    assert "source: NVIDIA TensorRT documentation" in told


@pytest.mark.parametrize(
    ("name", "said"), [("cpu", "OpenVINO, as CPU"), ("intel-npu", "this version of Skerry serves nothing there")]
)
def test_it_is_told_what_serves_there(capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    assert run(["accelerators", "show", name]) == 0
    assert said in capsys.readouterr().out


def test_a_name_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["accelerators", "show", "intel-tpu"]) == 64
    assert "there is no accelerator 'intel-tpu'; there are amd-gpu, " in capsys.readouterr().err


def test_entries_of_ones_own_are_listed_beside_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump([MINE]), encoding="utf-8")

    assert run(["accelerators", "check", str(file)]) == 0
    assert "1 entry, nothing wrong" in capsys.readouterr().out
    assert run(["accelerators", "--json", "--file", str(file)]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == [*catalogue(), "mine"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frameworks": []}, "mine: frameworks: "),
        ({"match": [{"pci": {"vendor": "8086", "devices": ["643e"]}}]}, "intel-npu and mine both match PCI 8086:643e"),
        ({"name": "cpu"}, "cpu: there are two entries of that name"),
        ({"devices": {"OpenVINO": "NPU"}, "drivers": "x"}, "mine: drivers: "),
    ],
)
def test_a_wrong_entry_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump([{**MINE, **change}]), encoding="utf-8")

    assert run(["accelerators", "check", str(file)]) == 65
    assert message in capsys.readouterr().err
