"""`skerry optimize` and the optimization Job with sources in a bucket and on the Hugging Face hub."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from devcluster import parts
from skerry.api import jobcontract as contract
from skerry.api.jobcontract import ExitCode
from skerry.api.reasons import JobReason
from skerry.cli.main import run as skerry
from skerry.optimizer import measure, streams
from skerry.optimizer.job import LineReporter, run
from skerry.optimizer.report import Report
from tests.registry.buckets import BUCKET, KEY, SECRET, RunningBuckets
from tests.registry.running import RunningRegistry
from tests.support.hub import COMMIT, TOKEN, FakeHub, Repository, running
from tests.unit.optimizer import models

pytestmark = pytest.mark.registry

QUICK = ["--candidate", "onnxruntime-int8-static", "--gate", "ArtifactSize:PercentMinImprovement:25"]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick measurements, and nothing of the machine's own environment."""
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.005)
    monkeypatch.setattr(streams, "SECONDS", 0.01)
    for name in ("TMPDIR", "CI", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    images, labels = models.digits()
    paths = (
        models.save(folder / "digits.onnx", models.classifier()),
        models.save_data(folder / "test.npz", image=images, labels=labels),
    )
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def buckets(tmp_path: Path, files: dict[str, bytes]) -> Iterator[RunningBuckets]:
    folder = tmp_path / "buckets"
    folder.mkdir()
    started = RunningBuckets(parts.build("versitygw") / "versitygw", folder).start()
    for name, data in files.items():
        started.put(f"digits/{name}", data)
    yield started
    started.stop()


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    with running() as fake:
        fake.repositories["org/digits"] = Repository(
            {**files, "pytorch_model.bin": b"\x80", "README.md": b""}, private=True
        )
        yield fake


def environment(buckets: RunningBuckets, hub: FakeHub) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": buckets.access.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": hub.endpoint,
    }


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (f"s3://{BUCKET}/digits/digits.onnx", f"s3://{BUCKET}/digits/test.npz"),
        (f"hf://org/digits@{COMMIT}/digits.onnx", f"hf://org/digits@{COMMIT}/test.npz"),
        (f"hf://org/digits@{COMMIT}", f"s3://{BUCKET}/digits/test.npz"),
    ],
)
def test_on_a_laptop(
    model: str, data: str, buckets: RunningBuckets, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(buckets, hub).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(contract.ENV_ALLOW_HTTP, "true")
    out = tmp_path / "out"
    assert skerry(["optimize", model, "--data", data, "--out", str(out), *QUICK]) == 0
    report = Report.model_validate_json((out / "report.json").read_text(encoding="utf-8"))
    assert (report.chosen, report.source_uri) == ("onnxruntime-int8-static", model)
    written = "".join(path.read_text(encoding="utf-8") for path in out.iterdir() if path.is_file())
    assert not [secret for secret in (SECRET, TOKEN) if secret in written]


def test_plain_http_on_a_laptop_needs_a_word(
    buckets: RunningBuckets,
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(buckets, hub).items():
        monkeypatch.setenv(name, value)
    model, data = (f"s3://{BUCKET}/digits/{name}" for name in ("digits.onnx", "test.npz"))
    arguments = ["optimize", model, "--data", data, "--out", str(tmp_path / "out"), *QUICK]
    assert skerry(arguments) == os.EX_CONFIG
    assert "would be asked by plain HTTP" in capfd.readouterr().err
    assert skerry([*arguments, "--insecure"]) == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    assert skerry([*arguments, "--insecure"]) == os.EX_CONFIG
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together" in capfd.readouterr().err


def test_from_a_bucket_into_a_registry(
    registry: RunningRegistry, buckets: RunningBuckets, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(buckets, hub).items():
        monkeypatch.setenv(name, value)
    model, data = (f"s3://{BUCKET}/digits/{name}" for name in ("digits.onnx", "test.npz"))
    push = ["--push", f"oci://{registry.address}/models/digits:1", "--insecure"]
    assert skerry(["optimize", model, "--data", data, "--out", str(tmp_path / "out"), *QUICK, *push]) == 0
    assert registry.blobs()


def test_a_bucket_with_an_authority_of_the_site(
    hub: FakeHub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    secure = RunningBuckets(parts.build("versitygw") / "versitygw", tmp_path, authority).start()
    try:
        (tmp_path / "data" / BUCKET).mkdir()
        (tmp_path / "data" / BUCKET / "digits.onnx").write_bytes(files["digits.onnx"])
        for name, value in environment(secure, hub).items():
            monkeypatch.setenv(name, value)
        arguments = ["optimize", f"s3://{BUCKET}/digits.onnx", "--candidate", "onnxruntime-fp32", "--gate"]
        arguments += ["LatencyP95:Threshold:100000", "--out", str(tmp_path / "out")]
        assert skerry(arguments) == os.EX_CONFIG
        assert skerry([*arguments, "--ca-file", str(tmp_path / "ca.pem")]) == 0
    finally:
        secure.stop()


def test_in_the_job(
    registry: RunningRegistry, buckets: RunningBuckets, hub: FakeHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    values = environment(buckets, hub)
    mirror = values.pop("HF_ENDPOINT")
    for name, value in values.items():
        (secret / name).write_text(value + "\n", encoding="utf-8")
    sha256 = hashlib.sha256(files["digits.onnx"]).hexdigest()
    spec = {
        "model": {"uri": f"s3://{BUCKET}/digits/digits.onnx", "sha256": sha256, "credentialsSecretName": "mine"},
        "evaluation": {"uri": f"hf://org/digits@{COMMIT}/test.npz"},
        "accelerator": "cpu",
        "candidates": [{"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining"}],
        "gates": [{"metric": "ArtifactSize", "goal": "PercentMinImprovement", "value": "25"}],
    }
    environ = {
        contract.ENV_SPEC: json.dumps(spec),
        contract.ENV_PUSH_REPOSITORY: f"{registry.address}/models/vision/digits",
        contract.ENV_PULL_REPOSITORY: "localhost:30500/models/vision/digits",
        contract.ENV_TAG: "cpu-1",
        contract.ENV_INSECURE_REGISTRIES: registry.address,
        contract.ENV_ALLOW_HTTP: "true",
        contract.ENV_HUB_ENDPOINT: mirror,
        contract.ENV_SOURCE_CREDENTIALS: str(secret),
        contract.ENV_WORK: str(tmp_path / "work"),
        contract.ENV_CPU_LIMIT: "1",
    }
    code, result = run(environ, LineReporter(io.StringIO()))
    assert (code, result.reason) == (ExitCode.FINISHED, JobReason.SUCCEEDED), result.message
    assert result.source_sha256 == sha256
    (secret / "AWS_SECRET_ACCESS_KEY").write_text("another", encoding="utf-8")
    code, result = run(environ, LineReporter(io.StringIO()))
    assert (code, result.reason) == (ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION)
    assert "SignatureDoesNotMatch" in result.message
