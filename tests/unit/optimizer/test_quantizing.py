"""What the options of the recipes change, on networks that INT8 by default ruins."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.accelerators import onnx_providers
from skerry.accelerators.catalogue import catalogue
from skerry.accelerators.onnx_providers import ProviderOptionsError, session_setup
from skerry.api.types import EvaluationMetric, Framework, ModelFormat, ModelKind
from skerry.optimizer import child
from skerry.optimizer.backends import maker, runner
from skerry.optimizer.backends.base import Array, Made, Source, Work
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, BadModelError, ConfigurationError
from skerry.planning.candidates import from_name, recipe_of
from tests.unit.optimizer import models

DEVICES = catalogue()["cpu"].devices
OPENVINO, STATIC = "openvino-int8-ptq", "onnxruntime-int8-static"


def samples(file: Path) -> Samples:
    with np.load(file) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    labels = found.pop("labels")
    return Samples(found, labels=labels)


def work_for(
    net: Path,
    folder: Path,
    name: str,
    options: dict[str, str] | None = None,
    kind: ModelKind = ModelKind.CONVOLUTIONAL,
) -> Work:
    """Return the work on a folder's network for the CPU."""
    path = next(net.glob("*.onnx"))
    request = from_name(name, options)
    folder.mkdir(exist_ok=True)
    return Work(
        source=Source(path, ModelFormat.ONNX, {path.name: path}, kind),
        request=request,
        folder=folder,
        calibration=samples(net / "calibration.npz"),
        metric=EvaluationMetric.ACCURACY,
        half_precision=None,
        native_int8=True,
        device=DEVICES[request.framework],
    )


def make(work: Work) -> Made:
    return maker(recipe_of(work.request).name.partition("-")[0]).make(work)


def outputs(framework: Framework, model: Path, settings: dict[str, str], evaluation: Samples) -> Array:
    session = runner(framework).load(model, settings, 1, DEVICES[framework])
    return np.concatenate([session.infer(evaluation.sample(index)) for index in range(len(evaluation))])


def accuracy(net: Path, framework: Framework, model: Path, settings: dict[str, str]) -> float:
    evaluation = samples(net / "test.npz")
    found = child.call("running", outputs, framework, model, settings, evaluation)
    return float(np.mean(found.argmax(axis=1) == evaluation.labels))


def made_and_measured(net: Path, work: Work) -> tuple[Made, float]:
    made = child.call("making", make, work)
    return made, accuracy(net, work.request.framework, work.folder / made.model_file, dict(made.settings))


@pytest.fixture(scope="module")
def truth(depthwise: Path) -> float:
    return accuracy(depthwise, Framework.ONNX_RUNTIME, depthwise / "depthwise.onnx", {})


@pytest.mark.parametrize("name", [OPENVINO, STATIC])
def test_sensitive_layers_in_floating_point_bring_the_accuracy_back(
    tmp_path: Path, depthwise: Path, truth: float, name: str
) -> None:
    _, lost = made_and_measured(depthwise, work_for(depthwise, tmp_path / "plain", name))
    assert truth > 0.9
    assert lost < 0.8 * truth
    made, found = made_and_measured(depthwise, work_for(depthwise, tmp_path / "kept", name, {"keepSensitive": "3"}))
    assert found > 0.95 * truth
    errors = [error for _, error in made.sensitivity]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 11
    assert sorted(layer for layer, _ in made.sensitivity[:3]) == made.remark.removeprefix("in floating point: ").split(
        ", "
    )


def test_layers_are_taken_back_until_the_accuracy_is_kept(tmp_path: Path, depthwise: Path, truth: float) -> None:
    work = work_for(depthwise, tmp_path / "made", "openvino-int8-aware", {"maxDropPercent": "3"})
    made, found = made_and_measured(depthwise, work)
    assert made.remark.startswith("in floating point: conv")
    assert found > 0.93 * truth


def test_smoothing_keeps_what_outliers_would_cost(tmp_path: Path, encoder: Path) -> None:
    evaluation = samples(encoder / "test.npz")
    exact = child.call("running", outputs, Framework.ONNX_RUNTIME, encoder / "encoder.onnx", {}, evaluation)

    def error(options: dict[str, str]) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        made = child.call("making", make, work_for(encoder, folder, OPENVINO, options, ModelKind.TRANSFORMER))
        model = folder / made.model_file
        found = child.call("running", outputs, Framework.OPENVINO, model, dict(made.settings), evaluation)
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    assert error({}) < 0.7 * error({"smoothQuant": "Off"})


