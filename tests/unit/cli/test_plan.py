"""`skerry plan`: the decision matrix for a manifest, offline."""

import json
from pathlib import Path

import pytest

from skerry.cli.main import run

MANIFEST = """
apiVersion: skerry.dev/v1alpha1
kind: EdgeModel
metadata: {name: digits}
spec:
  source: {uri: "oci://registry.example.com/models/digits:1.0"}
  evaluation: {uri: "oci://registry.example.com/data/digits:1.0"}
"""


NEVER = '{metric: LatencyP95, goal: PercentMinImprovement, value: "100"}'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


def test_candidates_come_with_reasons_and_estimates(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "-f", str(manifest), "--kind", "Convolutional", "--parameters", "2621440", "--accelerator", "cpu"]
    assert run([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows)[:2] == ["openvino-int8-ptq", "openvino-int8-ptq-bias"]
    assert rows["openvino-int8-ptq-bias"]["when"] == "when openvino-int8-ptq loses too much accuracy"
    assert rows["openvino-int8-aware"]["when"] == "when openvino-int8-ptq loses too much accuracy"
    assert rows["openvino-fp32"]["size_bytes"] == 10 << 20
    assert all(row["reason"] and row["source"] for row in rows.values())
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "openvino-fp32  first; size 10.0 MiB, memory 12.0 MiB" in shown


def test_what_no_cluster_tries_is_marked(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "-f", str(manifest), "--accelerator", "qualcomm-hexagon"]
    assert run([*words, "--accelerator", "cpu", "--json"]) == 0
    remarks = {each["accelerator"]: each["remark"] for each in json.loads(capsys.readouterr().out)}
    assert remarks["cpu"] == ""
    assert "only by `skerry optimize`" in remarks["qualcomm-hexagon"]
    assert run(words) == 0
    assert "no cluster optimizes for it" in " ".join(capsys.readouterr().out.split())


def test_without_parameters_estimates_are_shares(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-f", str(manifest)]) == 0
    shown = capsys.readouterr().out
    assert "openvino-fp32  first; size 100 %, memory 120 %" in shown
    assert "hailo-8" in shown
    assert "this version of Skerry does not optimize for it" in " ".join(shown.split())


def test_without_data_only_what_keeps_the_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(MANIFEST.replace("  evaluation", "  gates: []\n#"), encoding="utf-8")
    assert run(["plan", "-f", str(path), "--accelerator", "cpu", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["rows"]] == ["openvino-fp32", "onnxruntime-fp32"]
    assert "calibration" in found["left_out"]["openvino-int8-ptq"]


@pytest.mark.parametrize(
    ("change", "words", "code", "told"),
    [
        (("", ""), ["--accelerator", "gpu9"], 64, "there is no accelerator gpu9; there are amd-gpu"),
        (("", ""), ["--kind", "Deep"], 64, "kinds are Convolutional, "),
        (("", ""), ["--format", "Pickle"], 64, "formats are Auto, ONNX"),
        (("EdgeModel", "Pod"), [], 65, "must hold one EdgeModel, but holds 0"),
        (("source", "sauce"), [], 65, "spec.source: Field required"),
        (("v1alpha1", "v9"), [], 65, "the apiVersion is skerry.dev/v9; this version of Skerry knows skerry.dev/v1"),
        (("spec:", f"spec:\n  gates: [{NEVER}]"), [], 65, "can never be met"),
        (("digits}", f"digits, annotations: {'[' * 3000}{']' * 3000}}}"), [], 66, "cannot be read as YAML"),
        (("kind:", "kind: ["), [], 66, "cannot be read as YAML"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    words: list[str],
    code: int,
    told: str,
) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(MANIFEST.replace(*change) if change[0] else MANIFEST, encoding="utf-8")
    assert run(["plan", "-f", str(path), *words]) == code
    assert told in capsys.readouterr().err
