"""What becomes ONNX first, and what of it never reaches torch. The conversion itself is tested where torch is."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.api.types import ModelFormat
from skerry.optimizer import conversion, torch_source
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.language_inspection import is_language_model
from skerry.optimizer.toolshed import Toolshed

TENSORS = b"tensors"


def safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def encoder(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}), encoding="utf-8")
    return folder


def program(**changes: Any) -> dict[str, Any]:
    node = {
        "target": changes.pop("target", "torch.ops.aten.relu.default"),
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}}],
        "metadata": {"nn_module_stack": "L__self__,,os.system"},
    }
    return {"graph_module": {"graph": {"nodes": [node], **changes}}, "range_constraints": {"s0": {"min_val": 2}}}


def export(path: Path, document: Any, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(conversion.PROGRAM, json.dumps(document))
        archive.writestr("version", "8.2")
        archive.writestr("serialized_state_dict.pt", TENSORS)
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_what_is_to_be_converted(tmp_path: Path) -> None:
    safetensors(encoder(tmp_path / "bert") / "model.safetensors")
    safetensors(encoder(tmp_path / "llama", model_type="llama") / "model.safetensors")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "model.onnx").touch()
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "model.pt2").touch()
    wanted = {name: conversion.wanted(tmp_path / name, ModelFormat.AUTO) for name in ("bert", "llama", "plain")}
    assert wanted == {"bert": ModelFormat.HUGGING_FACE, "llama": None, "plain": None}
    assert conversion.wanted(tmp_path / "single", ModelFormat.AUTO) is ModelFormat.TORCH_EXPORT
    assert conversion.wanted(Path("model.onnx"), ModelFormat.AUTO) is None


def test_without_its_tools_the_group_is_named(tmp_path: Path) -> None:
    safetensors(encoder(tmp_path) / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"group olive, which are not here: say spec\.source\.format: Hugging"):
        conversion.to_onnx(tmp_path, ModelFormat.AUTO, Toolshed({}), tmp_path / "out")


def test_a_folder_with_one_exported_network_is_left_alone(tmp_path: Path) -> None:
    folder = encoder(tmp_path)
    (folder / "model.onnx").touch()
    assert conversion.to_onnx(folder, ModelFormat.AUTO, Toolshed({}), tmp_path / "out") == (folder, ModelFormat.AUTO)
    assert not is_language_model(folder, ModelFormat.AUTO)
    safetensors(folder / "model.safetensors")
    assert conversion.to_onnx(folder, ModelFormat.ONNX, Toolshed({}), tmp_path / "out") == (folder, ModelFormat.ONNX)


def test_what_needs_no_conversion_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    assert conversion.to_onnx(path, ModelFormat.AUTO, Toolshed({}), tmp_path) == (path, ModelFormat.AUTO)


@pytest.mark.parametrize(
    ("config", "files", "told"),
    [
        ({}, ["pytorch_model.bin"], r"only has pytorch_model\.bin, a Python pickle, which is never loaded"),
        ({}, [], "the folder has no weights: save the model with save_pretrained"),
        ({"auto_map": {"AutoModel": "mine.Model"}}, [], "such code is never run"),
    ],
)
def test_encoders_that_are_refused(tmp_path: Path, config: dict[str, Any], files: list[str], told: str) -> None:
    folder = encoder(tmp_path / "model", **config)
    for name in files:
        (folder / name).write_bytes(b"\x80\x02")
    with pytest.raises(BadModelError, match=told):
        conversion.wanted(folder, ModelFormat.AUTO)


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(BadModelError, match=r"config\.json is not valid JSON"):
        conversion.wanted(tmp_path, ModelFormat.AUTO)


def test_a_clean_export_is_copied_without_its_notes(tmp_path: Path) -> None:
    symbol = "Add(Mul(Integer(2), Symbol('s0', positive=True, integer=True)), Integer(-1))"
    spec = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'
    document = program(sizes=[{"as_expr": {"expr_str": symbol}}], in_spec=spec, metadata_of_mine={"target": {"a": 1}})
    conversion.clean_export(export(tmp_path / "a.pt2", document), tmp_path / "b.pt2")
    with zipfile.ZipFile(tmp_path / "b.pt2") as archive:
        copied = json.loads(archive.read(conversion.PROGRAM))
        assert archive.read("serialized_state_dict.pt") == TENSORS
    assert copied["graph_module"]["graph"]["nodes"][0]["metadata"] == {}
    assert copied["graph_module"]["graph"]["sizes"] == document["graph_module"]["graph"]["sizes"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": "torch.os.system"}, r"calls torch\.os\.system, which is no operator of ATen"),
        ({"target": "torch.ops.aten.relu.default.__globals__"}, "is no operator of ATen"),
        ({"target": "_operator.methodcaller"}, "is no operator of ATen"),
        ({"target": "#extension:run"}, "is no operator of ATen"),
        ({"arg": {"as_operator": "torch.load"}}, r"calls torch\.load"),
        ({"size": {"expr_str": "__import__('os')"}}, "has the formula __import__"),
        ({"size": {"expr_str": "Symbol('s0', cls=exec)"}}, "has the formula Symbol"),
        ({"size": {"expr_str": "().__class__"}}, "has the formula"),
        ({"size": {"expr_str": "lambda: s0"}}, "has the formula lambda"),
        ({"arg": {"as_custom_obj": {"name": "a", "class_fqn": "b"}}}, "needs an object of a class of its own"),
        ({"in_spec": '[1, {"type": "collections.namedtuple"}]'}, "something other than tuples"),
        ({"out_spec": "not JSON"}, "something other than tuples"),
        ({"range_constraints": {"exit()": {}}}, "has bounds for something that is no symbol"),
    ],
)
def test_what_torch_would_look_up_or_evaluate(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = export(tmp_path / "a.pt2", program(**changes))
    with pytest.raises(BadModelError, match=told):
        conversion.clean_export(path, tmp_path / "b.pt2")


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return path


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["archive/data.pkl", "archive/data/0"], r"is a Python pickle \(torch\.save\), which is never loaded"),
        (["m/archive_format", "m/models/model.json"], r"of a newer torch than 2\.6"),
        (["config.json", "model.weights.h5"], r"is no export of torch .*: it holds config\.json"),
        ([conversion.PROGRAM], "is no export of torch .*: it holds too little, or something twice"),
        ([conversion.PROGRAM, "version", "extra_files/x"], "it holds extra_files/x"),
    ],
)
def test_archives_of_other_kinds(tmp_path: Path, names: list[str], told: str) -> None:
    with pytest.raises(BadModelError, match=told):
        conversion.clean_export(zipped(tmp_path / "a.pt2", *names), tmp_path / "b.pt2")


def test_an_archive_with_two_programs(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = export(tmp_path / "a.pt2", program(), **{conversion.PROGRAM: b"{}"})
    with pytest.raises(BadModelError, match=r"is no export of torch .*: it holds too little, or something twice"):
        conversion.clean_export(path, tmp_path / "b.pt2")


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BadModelError, match="is no export of torch"):
        conversion.clean_export(path, tmp_path / "b.pt2")


def test_a_conversion_must_say_the_same() -> None:
    said = np.array([[1.0, -20.0]])
    torch_source.check_same("y", said + 0.001, said)
    for other, told in (
        (said + 0.01, "the output 'y' differs by 0.0005 of its largest value"),
        (np.full_like(said, np.nan), "differs by nan"),
        (said[0], r"has the shape \(2,\) instead of \(1, 2\)"),
    ):
        with pytest.raises(BadModelError, match=told):
            torch_source.check_same("y", other, said)
