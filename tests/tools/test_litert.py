"""LiteRT: models from ONNX and from TFLite, really converted, quantized and run; broken and hostile files."""

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from skerry.api.types import Framework, InputShape, ModelFormat, TensorType, Verdict
from skerry.optimizer import child, inspection
from skerry.optimizer.child import Place
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, BadModelError, ConfigurationError, UnsupportedFormatError
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.toolshed import Toolshed
from tests.tools.conftest import CODE, environment
from tests.tools.making import make, run, samples, search, work
from tests.unit.optimizer import models

pytestmark = pytest.mark.tools

AS_GOOD = {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "5"}


def wish(precision: str, technique: str, **options: str) -> dict[str, Any]:
    return {"framework": "LiteRT", "precision": precision, "technique": technique, "options": options}


STATIC = wish("INT8", "PostTraining")
FP32 = wish("FP32", "Conversion")
WAYS = {
    "static": STATIC,
    "wide": wish("INT8", "PostTraining", activations="Int16"),
    "integers": wish("INT8", "PostTraining", interface="Integer"),
    "dynamic": wish("INT8", "Dynamic"),
    "weights": wish("INT8", "WeightsOnly"),
    "half": wish("FP16", "Conversion"),
    "plain": FP32,
}
SHARE = {"half": 0.7, "plain": 1.2}
"""How much of the source's size may be left; of the others 45 %."""


@pytest.fixture(scope="session")
def tflite(tmp_path_factory: pytest.TempPathFactory, litert: Place, classifier: Path) -> Path:
    """The classifier as a TFLite file."""
    wanted = work(classifier, FP32, tmp_path_factory.mktemp("tflite") / "candidate", None)
    return wanted.folder / make(litert, "litert", wanted).model_file


def look(litert: Place, path: Path, folder: Path, *shapes: InputShape) -> Inspected:
    found: Inspected = child.call(
        "looking", inspection.inspect, path, ModelFormat.AUTO, list(shapes), folder / "pinned", place=litert
    )
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["classifier", "tflite"])
def test_each_way_keeps_the_accuracy(
    tmp_path: Path, litert: Place, request: pytest.FixtureRequest, way: str, source: str
) -> None:
    model: Path = request.getfixturevalue(source)
    before = hashlib.sha256(model.read_bytes()).digest()
    files = []
    for again in "ab":
        wanted = work(model, WAYS[way], tmp_path / again / "candidate", samples())
        made = make(litert, "litert", wanted)
        files.append((wanted.folder / made.model_file).read_bytes())
    assert files[0] == files[1]
    assert len(files[0]) < SHARE.get(way, 0.45) * model.stat().st_size
    assert hashlib.sha256(model.read_bytes()).digest() == before
    images, labels = models.digits()
    found = run(litert, Framework.LITERT, "CPU", wanted.folder / made.model_file, made, Samples({"image": images}))
    assert found.dtype == np.float32
    assert (found.argmax(axis=1) == labels).mean() > 0.95


def test_onnx_models_keep_their_inputs(tmp_path: Path, litert: Place, tflite: Path) -> None:
    found = look(litert, tflite, tmp_path)
    assert found.facts.format is ModelFormat.TFLITE
    assert found.facts.parameters > 5000
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*found.facts.inputs, *found.facts.outputs)] == [
        ("image", TensorType.FP32, [-1, 1, 8, 8]),
        ("scores", TensorType.FP32, [-1, 10]),
    ]


def test_a_free_batch_is_pinned(tmp_path: Path, litert: Place, tflite: Path) -> None:
    found = look(litert, tflite, tmp_path, InputShape(name="image", shape=[1, 1, 8, 8]))
    assert found.source.path.parent == tmp_path / "pinned"
    again = look(litert, found.source.path, tmp_path / "again")
    assert [tensor.shape for tensor in (*again.facts.inputs, *again.facts.outputs)] == [[1, 1, 8, 8], [1, 10]]
    with pytest.raises(BadModelError, match=r"spec\.inputs names picture"):
        look(litert, tflite, tmp_path / "b", InputShape(name="picture", shape=[1]))


