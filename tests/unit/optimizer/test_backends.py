"""Every way to make a candidate: what comes out loads, runs, and says nearly what the source model says."""

from pathlib import Path

import numpy as np
import pytest

from skerry.accelerators.catalogue import catalogue
from skerry.accelerators.recipes import REFERENCE
from skerry.api.types import CandidateRequest, EvaluationMetric, ModelFormat
from skerry.optimizer import child
from skerry.optimizer.backends import maker, runner
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Source, Work
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadModelError
from skerry.planning.candidates import from_name, recipe_of
from tests.unit.optimizer import models

CPU = catalogue()["cpu"]
IMAGES, LABELS = models.digits()
CALIBRATION = Samples({"image": IMAGES[:50]}, labels=LABELS[:50])


def make(work: Work) -> Made:
    return maker(recipe_of(work.request).name.partition("-")[0]).make(work)


def outputs(request: CandidateRequest, model: Path, made: Made) -> Array:
    session = runner(request.framework).load(model, made.settings, 1, CPU.devices[request.framework])
    return np.concatenate([session.infer(CALIBRATION.sample(index)) for index in range(len(CALIBRATION))])


def work_for(
    path: Path,
    folder: Path,
    name: str,
    options: dict[str, str] | None = None,
    *,
    half: str | None = "BF16",
    native_int8: bool = True,
) -> Work:
    folder.mkdir()
    request = from_name(name, options)
    return Work(
        source=Source(path, ModelFormat.ONNX, {path.name: path}),
        request=request,
        device=CPU.devices[request.framework],
        folder=folder,
        calibration=CALIBRATION,
        metric=EvaluationMetric.ACCURACY,
        half_precision=half,
        native_int8=native_int8,
    )


def baseline(path: Path) -> Array:
    framework = REFERENCE[ModelFormat.ONNX]
    made = Made(path.name, BASELINE_SETTINGS[framework], "FP32")
    return child.call("running", outputs, from_name("onnxruntime-fp32"), path, made)


@pytest.fixture(scope="module")
def truth(classifier: Path) -> Array:
    return baseline(classifier)


@pytest.mark.parametrize(
    ("name", "options", "computes", "smaller"),
    [
        ("openvino-fp32", {}, "FP32", False),
        ("openvino-fp16", {}, "BF16", True),
        ("openvino-int8-ptq", {}, "INT8", True),
        ("openvino-int8-ptq", {"preset": "Performance"}, "INT8", True),
        ("openvino-int8-aware", {"maxDropPercent": "2"}, "INT8", True),
        ("openvino-int8-weights", {}, "FP32", True),
        ("onnxruntime-fp32", {}, "FP32", False),
        ("onnxruntime-int8-static", {}, "INT8", True),
        ("onnxruntime-int8-static", {"calibration": "Percentile"}, "INT8", True),
        ("onnxruntime-int8-dynamic", {}, "INT8", True),
    ],
)
def test_making(
    tmp_path: Path, classifier: Path, truth: Array, name: str, options: dict[str, str], computes: str, *, smaller: bool
) -> None:
    work = work_for(classifier, tmp_path / "made", name, options)
    made = child.call("making", make, work)
    assert made.execution_precision == computes
    assert made.tools
    size = sum(file.stat().st_size for file in work.folder.iterdir() if file.suffix != ".xml")
    assert (size < 0.75 * classifier.stat().st_size) is smaller
    found = child.call("running", outputs, work.request, work.folder / made.model_file, made)
    agreement = np.mean(found.argmax(axis=1) == truth.argmax(axis=1))
    assert agreement >= 0.9
    if name.endswith("fp32"):
        assert np.allclose(found, truth, atol=1e-4)


def test_the_test_model_is_worth_measuring(truth: Array) -> None:
    assert np.mean(truth.argmax(axis=1) == LABELS[:50]) >= 0.9


def test_half_precision_that_the_cpu_has_not_is_computed_in_full(tmp_path: Path, classifier: Path) -> None:
    made = child.call("making", make, work_for(classifier, tmp_path / "made", "openvino-fp16", half=None))
    assert made.execution_precision == "FP32"
    assert made.settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert "no fast half precision" in made.remark


def test_weights_are_narrower_where_products_would_overflow(tmp_path: Path, classifier: Path) -> None:
    work = work_for(classifier, tmp_path / "made", "onnxruntime-int8-static", native_int8=False)
    assert "7-bit weights" in child.call("making", make, work).remark


@pytest.mark.parametrize("name", ["openvino-int8-ptq", "onnxruntime-int8-static", "onnxruntime-int8-dynamic"])
def test_a_model_with_nothing_to_quantize(tmp_path: Path, name: str) -> None:
    path = models.save(tmp_path / "flat.onnx", models.flat())
    with pytest.raises(BadModelError, match="there is nothing to quantize"):
        child.call("making", make, work_for(path, tmp_path / "made", name))
