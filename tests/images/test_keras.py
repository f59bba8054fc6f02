"""Keras really runs, in a worker of the image with torch: its models are optimized, and hostile ones do no harm."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry.api.types import EvaluationMetric, ModelFormat
from skerry.optimizer import child, keras_source
from skerry.optimizer.errors import BadDataError, BadModelError
from tests.images.conftest import Worker
from tests.images.test_olive import run
from tests.unit.optimizer import models

pytestmark = [pytest.mark.image, pytest.mark.usefixtures("open_files", "quick_rounds")]
SCRIPT = Path(__file__).with_name("keras_models.py")


@pytest.fixture(scope="module")
def worker(workers: Callable[[str], Worker]) -> Worker:
    return workers("olive")


@pytest.fixture(scope="module")
def made(worker: Worker) -> Path:
    """Folder with models as users of Keras have them, and hostile ones."""
    return worker.made_by(SCRIPT)


def converted(worker: Worker, model: Path) -> onnx.ModelProto:
    folder = worker.folder / "converted"
    shutil.rmtree(folder, ignore_errors=True)
    return onnx.load(child.call("converting", keras_source.convert, model, folder, place=worker.place))


def shapes(values: Iterable[Any]) -> dict[str, list[int | str]]:
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values
    }


def test_a_model_of_keras_is_optimized(worker: Worker, made: Path) -> None:
    wanted = [
        {"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"},
        {"framework": "OpenVINO", "precision": "INT8", "technique": "PostTraining"},
        {"framework": "ONNXRuntime", "precision": "INT8", "technique": "PostTraining"},
    ]
    outcome = run(worker.folder, "digits", made / "digits.keras", made / "digits.npz", candidates=wanted)
    report = outcome.report
    assert report.model.format is ModelFormat.ONNX
    assert [tensor.name for tensor in report.model.inputs] == ["image"]
    assert report.model.inputs[0].shape[1:] == [8, 8, 1]
    assert [tensor.name for tensor in report.model.outputs] == ["scores"]
    assert report.evaluation_metric is EvaluationMetric.ACCURACY
    assert all(each.measurements for each in report.candidates), [each.result for each in report.candidates]
    assert outcome.folder is not None


def test_it_is_as_accurate_as_keras_says(worker: Worker, made: Path) -> None:
    import onnxruntime as ort  # noqa: PLC0415 - heavy for collecting

    model = converted(worker, made / "digits.keras")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.load(made / "digits.npz") as data:
        images, labels = data["image"], data["labels"]
    hits = np.argmax(session.run(["scores"], {"image": images})[0], axis=1) == labels
    said = json.loads((made / "keras.json").read_text(encoding="utf-8"))["accuracy"]
    assert said > 90
    assert 100 * hits.mean() == pytest.approx(said)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("digits", {"image": ["batch", 8, 8, 1]}, {"scores": ["batch", 10]}),
        ("several", {"b": ["batch", 4], "a": ["batch", 3]}, {"one": ["batch", 2], "two": ["batch", 1]}),
        ("words", {"tokens": ["batch", 20]}, {"label": ["batch", 2]}),
        ("series", {"series": ["batch", 6, 5]}, {"next": ["batch", 3]}),
        ("sequence", {"x": ["batch", 4]}, {"y": ["batch", 3]}),
        ("half", {"picture": ["batch", 8, 8, 3]}, {"features": ["batch", 6, 6, 4]}),
    ],
)
def test_names_and_axes_are_those_of_keras(
    worker: Worker, made: Path, name: str, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]
) -> None:
    graph = converted(worker, made / f"{name}.keras").graph
    assert (shapes(graph.input), shapes(graph.output)) == (inputs, outputs)
    assert {tensor.data_type for tensor in graph.initializer} & {onnx.TensorProto.FLOAT16} == set()


def test_a_size_that_cannot_stay_free_is_named(worker: Worker, made: Path) -> None:
    with pytest.raises(BadModelError, match=r"cannot be converted to ONNX \(its sizes steps_1 are free: say them in"):
        converted(worker, made / "free.keras")


def test_what_is_let_through_are_layers_of_this_keras(made: Path) -> None:
    assert json.loads((made / "facts.json").read_text(encoding="utf-8"))["unknown"] == []


def test_a_hostile_model_does_harm_to_bare_keras(made: Path) -> None:
    assert json.loads((made / "facts.json").read_text(encoding="utf-8"))["harmed"] is True


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lambda", "has a Lambda layer, which is code; such code is never run"),
        ("elsewhere", "layers/dense/vars/0 leads elsewhere"),
        ("raw", "layers/dense/vars/0 lies in another file"),
        ("swollen", r"layers/dense/vars/0 has 536870912 bytes, of which \d+ are in the file"),
        ("huge", r"it asks for much more memory than \d+ bytes of weights need"),
    ],
)
def test_hostile_models_do_no_harm(worker: Worker, made: Path, name: str, told: str) -> None:
    shutil.rmtree(worker.folder / "hostile", ignore_errors=True)
    with pytest.raises(BadModelError, match=told):
        run(worker.folder, "hostile", made / f"{name}.keras", None)
    assert not list(worker.folder.rglob("harmed"))
    assert not list(worker.folder.rglob("checked.keras"))


def test_weights_that_are_cut_off(worker: Worker, made: Path) -> None:
    path = made / "cut.keras"
    with zipfile.ZipFile(made / "sequence.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:1000] if name.endswith(".h5") else content)
    with pytest.raises(BadModelError, match=r"cut\.keras cannot be loaded by Keras 3\.\d+\.\d+"):
        converted(worker, path)


def test_data_that_does_not_fit(worker: Worker, made: Path) -> None:
    data = models.save_data(worker.folder / "nchw.npz", image=np.zeros((20, 1, 8, 8), np.float32))
    with pytest.raises(BadDataError, match="image"):
        run(worker.folder, "misfit", made / "digits.keras", data)