def test_images_come_out_in_the_layout_of_the_onnx_model(tmp_path: Path, litert: Place) -> None:
    kernel = np.random.default_rng(1).standard_normal((5, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])
    model = models.model([node], {"x": (1, ["n", 3, 6, 8])}, {"y": (1, ["n", 5, 6, 8])}, {"kernel": kernel})
    source = models.save(tmp_path / "m.onnx", model)
    pictures = Samples({"x": np.random.default_rng(2).random((4, 3, 6, 8)).astype(np.float32)})
    expected = ort.InferenceSession(str(source)).run(None, {"x": pictures.arrays["x"]})[0]
    for way in ("plain", "static"):
        wanted = work(source, WAYS[way], tmp_path / way / "candidate", pictures)
        made = make(litert, "litert", wanted)
        found = run(litert, Framework.LITERT, "CPU", wanted.folder / made.model_file, made, pictures)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()


def test_a_search_from_tflite(tmp_path: Path, all_tools: Toolshed, tflite: Path, labelled: Path) -> None:
    outcome, lines = search(tmp_path, all_tools, tflite, labelled, accelerator="cpu", gates=[AS_GOOD])
    assert outcome.facts is not None, outcome.message
    assert outcome.facts.framework is Framework.LITERT
    assert lines.results["baseline"].framework is Framework.LITERT
    assert {"litert-int8-static", "litert-int8-dynamic", "litert-fp16"} <= set(lines.results)
    assert all(lines.results[name].verdict is Verdict.PASSED for name in lines.results if name.startswith("litert"))
    assert all(len(result.metrics) == 8 for result in lines.results.values())
    for candidate in outcome.report.candidates:
        assert [each.streams for each in candidate.streams] == [1, 2], candidate.streams_remark
    assert "does not read TFLite" in outcome.report.left_out["onnxruntime-int8-static"]


def test_a_search_from_onnx(tmp_path: Path, all_tools: Toolshed, classifier: Path, labelled: Path) -> None:
    outcome, lines = search(
        tmp_path, all_tools, classifier, labelled, accelerator="cpu", gates=[AS_GOOD], candidates=[STATIC]
    )
    assert outcome.facts is not None, outcome.message
    assert lines.results["baseline"].framework is Framework.ONNX_RUNTIME
    assert outcome.facts.inputs[0].shape == [-1, 1, 8, 8]
    assert {"ai-edge-litert", "ai-edge-quantizer", "onnx2tf"} == set(outcome.facts.provenance.tools)


def test_what_cannot_be_made(tmp_path: Path, litert: Place, classifier: Path) -> None:
    flat = models.save(tmp_path / "flat.onnx", models.flat())
    with pytest.raises(BadModelError, match="there is nothing to quantize"):
        make(litert, "litert", work(flat, WAYS["dynamic"], tmp_path / "a" / "candidate", None))
    with pytest.raises(ConfigurationError, match="needs calibration or evaluation data"):
        make(litert, "litert", work(classifier, STATIC, tmp_path / "b" / "candidate", None))
    zeros = Samples({"image": np.zeros((20, 1, 8, 8), np.float32)})
    with pytest.raises(BadDataError, match="the calibration data is the same number everywhere"):
        make(litert, "litert", work(classifier, STATIC, tmp_path / "c" / "candidate", zeros))
    node = helper.make_node("Unique", ["x"], ["y"], name="strange")
    strange = models.save(tmp_path / "s.onnx", models.model([node], {"x": (1, [4])}, {"y": (1, ["n"])}))
    with pytest.raises(
        BadModelError, match=r"LiteRT cannot run what onnx2tf made of the model: |onnx2tf cannot convert the model: "
    ):
        make(litert, "litert", work(strange, FP32, tmp_path / "d" / "candidate", None))


