"""The command line of a report asks for the very same thing, through a real shell."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CandidateRequest, DataFormat, EvaluationMetric, Goal, Metric, Objective, WhenNoneQualifies
from skerry.cli import optimizing
from skerry.cli.main import run
from skerry.cli.optimize import Wishes
from skerry.optimizer.rendering.command import pinned, portable, reproduction
from skerry.optimizer.report import Report
from skerry.planning import candidates
from tests.support.reports import DIGEST, report

TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30)
URI = st.builds("{}://{}".format, st.sampled_from(["oci", "https", "pvc", "-x"]), TEXT)
SHA256 = st.none() | st.just(DIGEST)
FORMAT = st.sampled_from(DataFormat)
DECIMAL = st.integers(-1000, 1000).map(str) | st.just("0.5")
CANDIDATES: list[dict[str, Any]] = [
    {"framework": "OpenVINO", "precision": "INT8", "technique": "PostTraining", "options": {"preset": "Mixed"}},
    {"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"},
    {
        "framework": "OpenVINO",
        "precision": "INT8",
        "technique": "AccuracyAware",
        "options": {"preset": "Performance", "maxDropPercent": "0.5"},
    },
]


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SPECS = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {
                "uri": URI,
                "sha256": SHA256,
                "format": st.sampled_from(["Auto", "ONNX"]),
                "credentialsSecretName": optional(st.just("secret")),
            }
        ),
        "accelerator": st.sampled_from(["cpu", "intel-gpu"]),
        "inputs": st.lists(
            st.fixed_dictionaries({"name": TEXT, "shape": st.lists(st.integers(1, 1_000_000), min_size=1, max_size=4)}),
            max_size=3,
        ),
        "calibration": optional(
            st.fixed_dictionaries(
                {"uri": URI, "sha256": SHA256, "format": FORMAT, "maxSamples": st.integers(1, 100_000)}
            )
        ),
        "evaluation": optional(
            st.fixed_dictionaries(
                {"uri": URI, "sha256": SHA256, "format": FORMAT, "metric": optional(st.sampled_from(EvaluationMetric))}
            )
        ),
        "gates": st.lists(
            st.fixed_dictionaries({"metric": st.sampled_from(Metric), "goal": st.sampled_from(Goal), "value": DECIMAL}),
            max_size=3,
        ),
        "objective": st.sampled_from(Objective),
        "candidates": st.lists(st.sampled_from(CANDIDATES), max_size=3),
        "whenNoneQualifies": st.sampled_from(WhenNoneQualifies),
        "optimization": st.fixed_dictionaries(
            {
                "nodeSelector": st.just({"kind": "edge"}),
                "budgetMinutes": optional(st.integers(1, 10_080)),
                "maxCandidates": optional(st.integers(1, 32)),
            }
        ),
        "suspend": st.booleans(),
    }
)


def parsed(command: str, patch: pytest.MonkeyPatch) -> tuple[OptimizationJobSpec, Wishes]:
    """Let a shell take the command line apart and `skerry` make a spec of it."""
    shell = subprocess.run(
        ["bash", "-c", f"skerry() {{ printf '%s\\0' \"$@\"; }}; {command}"], capture_output=True, check=True
    )
    words = shell.stdout.decode().split("\0")[:-1]
    found: list[Wishes] = []

    def keep(wishes: Wishes, access: object) -> int:
        del access
        found.append(wishes)
        return 0

    patch.setattr(optimizing, "run", keep)
    assert run(words) == 0
    return optimizing.spec_of(found[0]), found[0]


def of(made: Report) -> str:
    command = reproduction(made)
    assert command is not None
    return command


@given(SPECS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_asks_for_the_same(document: dict[str, Any]) -> None:
    spec = OptimizationJobSpec.model_validate(document)
    made = report(spec=spec, calibration=report().evaluation if spec.calibration else None)
    wanted = pinned(made)
    assert wanted is not None
    with pytest.MonkeyPatch.context() as patch:
        found, wishes = parsed(of(made), patch)
    assert found == wanted
    assert wishes.threads == made.machine.threads
    bare = {"sha256": None}
    loosened = wanted.model_copy(update={"model": wanted.model.model_copy(update=bare)})
    assert loosened.model == portable(spec).model.model_copy(update=bare)
    assert (wanted.gates, wanted.candidates, wanted.inputs) == (spec.gates, spec.candidates, spec.inputs)
    assert wanted.optimization.budget_minutes == spec.optimization.budget_minutes
    assert wanted.optimization.max_candidates == spec.optimization.max_candidates


def test_the_digests_are_those_of_what_was_used() -> None:
    made = report()
    assert f"--sha256 {DIGEST}" in of(made)
    assert f"--data-sha256 {DIGEST}" in of(made)


def test_local_files_with_difficult_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's $(here); a"
    folder.mkdir()
    model, data = folder / "-m o\\d*el.onnx", folder / "d://ata.npz"
    data.parent.mkdir()
    for path in (model, data):
        path.write_bytes(b"")
    spec = OptimizationJobSpec.model_validate(
        {"model": {"uri": f"file://{model}"}, "evaluation": {"uri": f"file://{data}"}, "accelerator": "cpu"}
    )
    made = report(spec=spec)
    found, _ = parsed(of(made), monkeypatch)
    assert found == pinned(made)


def test_inputs_with_difficult_names(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [{"name": name, "shape": [1, 2]} for name in ("a=b", "a,b=3", "-a", "it's")]
    spec = {"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu", "inputs": inputs}
    made = report(spec=OptimizationJobSpec.model_validate(spec))
    found, _ = parsed(of(made), monkeypatch)
    assert found == pinned(made)


def test_options_with_difficult_values(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"workflow": '{"a": 1, "b": "c:\\\\d"}', "layers": "a=1,b\\,", "none": ""}
    request = CandidateRequest.model_validate({**CANDIDATES[1], "options": options})

    def from_name(name: str, found: dict[str, str]) -> CandidateRequest:
        assert name == "openvino-fp32"
        return request.model_copy(update={"options": found})

    monkeypatch.setattr(candidates, "from_name", from_name)
    spec = {"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu", "candidates": [request.wire()]}
    made = report(spec=OptimizationJobSpec.model_validate(spec))
    found, _ = parsed(of(made), monkeypatch)
    assert found.candidates == [request]


def test_what_cannot_be_asked_for_here_has_no_command() -> None:
    assert reproduction(report(spec=None)) is None
    strange = {"framework": "OpenVINO", "precision": "INT8", "technique": "Dynamic"}
    spec = {"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu", "candidates": [strange]}
    assert reproduction(report(spec=OptimizationJobSpec.model_validate(spec))) is None
    spec = {"model": {"uri": "oci://r/m\x1b[2J:1"}, "accelerator": "cpu"}
    assert reproduction(report(spec=OptimizationJobSpec.model_validate(spec))) is None


def test_the_command_of_a_real_report(optimized: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Report.model_validate_json((optimized / "report.json").read_text(encoding="utf-8"))
    found, wishes = parsed(of(made), monkeypatch)
    assert found == pinned(made)
    assert wishes.threads == 1
    assert found.model.sha256 == made.source_sha256
