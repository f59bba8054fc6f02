"""What a source model is, and every way in which it can be bad."""

import shutil
from pathlib import Path

import pytest
from onnx import TensorProto

from skerry.api.types import InputShape, ModelFormat, TensorType
from skerry.optimizer import child
from skerry.optimizer.detect import locate
from skerry.optimizer.errors import BadModelError, UnsupportedFormatError
from skerry.optimizer.inspection import Inspected, inspect
from tests.unit.optimizer import models

PARAMETERS = 8 * 9 + 512 * 10 + 10


def look(
    path: Path, *inputs: InputShape, wanted: ModelFormat = ModelFormat.AUTO, folder: Path | None = None
) -> Inspected:
    return child.call("inspecting", inspect, path, wanted, list(inputs), folder or path.parent / "pinned")


def test_a_good_model(classifier: Path) -> None:
    found = look(classifier)
    facts = found.facts
    assert (facts.format, facts.parameters) == (ModelFormat.ONNX, PARAMETERS)
    assert facts.size_bytes == classifier.stat().st_size
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*facts.inputs, *facts.outputs)] == [
        ("image", TensorType.FP32, [-1, 1, 8, 8]),
        ("scores", TensorType.FP32, [-1, 10]),
    ]
    assert dict(found.source.files) == {"digits.onnx": classifier}


@pytest.mark.parametrize("name", models.BAD)
def test_bad_models(tmp_path: Path, name: str) -> None:
    content, message = models.BAD[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(content())
    with pytest.raises(BadModelError, match=message):
        look(path)


@pytest.mark.parametrize("name", models.FOREIGN)
def test_other_formats(tmp_path: Path, name: str) -> None:
    content, message = models.FOREIGN[name]
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(UnsupportedFormatError, match=message):
        locate(path, ModelFormat.AUTO)


def test_the_format_of_the_spec_must_be_true(classifier: Path) -> None:
    with pytest.raises(BadModelError, match=r"the spec says format OpenVINO, but digits.onnx is ONNX"):
        locate(classifier, ModelFormat.OPENVINO)


def test_a_folder_with_two_models(tmp_path: Path, classifier: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copyfile(classifier, tmp_path / name)
    with pytest.raises(BadModelError, match=r"must hold one model file .* but holds a.onnx, b.onnx"):
        locate(tmp_path, ModelFormat.AUTO)


def test_weights_outside(tmp_path: Path) -> None:
    path = models.save_outside(tmp_path / "tree", models.classifier(), "data.bin")
    found = look(path.parent)
    assert sorted(found.source.files) == ["data.bin", "outside.onnx"]
    assert found.facts.parameters == PARAMETERS
    assert found.facts.size_bytes == sum(file.stat().st_size for file in path.parent.iterdir())
    (path.parent / "data.bin").unlink()
    with pytest.raises(BadModelError, match=r"'data.bin', which is missing; push the folder with both files"):
        look(path)


def test_weights_outside_the_folder(tmp_path: Path) -> None:
    path = models.save_outside(tmp_path / "tree", models.classifier(), "data.bin")
    content = path.read_bytes()
    assert b"data.bin" in content
    path.write_bytes(content.replace(b"data.bin", b"../d.bin"))
    with pytest.raises(BadModelError, match=r"in '../d.bin', outside the model's folder"):
        look(path)


def test_a_free_dimension_must_be_pinned(tmp_path: Path) -> None:
    path = models.save(tmp_path / "free.onnx", models.relu(shape=["batch", "width"]))
    with pytest.raises(BadModelError, match=r"pin it in spec.inputs, as in {name: x, shape: \[1, \?\]} with a number"):
        look(path)
    found = look(path, InputShape(name="x", shape=[1, 7]))
    assert found.facts.inputs[0].shape == [1, 7]
    assert found.facts.outputs[0].shape[1] in {7, -1}
    assert found.source.path != path
    assert look(found.source.path).facts.inputs[0].shape == [1, 7]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("y", [1, 4], "spec.inputs names y, but the model's inputs are x"),
        ("x", [1, 5], r"gives 'x' the shape \[1, 5\], but the model wants \[1, 4\]"),
        ("x", [1, 4, 1], r"gives 'x' the shape \[1, 4, 1\]"),
    ],
)
def test_pinned_shapes_must_fit(tmp_path: Path, name: str, shape: list[int], message: str) -> None:
    path = models.save(tmp_path / "fixed.onnx", models.relu())
    with pytest.raises(BadModelError, match=message):
        look(path, InputShape(name=name, shape=shape))


def test_pinning_keeps_weights_outside(tmp_path: Path) -> None:
    path = models.save_outside(tmp_path / "tree", models.classifier())
    found = look(path, InputShape(name="image", shape=[1, 1, 8, 8]), folder=tmp_path / "pinned")
    assert sorted(found.source.files) == ["outside.onnx", "weights.bin"]
    assert all(file.parent == tmp_path / "pinned" for file in found.source.files.values())
    assert found.source.path.stat().st_size < 4096


def test_openvino(tmp_path: Path, classifier: Path) -> None:
    target = tmp_path / "ir" / "digits.xml"
    target.parent.mkdir()
    child.call("converting", models.to_ir, classifier, target)
    found = look(target.parent)
    assert (found.facts.format, sorted(found.source.files)) == (ModelFormat.OPENVINO, ["digits.bin", "digits.xml"])
    assert found.facts.inputs[0].shape == [-1, 1, 8, 8]
    pinned = look(target, InputShape(name="image", shape=[1, 1, 8, 8]), folder=tmp_path / "pinned")
    assert pinned.facts.outputs[0].shape == [1, 10]
    weights = target.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadModelError, match=r"digits.xml"):
        look(target)
    weights.unlink()
    with pytest.raises(BadModelError, match=r"digits.bin is missing beside it; push the folder with both files"):
        look(target)


def test_an_xml_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("<?xml version='1.0'?><project/>", encoding="utf-8")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(BadModelError, match="is not an OpenVINO model, or is cut off"):
        look(path)


def test_too_many_inputs(tmp_path: Path) -> None:
    from onnx import helper  # noqa: PLC0415 - for one test

    names = [f"x{index}" for index in range(40)]
    made = models.model(
        [helper.make_node("Sum", names, ["y"])],
        {name: (TensorProto.FLOAT, [1]) for name in names},
        {"y": (TensorProto.FLOAT, [1])},
    )
    with pytest.raises(BadModelError, match="has 40 inputs; between 1 and 32 are supported"):
        look(models.save(tmp_path / "wide.onnx", made))