def test_a_quantized_source_is_refused(tmp_path: Path, litert: Place, classifier: Path) -> None:
    wanted = work(classifier, WAYS["integers"], tmp_path / "a" / "candidate", samples())
    source = wanted.folder / make(litert, "litert", wanted).model_file
    assert look(litert, source, tmp_path).facts.inputs[0].dtype is TensorType.INT8
    with pytest.raises(BadModelError, match="is quantized already"):
        make(litert, "litert", work(source, WAYS["dynamic"], tmp_path / "b" / "candidate", None))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda data: data[: len(data) // 2],
    "its first bytes": lambda data: data[:64],
    "the magic alone": lambda _: b"\x1c\0\0\0TFL3" + bytes(64),
    "a root beyond its end": lambda data: b"\xff\xff\xff\x7f" + data[4:],
    "no byte but the last changed": lambda data: data[:-1],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files(tmp_path: Path, litert: Place, tflite: Path, name: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(DAMAGES[name](tflite.read_bytes()))
    with pytest.raises(BadModelError, match="is cut off or damaged"):
        look(litert, path, tmp_path)


def test_hostile_files_are_refused_with_a_sentence(tmp_path: Path, litert: Place, tflite: Path) -> None:
    """Where the structure stays whole after a change, the model may load."""
    random, data = np.random.default_rng(7), tflite.read_bytes()
    refused = []
    for number in range(12):
        changed = bytearray(data)
        for place in random.integers(8, len(data), 200):
            changed[place] = int(random.integers(0, 256))
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(changed)
        with contextlib.suppress(BadModelError):
            look(litert, path, tmp_path)
            continue
        refused.append(number)
    assert len(refused) > 6


SERVER = """
import json, sys
from pathlib import Path
import numpy as np
from skerry.api.artifact import VariantFacts
from skerry.server import engines
folder = Path(sys.argv[1])
facts = VariantFacts.model_validate(json.loads((folder / "skerry.json").read_text()))
engine = engines.load(facts, folder, 1)
images = np.load(sys.argv[2])["image"]
whole = engine.infer({"image": images})["scores"]
parts = np.concatenate([engine.infer({"image": images[row : row + 1]})["scores"] for row in range(len(images))])
print(json.dumps([engine.device, engine.precision, str(whole.dtype), float(abs(whole - parts).max()), parts.tolist()]))
"""


@pytest.mark.parametrize("way", ["static", "integers", "dynamic"])
def test_the_server_s_engine_runs_what_was_made(
    tmp_path: Path, all_tools: Toolshed, classifier: Path, labelled: Path, way: str
) -> None:
    wanted = {"accelerator": "cpu", "gates": [], "candidates": [WAYS[way]]}
    outcome, _ = search(tmp_path, all_tools, classifier, labelled, **wanted)
    assert outcome.folder is not None, outcome.message
    words = [str(environment("litert")), "-c", SERVER, str(outcome.folder), str(labelled)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(CODE)}, capture_output=True, check=True)
    device, precision, dtype, difference, scores = json.loads(done.stdout)
    assert (device, precision, dtype) == ("CPU", "INT8", "float32")
    assert difference < 0.05
    _, labels = models.digits()
    assert (np.array(scores).argmax(axis=1) == labels).mean() > 0.95


COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "Edge TPU Compiler version 16.0.384591198"; exit 0; fi
while [ $# -gt 1 ]; do [ "$1" = --out_dir ] && out="$2"; shift; done
cp "$1" "$out/$(basename "$1" .tflite)_edgetpu.tflite"
echo log > "$out/$(basename "$1" .tflite)_edgetpu.log"
echo "Number of operations that will run on Edge TPU: 4"
echo "Number of operations that will run on CPU: 2"
"""


def test_the_edge_tpu_s_compiler_gets_a_full_integer_model(
    tmp_path: Path, litert: Place, classifier: Path, programs: Path
) -> None:
    stand_in = programs / "edgetpu_compiler"
    stand_in.write_text(COMPILER, encoding="ascii")
    stand_in.chmod(0o755)
    wanted = work(classifier, wish("INT8", "Workflow", minimumRuntime="13"), tmp_path / "a" / "candidate", samples())
    made = make(litert, "edgetpu", wanted)
    assert [path.name for path in wanted.folder.iterdir()] == [made.model_file] == ["model_edgetpu.tflite"]
    assert (made.one_by_one, made.tools["edgetpu_compiler"]) == (True, "16.0.384591198")
    assert made.remark == "the Edge TPU runs 4 of 6 operations, the CPU 2"
    given = look(litert, wanted.folder / made.model_file, tmp_path).facts
    assert [(tensor.dtype, tensor.shape) for tensor in (*given.inputs, *given.outputs)] == [
        (TensorType.INT8, [1, 1, 8, 8]),
        (TensorType.INT8, [1, 10]),
    ]


def test_without_the_tool_the_format_must_be_said(tmp_path: Path, tflite: Path, labelled: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="needs the tools of the group litert"):
        search(tmp_path, Toolshed({}), tflite, labelled, accelerator="cpu")
