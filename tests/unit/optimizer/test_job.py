"""The Job's entry: how each kind of mistake ends, and that nothing but progress is on stdout."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from skerry.api import jobcontract as contract
from skerry.api.jobcontract import ExitCode, JobResult, Progress, Stage
from skerry.api.reasons import JobReason
from skerry.optimizer.errors import DeadlineError, OutOfDiskError, OutOfMemoryError
from skerry.optimizer.job import LineReporter, failure, run
from skerry.store.errors import UnreachableError
from skerry.store.trees import file_sha256
from tests.unit.optimizer import models

Spec = dict[str, Any]
CLAIM = "pvc://models"


@pytest.fixture
def claim(tmp_path: Path, classifier: Path, labelled: Path) -> Path:
    """A claim `models` with good and bad files."""
    folder = tmp_path / "claims" / "models"
    folder.mkdir(parents=True)
    (folder / "digits.onnx").write_bytes(classifier.read_bytes())
    (folder / "test.npz").write_bytes(labelled.read_bytes())
    (folder / "broken.onnx").write_bytes(classifier.read_bytes()[:500])
    (folder / "model.h5").write_bytes(models.FOREIGN["Keras"][0])
    images, labels = models.digits()
    models.save_data(folder / "wrong.npz", picture=images, labels=labels)
    return folder


def environment(claim: Path, spec: Spec | str) -> dict[str, str]:
    return {
        contract.ENV_SPEC: spec if isinstance(spec, str) else json.dumps(spec),
        contract.ENV_PUSH_REPOSITORY: "registry.invalid/models/digits",
        contract.ENV_PULL_REPOSITORY: "localhost:30500/models/digits",
        contract.ENV_TAG: "cpu-1",
        contract.ENV_WORK: str(claim.parent.parent / "work"),
        contract.ENV_PVC_ROOT: str(claim.parent),
        contract.ENV_CPU_LIMIT: "1",
        contract.ENV_TERMINATION_LOG: str(claim.parent.parent / "termination"),
    }


def source(claim: Path, name: str) -> Spec:
    return {"uri": f"{CLAIM}/{name}", "sha256": file_sha256(claim / name)}


def spec_for(claim: Path, **changes: Any) -> Spec:
    return {"model": source(claim, "digits.onnx"), "accelerator": "cpu", **changes}


MISTAKES: dict[str, tuple[Callable[[Path], Spec | str], ExitCode, JobReason, str]] = {
    "no JSON": (lambda _: "{", ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION, "the spec is not valid"),
    "unknown field": (
        lambda claim: spec_for(claim, tuning="max"),
        ExitCode.BAD_CONFIGURATION,
        JobReason.BAD_CONFIGURATION,
        "the spec is not valid: tuning: Extra inputs are not permitted",
    ),
    "unknown scheme": (
        lambda claim: spec_for(claim, model={"uri": "ftp://host/model.onnx"}),
        ExitCode.BAD_INPUT,
        JobReason.BAD_MODEL,
        "unknown URI scheme",
    ),
    "nothing there": (
        lambda claim: spec_for(claim, model={"uri": f"{CLAIM}/none.onnx", "sha256": "0" * 64}),
        ExitCode.UNAVAILABLE,
        JobReason.SOURCE_NOT_FOUND,
        "there is no 'none.onnx' in the claim 'models'",
    ),
    "other bytes": (
        lambda claim: spec_for(claim, model={"uri": f"{CLAIM}/digits.onnx", "sha256": "0" * 64}),
        ExitCode.BAD_INPUT,
        JobReason.DIGEST_MISMATCH,
        "the SHA-256 is",
    ),
    "plain http": (
        lambda claim: spec_for(claim, model={"uri": "http://models.invalid/a.onnx", "sha256": "0" * 64}),
        ExitCode.BAD_CONFIGURATION,
        JobReason.BAD_CONFIGURATION,
        "plain HTTP is not allowed here",
    ),
    "broken model": (
        lambda claim: spec_for(claim, model=source(claim, "broken.onnx")),
        ExitCode.BAD_INPUT,
        JobReason.BAD_MODEL,
        "broken.onnx is not an ONNX model, or is cut off",
    ),
    "other format": (
        lambda claim: spec_for(claim, model=source(claim, "model.h5")),
        ExitCode.BAD_INPUT,
        JobReason.UNSUPPORTED_FORMAT,
        "looks like Keras",
    ),
    "wrong data": (
        lambda claim: spec_for(claim, evaluation=source(claim, "wrong.npz")),
        ExitCode.BAD_INPUT,
        JobReason.BAD_DATA,
        "no array for the model's input image",
    ),
    "no data there": (
        lambda claim: spec_for(claim, evaluation={"uri": f"{CLAIM}/none.npz", "sha256": "0" * 64}),
        ExitCode.UNAVAILABLE,
        JobReason.SOURCE_NOT_FOUND,
        "there is no 'none.npz' in the claim 'models'",
    ),
    "impossible candidate": (
        lambda claim: spec_for(
            claim, candidates=[{"framework": "ONNXRuntime", "precision": "INT4", "technique": "Conversion"}]
        ),
        ExitCode.BAD_CONFIGURATION,
        JobReason.BAD_CONFIGURATION,
        "ONNXRuntime has no candidate INT4 Conversion",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(claim: Path, name: str) -> None:
    spec, code, reason, message = MISTAKES[name]
    found, result = run(environment(claim, spec(claim)), LineReporter(io.StringIO()))
    assert (found, result.reason) == (code, reason), result.message
    assert message in result.message


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (contract.ENV_TAG, "", "the environment variable SKERRY_TAG is missing"),
        (contract.ENV_CPU_LIMIT, "500m", "SKERRY_CPU_LIMIT is '500m'; a whole number above 0 is expected"),
        (contract.ENV_MEMORY_LIMIT, "0", "SKERRY_MEMORY_LIMIT_BYTES is '0'"),
    ],
)
def test_a_wrong_environment(claim: Path, variable: str, value: str, message: str) -> None:
    environ = environment(claim, spec_for(claim)) | {variable: value}
    code, result = run(environ, LineReporter(io.StringIO()))
    assert (code, result.reason) == (ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION)
    assert message in result.message


def test_what_is_retried_and_what_is_not() -> None:
    unreachable = UnreachableError("registry: no answer")
    assert failure(unreachable, Stage.FETCHING) == (ExitCode.UNAVAILABLE, JobReason.SOURCE_UNREACHABLE)
    assert failure(unreachable, Stage.PUBLISHING) == (ExitCode.UNAVAILABLE, JobReason.REGISTRY_UNREACHABLE)
    assert failure(OutOfMemoryError("x"), Stage.MEASURING) == (ExitCode.BAD_INPUT, JobReason.OUT_OF_MEMORY)
    assert failure(OutOfDiskError("x"), Stage.QUANTIZING) == (ExitCode.BAD_INPUT, JobReason.OUT_OF_DISK)
    assert failure(DeadlineError("x"), Stage.BASELINE) == (ExitCode.BAD_INPUT, JobReason.DEADLINE_EXCEEDED)


def start(environ: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "skerry.optimizer"],
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_fails(claim: Path) -> None:
    environ = environment(claim, spec_for(claim, model=source(claim, "broken.onnx")))
    process = start(environ)
    out, err = process.communicate()
    assert process.returncode == ExitCode.BAD_INPUT
    lines = [Progress.model_validate_json(line) for line in out.splitlines()]
    assert [line.stage for line in lines] == [Stage.WAITING, Stage.FETCHING, Stage.INSPECTING]
    result = JobResult.model_validate_json(Path(environ[contract.ENV_TERMINATION_LOG]).read_text(encoding="utf-8"))
    assert result.reason is JobReason.BAD_MODEL
    assert "broken.onnx is not an ONNX model" in err


def test_a_process_that_is_told_to_end(claim: Path) -> None:
    process = start(environment(claim, spec_for(claim, evaluation=source(claim, "test.npz"))))
    assert process.stdout is not None
    assert process.stderr is not None
    seen = []
    for line in process.stdout:
        seen.append(Progress.model_validate_json(line).stage)
        if Stage.BASELINE in seen:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
