"""Workflows of Olive: what Skerry makes of a request, and what it takes, and does not take, of a user's."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.api.types import Framework, ModelKind
from skerry.optimizer import olive_workflow
from skerry.optimizer.errors import ConfigurationError
from skerry.planning.candidates import from_name


def kinds(passes: olive_workflow.Passes) -> list[str]:
    return [settings["type"] for settings in passes.values()]


@pytest.mark.parametrize(
    ("name", "options", "kind", "chain"),
    [
        ("olive-onnxruntime-int8", {}, ModelKind.CONVOLUTIONAL, ["OnnxStaticQuantization"]),
        (
            "olive-onnxruntime-int8",
            {"quantization": "Dynamic"},
            ModelKind.TRANSFORMER,
            ["OrtTransformersOptimization", "OnnxDynamicQuantization"],
        ),
        ("olive-onnxruntime-int8", {"fusion": "Off"}, ModelKind.TRANSFORMER, ["OnnxStaticQuantization"]),
        ("olive-onnxruntime-fp32", {}, ModelKind.OTHER, ["OrtTransformersOptimization"]),
        ("olive-openvino-int8", {}, ModelKind.OTHER, ["OpenVINOConversion", "OpenVINOQuantization"]),
    ],
)
def test_generated(name: str, options: dict[str, str], kind: ModelKind, chain: list[str]) -> None:
    assert kinds(olive_workflow.generated(from_name(name, options), kind)) == chain


def test_options_reach_the_pass() -> None:
    request = from_name("olive-onnxruntime-int8", {"calibration": "Entropy", "granularity": "PerTensor"})
    (settings,) = olive_workflow.generated(request, ModelKind.OTHER, native_int8=False).values()
    assert (settings["calibrate_method"], settings["per_channel"], settings["reduce_range"]) == ("Entropy", False, True)


def test_what_needs_a_workflow_says_so() -> None:
    with pytest.raises(ConfigurationError, match="only of a workflow: name one"):
        olive_workflow.generated(from_name("olive-onnxruntime-int4"), ModelKind.OTHER)


def written(folder: Path, document: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_of_a_users_workflow_the_passes_count(tmp_path: Path) -> None:
    document = {
        "input_model": {"type": "HfModel", "model_path": "some/where"},
        "passes": {
            "fixed": [{"type": "dynamictofixedshape", "config": {"dim_param": ["n"], "dim_value": [1]}}],
            "small": {"type": "OnnxStaticQuantization", "data_config": "theirs", "per_channel": True},
        },
    }
    passes, ignored = olive_workflow.of_user(written(tmp_path, document))
    assert passes == {
        "fixed": {"type": "DynamicToFixedShape", "dim_param": ["n"], "dim_value": [1]},
        "small": {"type": "OnnxStaticQuantization", "per_channel": True},
    }
    assert ignored == ["input_model"]
    whole = olive_workflow.document(passes, Framework.ONNX_RUNTIME, Path("/m.onnx"), tmp_path, evaluated=True)
    assert whole["passes"]["small"]["data_config"] == olive_workflow.CALIBRATION
    assert whole["input_model"] == {"type": "ONNXModel", "model_path": "/m.onnx"}
    assert whole["evaluators"] == {"ours": {"type": olive_workflow.EVALUATOR}}


def one(**settings: Any) -> dict[str, Any]:
    return {"passes": {"a": {"type": "OnnxStaticQuantization", **settings}}}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has no passes"),
        ({"passes": {}}, "has no passes"),
        ({"passes": {"a": "OnnxStaticQuantization"}}, "must be one object with a type"),
        ({"passes": {"a": {"type": "LoRA"}}}, "LoRA is not among the passes allowed: DynamicToFixedShape"),
        ({**one(), "search_strategy": {}}, "has search_strategy, which Skerry does not use: a candidate is one chain"),
        ({**one(), "auto_optimizer_config": {}}, "has auto_optimizer_config"),
        (one(user_script="mine.py"), "sets user_script; code that comes with a model is never run"),
        (one(config={"deep": [{"script_dir": "."}]}), "sets script_dir; code"),
        (one(transform_fn={"metric_func": "f"}), "sets metric_func; code"),
        (one(ignored_scope="/etc/passwd"), "no path or address may be named"),
        (one(names=["../../x"]), "no path or address may be named"),
        (one(hub="https://example.com/x"), "no path or address may be named"),
    ],
)
def test_what_is_refused(tmp_path: Path, document: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        olive_workflow.of_user(written(tmp_path, document))


def test_the_file_must_be_in_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    (source / "link.json").symlink_to(tmp_path / "outside.json")
    (source / "inside.json").write_text("{}", encoding="utf-8")
    assert olive_workflow.workflow_file(source, "inside.json").name == "inside.json"
    for name in ("../outside.json", str(tmp_path / "outside.json"), "link.json"):
        with pytest.raises(ConfigurationError, match="is outside the source"):
            olive_workflow.workflow_file(source, name)
    with pytest.raises(ConfigurationError, match="is not in the source: push it in one folder with the model"):
        olive_workflow.workflow_file(source, "gone.json")


def test_a_file_that_is_no_workflow_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(bytes(olive_workflow.MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="no workflow needs more"):
        olive_workflow.workflow_file(tmp_path, "large.json")