OPTIONS = [
    (OPENVINO, {"preset": "Performance"}),
    (OPENVINO, {"biasCorrection": "Off"}),
    (OPENVINO, {"biasCorrection": "Accurate"}),
    (OPENVINO, {"smoothQuant": "On"}),
    (OPENVINO, {"granularity": "PerTensor"}),
    (OPENVINO, {"range": "MinMax"}),
    (OPENVINO, {"range": "Percentile"}),
    ("openvino-int8-weights", {"mode": "Symmetric"}),
    ("openvino-int4-weights", {"mode": "Asymmetric"}),
    ("openvino-int4-weights", {"groupSize": "32"}),
    (STATIC, {"calibration": "Entropy"}),
    (STATIC, {"calibration": "Percentile"}),
    (STATIC, {"granularity": "PerTensor"}),
    (STATIC, {"activations": "Int8"}),
    ("onnxruntime-int8-dynamic", {"granularity": "PerTensor"}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_every_option_changes_the_model(
    tmp_path: Path, depthwise: Path, plain: Callable[[str], str], name: str, options: dict[str, str]
) -> None:
    work = work_for(depthwise, tmp_path / "made", name, options)
    child.call("making", make, work)
    assert digest(work.folder) != plain(name)


@pytest.fixture(scope="module")
def plain(depthwise: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the digest of what a recipe makes without options."""
    digests: dict[str, str] = {}

    def found(name: str) -> str:
        if name not in digests:
            folder = tmp_path_factory.mktemp("plain") / "made"
            child.call("making", make, work_for(depthwise, folder, name))
            digests[name] = digest(folder)
        return digests[name]

    return found


def digest(folder: Path) -> str:
    """Return the digest of all files; for OpenVINO of the weights alone, since the IR lists what NNCF was told."""
    names = sorted(path for path in folder.iterdir() if path.suffix != ".xml") or sorted(folder.iterdir())
    return hashlib.sha256(b"".join(path.read_bytes() for path in names)).hexdigest()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("openvino-fp32", {}),
        (OPENVINO, {"biasCorrection": "Accurate", "keepSensitive": "1"}),
        ("openvino-int8-aware", {}),
        ("openvino-int4-weights", {}),
        ("onnxruntime-fp32", {}),
        ("onnxruntime-fp16", {}),
        (STATIC, {"keepSensitive": "1"}),
        (STATIC, {"calibration": "Entropy"}),
        ("onnxruntime-int8-dynamic", {}),
    ],
)
def test_the_same_inputs_make_the_same_files(
    tmp_path: Path, depthwise: Path, name: str, options: dict[str, str]
) -> None:
    digests = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        child.call("making", make, work_for(depthwise, folder, name, options))
        files = sorted(folder.iterdir())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]


def replaced(work: Work, images: Array, labels: Array | None = None) -> Work:
    return dataclasses.replace(work, calibration=Samples({"image": images}, labels=labels))


@pytest.mark.parametrize("name", [OPENVINO, "openvino-int8-aware", STATIC])
def test_calibration_data_without_any_variation(tmp_path: Path, depthwise: Path, name: str) -> None:
    work = work_for(depthwise, tmp_path / "made", name)
    zeros = replaced(work, np.zeros((20, 1, 16, 16), np.float32), np.zeros(20, np.int64))
    with pytest.raises(BadDataError, match=r"the same number everywhere \('image' is 0\).* give samples as the model"):
        child.call("making", make, zeros)


@pytest.mark.parametrize("name", [OPENVINO, STATIC])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0], "calibrated with 1 sample: ranges may be too narrow"),
        (range(9), "calibrated with 9 samples: ranges may be too narrow"),
        ([0] * 12, "all 12 calibration samples are the same: ranges may be too narrow; all calibration samples are"),
    ],
)
def test_calibration_data_that_may_mislead(
    tmp_path: Path, depthwise: Path, name: str, rows: list[int], message: str
) -> None:
    work = work_for(depthwise, tmp_path / "made", name)
    assert work.calibration is not None
    few = dataclasses.replace(work, calibration=work.calibration.part(np.array(rows)))
    assert message in child.call("making", make, few).remark


def test_calibration_data_of_one_class(tmp_path: Path, depthwise: Path) -> None:
    work = work_for(depthwise, tmp_path / "made", STATIC)
    assert work.calibration is not None
    assert work.calibration.labels is not None
    threes = work.calibration.part(np.flatnonzero(work.calibration.labels == 3))
    made = child.call("making", make, dataclasses.replace(work, calibration=threes))
    assert "all calibration samples are of class 3" in made.remark


@pytest.mark.parametrize(
    ("device", "name", "execution", "settings", "remark"),
    [
        ("GPU", "openvino-fp32", "FP32", {"INFERENCE_PRECISION_HINT": "f32"}, ""),
        ("GPU", "openvino-fp16", "FP16", {"INFERENCE_PRECISION_HINT": "f16"}, ""),
        ("GPU.1", OPENVINO, "INT8", {"INFERENCE_PRECISION_HINT": "f16"}, ""),
        ("NPU", "openvino-fp32", "FP16", {}, "the NPU has no FP32"),
        ("NPU", OPENVINO, "INT8", {}, ""),
        ("NPU", "openvino-int8-weights", "FP16", {}, "INT8 weights, computed in FP16"),
    ],
)
def test_settings_of_openvino_devices(
    tmp_path: Path, depthwise: Path, device: str, name: str, execution: str, settings: dict[str, str], remark: str
) -> None:
    work = dataclasses.replace(work_for(depthwise, tmp_path / "made", name), device=device)
    made = child.call("making", make, work)
    assert made.execution_precision == execution
    assert made.settings == {"PERFORMANCE_HINT": "LATENCY", **settings}
    assert remark in made.remark
    assert (b'shape="1,1,16,16"' in (work.folder / "model.xml").read_bytes()) == (device == "NPU")


def test_the_npu_needs_fixed_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    models.save(folder / "free.onnx", models.relu(shape=["batch", "width"]))
    np.savez(folder / "calibration.npz", allow_pickle=True, x=np.ones((10, 4), np.float32), labels=np.zeros(10))
    work = dataclasses.replace(work_for(folder, tmp_path / "made", "openvino-fp16"), device="NPU")
    with pytest.raises(
        BadModelError, match=r"the NPU needs fixed shapes, but the input 'x' leaves some free: pin them"
    ):
        child.call("making", make, work)


@pytest.mark.parametrize(
    ("device", "name", "options", "wanted"),
    [
        ("CUDAExecutionProvider", "onnxruntime-fp32", {}, '{"use_tf32": "0"}'),
        ("CUDAExecutionProvider", "onnxruntime-fp16", {}, None),
        ("TensorrtExecutionProvider", STATIC, {}, '{"trt_fp16_enable": "1", "trt_int8_enable": "1"}'),
        ("DmlExecutionProvider", "onnxruntime-fp16", {"providerOptions": '{"device_id": "1"}'}, '{"device_id": "1"}'),
        ("OpenVINOExecutionProvider", STATIC, {"providerOptions": '{"device_type": "NPU"}'}, '{"device_type": "NPU"}'),
        (
            "QNNExecutionProvider",
            STATIC,
            {"providerOptions": '{"htp_performance_mode": "balanced"}'},
            '{"backend_type": "htp", "enable_htp_fp16_precision": "1", "htp_performance_mode": "balanced"}',
        ),
        ("CPUExecutionProvider", STATIC, {}, None),
    ],
)
def test_settings_of_execution_providers(
    tmp_path: Path, depthwise: Path, device: str, name: str, options: dict[str, str], wanted: str | None
) -> None:
    work = dataclasses.replace(work_for(depthwise, tmp_path / "made", name, options), device=device)
    made = child.call("making", make, work)
    rest = {} if wanted is None else {"providerOptions": wanted}
    assert made.settings == {"graphOptimizationLevel": "All", **rest}
    setup = session_setup(device, made.settings)
    assert setup.providers[0][0] == device
    assert setup.memory_pattern is (device != onnx_providers.DIRECTML)
    assert ("session.disable_cpu_ep_fallback" in setup.entries) is (device != onnx_providers.CPU)


def test_what_tensorrt_does_not_know_runs_on_the_same_card() -> None:
    setup = session_setup(onnx_providers.TENSORRT, {"providerOptions": '{"device_id": "1", "trt_fp16_enable": "1"}'})
    assert setup.providers[1] == (onnx_providers.CUDA, {"device_id": "1"})


@pytest.mark.parametrize("text", ["no json", "[1]", '{"device_id": 1}'])
def test_provider_options_that_cannot_be_read(tmp_path: Path, depthwise: Path, text: str) -> None:
    with pytest.raises(ProviderOptionsError, match="must be a JSON object"):
        session_setup(onnx_providers.CPU, {"providerOptions": text})
    work = work_for(depthwise, tmp_path / "made", "onnxruntime-fp32", {"providerOptions": text})
    with pytest.raises(ConfigurationError, match="must be a JSON object"):
        child.call("making", make, work)
