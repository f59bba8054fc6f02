"""`skerry optimize`, without a cluster."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from skerry.api.artifact import VariantFacts
from skerry.cli.errors import INTERRUPTED
from skerry.cli.main import run
from skerry.optimizer import pipeline
from skerry.optimizer.report import Report

pytestmark = pytest.mark.usefixtures("quick")

ARGUMENTS = ["--candidate", "onnxruntime-int8-static", "--gate", "ArtifactSize:PercentMinImprovement:25"]


def test_variant_report_and_table(
    tmp_path: Path, classifier: Path, labelled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["optimize", str(classifier), "--data", str(labelled), "--out", str(out), *ARGUMENTS]) == 0
    shown = capfd.readouterr()
    assert "onnxruntime-int8-static" in shown.out
    assert "Passed        ArtifactSize" in shown.out
    assert f"report:  {out / 'report.html'}" in shown.out
    assert "Quantizing onnxruntime-int8-static" in shown.err
    text = (out / "variant" / "skerry.json").read_text(encoding="utf-8")
    facts = VariantFacts.model_validate_json(text)
    assert (out / "variant" / facts.model_file).is_file()
    report = Report.model_validate_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.chosen == facts.name == "onnxruntime-int8-static"


def test_what_is_told_to_end_leaves_nothing_behind(tmp_path: Path, classifier: Path, labelled: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = [classifier, "--data", labelled, "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "skerry.cli.main", "optimize", *map(str, words)],
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("skerry-optimize-*/candidates")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not list(scratch.glob("skerry-optimize-*"))


def test_two_searches_in_one_folder(tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "optimize.log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert run(["optimize", str(classifier), "--out", str(tmp_path)]) == os.EX_CANTCREAT
    assert "another search writes its results into" in capfd.readouterr().err


def test_what_is_interrupted_says_how_to_go_on(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "optimize", interrupted)
    assert run(["optimize", str(classifier), "--out", str(tmp_path / "out")]) == INTERRUPTED
    assert "the same command with --resume goes on" in capfd.readouterr().err


def test_json_and_nothing_to_serve(tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--candidate", "onnxruntime-fp32", "--gate", "ArtifactSize:Threshold:0.000001", "--json"]
    for _ in range(2):  # the second run replaces the first one's results
        assert run(["optimize", str(classifier), "--out", str(out), *arguments]) == 1
        assert json.loads(capfd.readouterr().out)["reason"] == "GatesFailed"
    assert not (out / "variant").exists()


def test_results_stay_until_there_are_new_ones(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["optimize", str(classifier), "--out", str(out), "--candidate", "onnxruntime-fp32", "--no-gates"]
    assert run(words) == 0
    results = (*out.glob("report.*"), *out.glob("variant/*"))
    before = {path: path.read_bytes() for path in results}
    assert len(before) > 3

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    assert run(words) == os.EX_CANTCREAT
    assert f"the results cannot be written into {out}: No space left on device" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_links_are_not_copied_for_workers(tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, folder, workers = tmp_path / "secret", tmp_path / "model", tmp_path / "workers"
    secret.write_text("not the model's", encoding="utf-8")
    folder.mkdir()
    workers.mkdir()
    (folder / "model.onnx").write_bytes(classifier.read_bytes())
    (folder / "weights.bin").symlink_to(secret)
    words = ["optimize", str(folder), "--workers", str(workers), "--out", str(tmp_path / "out")]
    assert run(words) == os.EX_UNAVAILABLE
    assert f"no worker listens in {workers}" in capfd.readouterr().err
    with Listener(str(workers / "x.sock"), family="AF_UNIX"):
        assert run(words) == os.EX_DATAERR
    assert "weights.bin is neither a file nor a folder; links are not taken" in capfd.readouterr().err


def test_a_place_for_results_that_cannot_be_made(
    tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(["optimize", str(classifier), "--out", str(tmp_path / "file" / "out")]) == os.EX_CANTCREAT
    assert "name another one with --out" in capfd.readouterr().err


def test_what_libraries_print_goes_to_the_log(
    tmp_path: Path, classifier: Path, labelled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--candidate", "openvino-int8-ptq:preset=Performance", "--gate", "Accuracy:Threshold:1"]
    assert run(["optimize", str(classifier), "--data", str(labelled), "--out", str(out), *arguments]) == 0
    assert "Statistics collection" not in capfd.readouterr().err
    assert "Statistics collection" in (out / "optimize.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--gate", "LatencyP95:50"],
            os.EX_USAGE,
            "is not METRIC:GOAL:VALUE, as in LatencyP95:PercentMinImprovement:50",
        ),
        (["--gate", "Latency:Threshold:50"], os.EX_USAGE, "'Latency' is none of Accuracy, LatencyP50"),
        (["--gate", "LatencyP95:Threshold:fast"], os.EX_USAGE, "'fast' is not a decimal number"),
        (["--gate", "LatencyP95:PercentMinImprovement:100"], os.EX_USAGE, "can never be met"),
        (["--candidate", "int4"], os.EX_USAGE, "there is no candidate 'int4'"),
        (["--candidate", "openvino-int8-ptq:preset"], os.EX_USAGE, "is not NAME:OPTION=VALUE"),
        (["--objective", "speed"], os.EX_USAGE, "--objective: 'speed' is none of"),
        (["--input", "image"], os.EX_USAGE, "is not NAME=1,3,224,224"),
        (
            ["--no-gates", "--gate", "LatencyP95:Threshold:1"],
            os.EX_USAGE,
            "--no-gates and --gate contradict each other",
        ),
        (["--sha256", "abc"], os.EX_USAGE, "--sha256: 'abc' is not a SHA-256 of 64 hexadecimal digits"),
        (["--data-sha256", "0" * 64], os.EX_USAGE, "--data-sha256 needs --data"),
        (["--calibration-sha256", "0" * 64], os.EX_USAGE, "--calibration-sha256 needs --calibration"),
        (["--accelerator", "abacus"], os.EX_USAGE, "--accelerator: 'abacus' is none of"),
        (["--format", "Paper"], os.EX_USAGE, "--format: 'Paper' is none of Auto, ONNX"),
        (["--sha256", "0" * 64], os.EX_DATAERR, "but " + "0" * 64 + " was expected"),
        (["--metric", "F1"], os.EX_USAGE, "--metric needs --data"),
        (["--data", "none.npz"], os.EX_NOINPUT, "none.npz: there is no such file or folder"),
        (["--push", "oci://localhost:1/digits@sha256:" + "0" * 64], os.EX_USAGE, "needs a tag and no digest"),
    ],
)
def test_mistakes(
    tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(["optimize", str(classifier), "--out", str(tmp_path / "out"), *arguments]) == code
    assert message in capfd.readouterr().err


def test_without_the_optimizer_it_says_what_to_install(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skerry.cli.errors.find_spec", lambda name: None if name == "nncf" else name)
    assert run(["optimize", str(classifier)]) == os.EX_CONFIG
    assert "optimizing needs nncf: install Skerry with its optimizer" in capfd.readouterr().err


def test_a_bad_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"<html>")
    assert run(["optimize", str(path), "--out", str(tmp_path / "out")]) == os.EX_DATAERR
    assert "model.onnx is an HTML page" in capfd.readouterr().err


def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    assert run(["optimize", str(classifier), "--out", str(tmp_path)]) == os.EX_CANTCREAT
    assert "is not the result of an earlier run" in capfd.readouterr().err


def test_a_run_that_fails_leaves_the_earlier_result(
    tmp_path: Path, classifier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    quick = ["--candidate", "onnxruntime-fp32", "--gate", "LatencyP95:Threshold:0"]
    served = ["--when-none-qualifies", "ServeBaseline"]
    assert run(["optimize", str(classifier), "--out", str(out), *quick, *served]) == 0
    before = {path.name: path.read_bytes() for path in (out / "variant").iterdir()}
    data = tmp_path / "wrong.npz"
    data.write_bytes(b"PK")

    assert run(["optimize", str(classifier), "--out", str(out), "--data", str(data)]) == os.EX_DATAERR

    capfd.readouterr()
    assert {path.name: path.read_bytes() for path in (out / "variant").iterdir()} == before
    assert (out / "report.json").is_file()
