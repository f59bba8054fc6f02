"""The optimization Job against a real registry: sources from it, variant and report into it."""

import io
import json
from pathlib import Path

import pytest

from skerry.api import jobcontract as contract
from skerry.api.artifact import VariantFacts
from skerry.api.jobcontract import ExitCode
from skerry.api.reasons import JobReason
from skerry.cli.main import run as cli
from skerry.optimizer.job import LineReporter, run
from skerry.optimizer.report import Report
from skerry.store import image
from skerry.store.references import Reference
from skerry.store.settings import Credentials
from tests.measuring import measure_little, own_environment
from tests.registry.running import RunningRegistry
from tests.unit.optimizer import models

PULL = "localhost:30500/models/vision/digits"


def push(registry: RunningRegistry, path: Path, name: str) -> str:
    reference = registry.reference(name)
    image.push_image(
        [image.Layer({path.name: path})],
        reference,
        artifact_type="application/vnd.test",
        annotations={},
        settings=registry.settings,
        credentials=Credentials(),
        work=path.parent,
    )
    return reference.uri


def fetched(registry: RunningRegistry, published: str, folder: Path) -> Path:
    """Pull what nodes would, by the name that this test's machine knows."""
    digest = published.removeprefix(f"oci://{PULL}@")
    assert digest.startswith("sha256:"), published
    reference = Reference.parse(f"{registry.address}/models/vision/digits@{digest}")
    image.pull(reference, folder, settings=registry.settings, credentials=Credentials())
    return folder


def test_from_the_registry_into_the_registry(
    registry: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    own_environment(monkeypatch)
    images, labels = models.digits()
    model = push(registry, models.save(tmp_path / "digits.onnx", models.classifier()), "models/digits:1")
    data = push(registry, models.save_data(tmp_path / "test.npz", image=images, labels=labels), "data/digits:1")
    spec = {
        "model": {"uri": model},
        "evaluation": {"uri": data},
        "accelerator": "cpu",
        "candidates": [{"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining"}],
        "gates": [{"metric": "ArtifactSize", "goal": "PercentMinImprovement", "value": "25"}],
    }
    code, result = run(
        {
            contract.ENV_SPEC: json.dumps(spec),
            contract.ENV_PUSH_REPOSITORY: f"{registry.address}/models/vision/digits",
            contract.ENV_PULL_REPOSITORY: PULL,
            contract.ENV_TAG: "cpu-1",
            contract.ENV_INSECURE_REGISTRIES: registry.address,
            contract.ENV_WORK: str(tmp_path / "work"),
            contract.ENV_CPU_LIMIT: "1",
        },
        LineReporter(io.StringIO()),
    )
    assert (code, result.reason) == (ExitCode.FINISHED, JobReason.SUCCEEDED), result.message
    assert result.artifact is not None
    assert result.report_artifact is not None
    assert result.chosen is not None
    variant = fetched(registry, result.artifact, tmp_path / "variant")
    facts = VariantFacts.model_validate_json((variant / "skerry.json").read_text(encoding="utf-8"))
    assert facts.name == result.chosen.name == "onnxruntime-int8-static"
    assert facts.provenance.source_uri == model
    assert facts.provenance.source_sha256 == result.source_sha256
    assert (variant / facts.model_file).stat().st_size > 0
    published = fetched(registry, result.report_artifact, tmp_path / "report")
    assert sorted(path.name for path in published.iterdir()) == ["report.html", "report.json", "report.md"]
    report = Report.model_validate_json((published / "report.json").read_text(encoding="utf-8"))
    assert facts.name in (published / "report.html").read_text(encoding="utf-8")
    here = result.report_artifact.replace(PULL, f"{registry.address}/models/vision/digits")
    assert cli(["report", here, "--insecure", "--out", str(tmp_path / "report.html")]) == 0
    assert (tmp_path / "report.html").read_bytes() == (published / "report.html").read_bytes()
    assert (report.chosen, report.reason) == (facts.name, "Succeeded")
    assert len(result.termination_message()) <= contract.TERMINATION_MESSAGE_LIMIT
