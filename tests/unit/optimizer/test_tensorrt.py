"""TensorRT without TensorRT: what is said to it and understood of it, and a whole optimization with fakes of it.

The fakes execute engines with ONNX Runtime: they show that the way runs, and nothing of TensorRT itself.
"""

import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from skerry.accelerators.catalogue import AcceleratorEntry, catalogue
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import ModelFormat, Precision, TensorFacts, TensorType
from skerry.optimizer import tensorrt_plan
from skerry.optimizer.backends import maker, tensorrt
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.pipeline import Surroundings, optimize
from skerry.optimizer.tensorrt_plan import Build, Machine
from skerry.optimizer.toolshed import toolshed
from skerry.planning.candidates import from_name
from tests.unit.optimizer import models
from tests.unit.optimizer.test_pipeline import NOW, Lines, LocalFiles

FAKES = Path(__file__).parents[2] / "support" / "fake_tensorrt"
ORIN = Machine("Orin", "8.7", "540.4.0", "10.3.0")
MODEL, ENGINE = Path("/m/model.onnx"), Path("/m/model.plan")
SHAPES = {"image": ([1, 3, 8, 8], [1, 3, 8, 8], [4, 3, 8, 8])}
SUMMARY = """
[10/03/2024-10:47:59] [I] === Performance summary ===
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, \
percentile(95%) = 10.8698 ms, percentile(99%) = 1.29675e+01 ms
[10/03/2024-10:47:59] [I] H2D Latency: min = 0.0065918 ms, max = 0.0698242 ms, mean = 0.0122212 ms
"""


@pytest.mark.parametrize(
    ("build", "flags"),
    [
        (Build(Precision.FP16, "10.3.0"), ["--stronglyTyped"]),
        (Build(Precision.INT8, "10.16.0"), ["--stronglyTyped"]),
        (Build(Precision.FP32, "10.3.0"), ["--noTF32", "--stronglyTyped"]),
        (Build(Precision.FP16, "11.4.1"), []),
        (Build(Precision.FP16, "8.6.1"), ["--fp16"]),
        (Build(Precision.FP32, "8.6.1"), ["--noTF32"]),
        (Build(Precision.INT8, "8.6.1", calibration=Path("c")), ["--int8", "--fp16", "--calib=c"]),
        (Build(Precision.FP16, "10.3.0", dla_core=1), ["--fp16", "--useDLACore=1", "--allowGPUFallback"]),
        (Build(Precision.FP16, "11.0.0", dla_core=0), ["--useDLACore=0", "--allowGPUFallback"]),
        (
            Build(Precision.FP16, "11.0.0", shapes=SHAPES),
            ["--minShapes=image:1x3x8x8", "--optShapes=image:1x3x8x8", "--maxShapes=image:4x3x8x8"],
        ),
        (Build(Precision.FP16, "11.0.0", timing_cache=Path("t")), ["--timingCacheFile=t"]),
    ],
)
def test_build_commands(build: Build, flags: list[str]) -> None:
    fixed = ["trtexec", "--onnx=/m/model.onnx", "--saveEngine=/m/model.plan", "--skipInference"]
    assert tensorrt_plan.build_command(MODEL, ENGINE, build) == [*fixed, "--memPoolSize=workspace:1024", *flags]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (Build(Precision.INT8, "8.6.1"), "integers need measured ranges here"),
        (Build(Precision.FP32, "8.6.1", dla_core=0), "the DLA computes in FP16 and INT8 only"),
    ],
)
def test_what_cannot_be_built(build: Build, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        tensorrt_plan.build_command(MODEL, ENGINE, build)


def test_measure_command() -> None:
    build = Build(Precision.FP16, "10.3.0", dla_core=0, shapes=SHAPES)
    fixed = ["trtexec", "--loadEngine=/m/model.plan", "--useSpinWait", "--percentile=50,95,99"]
    wanted = [*fixed, "--useDLACore=0", "--shapes=image:1x3x8x8"]
    assert tensorrt_plan.measure_command(ENGINE, build) == wanted
    assert tensorrt_plan.measure_command(ENGINE, Build(Precision.FP16, "10.3.0")) == fixed


def test_figures_of_the_summary() -> None:
    assert tensorrt_plan.figures_of(SUMMARY) == {
        "throughput-qps": 130.298,
        "latency-min": 5.38672,
        "latency-max": 13.3664,
        "latency-mean": 7.60628,
        "latency-median": 7.16092,
        "latency-p95": 10.8698,
        "latency-p99": 12.9675,
    }
    assert tensorrt_plan.figures_of("nothing") == {}


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("[I] TensorRT version: 8.6.3", "8.6.3"),
        ("[I] TensorRT version: 10.3.0.26\n&&&& RUNNING TensorRT.trtexec [TensorRT v100300]", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8601]", "8.6.1"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300]", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101605]", "10.16.5"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v110401] [b12]", "11.4.1"),
    ],
)
def test_versions(output: str, version: str) -> None:
    if "b12" in output:
        output = output.replace("] [", "]\n[")
    assert tensorrt_plan.version_of(output) == version


def test_the_machine_is_told_by_trtexec_and_the_driver() -> None:
    output = "Selected Device: NVIDIA GeForce RTX 2080\nCompute Capability: 7.5\nTensorRT version: 8.6.3\n"
    driver = tensorrt_plan.driver_of(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC version:"
    )
    assert tensorrt_plan.machine_of(output, driver) == Machine("NVIDIA GeForce RTX 2080", "7.5", "550.54.14", "8.6.3")
    assert tensorrt_plan.driver_of("") == ""
    with pytest.raises(ConfigurationError, match="does not say which GPU it works with"):
        tensorrt_plan.machine_of("no CUDA-capable device is detected")
    with pytest.raises(ConfigurationError, match="does not tell its version"):
        tensorrt_plan.version_of("")


def test_an_engine_stays_where_it_was_built() -> None:
    assert tensorrt_plan.stale(ORIN.key(), ORIN) is None
    assert tensorrt_plan.stale({**ORIN.key(), "other": "x"}, ORIN) is None


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (replace(ORIN, gpu="Xavier"), "was built for gpu Orin, and here is Xavier: build it again"),
        (replace(ORIN, compute_capability="7.2"), r"for computeCapability 8\.7, and here is 7\.2"),
        (replace(ORIN, driver="550.1"), r"for driver 540\.4\.0, and here is 550\.1"),
        (replace(ORIN, tensorrt="10.4.0"), r"for tensorrt 10\.3\.0, and here is 10\.4\.0"),
    ],
)
def test_an_engine_that_must_be_built_again(there: Machine, told: str) -> None:
    reason = tensorrt_plan.stale(ORIN.key(), there)
    assert reason is not None
    assert re.search(told, reason)


def test_an_engine_that_tells_nothing_is_built_again() -> None:
    assert tensorrt_plan.stale({}, ORIN) == "the engine does not tell its gpu: build it again here"


def test_the_calibration_cache_holds_scales_as_bits() -> None:
    text = tensorrt_plan.calibration_cache({"image": 127.0, "relu": 0.0}, "8.6.1")
    first, image, relu = text.splitlines()
    assert (first, image) == ("TRT-861-EntropyCalibration2", "image: 3f800000")
    assert struct.unpack(">f", bytes.fromhex(relu.split(": ")[1]))[0] > 0


def test_ranges_of_all_tensors_are_measured(classifier: Path) -> None:
    images, _ = models.digits()
    found = tensorrt.largest_values(classifier, Samples({"image": images[:20]}))
    assert set(found) == {"image", "conv", "relu", "features", "scores"}
    assert found["image"] == pytest.approx(float(images[:20].max()))
    assert found["relu"] <= found["conv"]


def facts(name: str, *shape: int, dtype: TensorType = TensorType.FP32) -> TensorFacts:
    return TensorFacts(name=name, dtype=dtype, shape=list(shape))


def test_the_configuration_for_triton() -> None:
    text = tensorrt_plan.triton_config(
        "digits",
        [facts('a "name"', -1, 3, 8, 8), facts("length", -1, dtype=TensorType.INT64)],
        [facts("scores", -1, 10)],
        max_batch=8,
        instances=2,
    )
    assert text == (
        'name: "digits"\nplatform: "tensorrt_plan"\nmax_batch_size: 8\n'
        'input [\n  { name: "a \\"name\\"", data_type: TYPE_FP32, dims: [ 3, 8, 8 ] },\n'
        '  { name: "length", data_type: TYPE_INT64, dims: [ 1 ], reshape: { shape: [ ] } }\n]\n'
        'output [\n  { name: "scores", data_type: TYPE_FP32, dims: [ 10 ] }\n]\n'
        "instance_group [\n  { kind: KIND_GPU, count: 2 }\n]\ndynamic_batching { }\n"
    )


def test_without_a_free_batch_triton_gets_whole_shapes() -> None:
    text = tensorrt_plan.triton_config("m", [facts("x", 1, 4)], [facts("y", 1, 2)], max_batch=0)
    assert "max_batch_size: 0" in text
    assert "dims: [ 1, 4 ]" in text
    assert "dynamic_batching" not in text
    with pytest.raises(ConfigurationError, match="the first dimension of x, y is not free"):
        tensorrt_plan.triton_config("m", [facts("x", 1, 4)], [facts("y", 1, 2)], max_batch=4)
    with pytest.raises(ConfigurationError, match="cannot be the name of a model in Triton"):
        tensorrt_plan.triton_config("../m", [facts("x", 1)], [facts("y", 1)], max_batch=0)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the fakes where the real things would be, here and in child processes; what the fake trtexec is told."""
    log = tmp_path / "said.log"
    monkeypatch.setenv("FAKE_TENSORRT_LOG", str(log))
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{FAKES}:{':'.join(sys.path)}")
    monkeypatch.syspath_prepend(str(FAKES))
    yield log
    for name in ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        sys.modules.pop(name, None)


def make(folder: Path, model: Path, name: str, **options: str) -> Made:
    images, labels = models.digits()
    folder.mkdir(parents=True)
    source = Source(model, ModelFormat.ONNX, {model.name: model})
    samples = Samples({"image": images[:40]}, labels=labels[:40])
    return maker("tensorrt").make(Work(source, from_name(name, options), folder, samples, None, None, native_int8=True))


def types(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def test_precisions_are_written_into_the_model(tmp_path: Path, classifier: Path, said: Path) -> None:
    half = make(tmp_path / "half", classifier, "tensorrt-fp16")
    small = make(tmp_path / "small", classifier, "tensorrt-int8")
    assert half.settings == Machine("Fake Orin", "8.7", "", "10.3.0").key()
    assert half.tool_metrics["throughput-qps"] == 130.298
    weights = onnx.load(str(tmp_path / "half" / half.model_file)).graph.initializer
    assert {each.data_type for each in weights} >= {onnx.TensorProto.FLOAT16}
    quantized = onnx.load(str(tmp_path / "small" / small.model_file)).graph
    assert "QuantizeLinear" in {node.op_type for node in quantized.node}
    zeros = [onnx.numpy_helper.to_array(each) for each in quantized.initializer if "zero_point" in each.name]
    assert zeros
    assert not any(np.any(each) for each in zeros)  # TensorRT takes no others
    assert sorted(path.name for path in tmp_path.glob("*") if path.is_dir()) == ["half", "small"]
    told = said.read_text(encoding="utf-8")
    assert told.count("--stronglyTyped") == 2
    assert "--fp16" not in told
    assert told.count(f"--timingCacheFile={tmp_path}/") == 2
    assert "--maxShapes=image:1x1x8x8" in told


def test_what_chooses_itself_gets_ranges(
    tmp_path: Path, classifier: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_VERSION", "8.6.1")
    made = make(tmp_path / "made", classifier, "tensorrt-int8", maxBatch="4", workspaceMib="512")
    assert "8.6.1 chose the precision of each layer itself" in made.remark
    told = said.read_text(encoding="utf-8")
    assert "--int8 --fp16 --calib=" in told
    assert "--maxShapes=image:4x1x8x8" in told
    assert "workspace:512" in told
    assert types(tmp_path / "made" / made.model_file) == types(classifier)


def test_tensorrt_11_gets_no_flags(
    tmp_path: Path, classifier: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_VERSION", "11.4.1")
    make(tmp_path / "made", classifier, "tensorrt-int8")
    assert not {"--int8", "--fp16", "--stronglyTyped"} & set(said.read_text(encoding="utf-8").split())


def test_a_repository_for_triton(tmp_path: Path, classifier: Path, said: Path) -> None:
    assert said.parent == tmp_path
    made = make(tmp_path / "made", classifier, "tensorrt-fp16", layout="Triton", maxBatch="8")
    assert made.model_file == "model/1/model.plan"
    files = {
        path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*") if path.is_file()
    }
    assert files == {"model/1/model.plan", "model/config.pbtxt"}
    config = (tmp_path / "made" / "model" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'name: "model"' in config
    assert "max_batch_size: 8" in config
    assert 'name: "image", data_type: TYPE_FP32, dims: [ 1, 8, 8 ]' in config


def test_what_tensorrt_refuses_is_told(
    tmp_path: Path, classifier: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_REFUSES", "1")
    with pytest.raises(BadModelError, match=r"TensorRT refuses the model: \[TRT\] ModelImporter.*\[Flatten\]"):
        make(tmp_path / "made", classifier, "tensorrt-fp16")
    assert said.is_file()


def test_without_trtexec_its_group_is_named(tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="it belongs to the image of the group tensorrt"):
        make(tmp_path / "made", classifier, "tensorrt-fp16")


def test_an_engine_of_another_machine_is_not_loaded(tmp_path: Path, classifier: Path, said: Path) -> None:
    made = make(tmp_path / "made", classifier, "tensorrt-fp16")
    assert said.is_file()
    settings = {**made.settings, "engine.tensorrt": "10.2.0"}
    with pytest.raises(ConfigurationError, match=r"built for tensorrt 10\.2\.0, and here is 10\.3\.0: build it again"):
        tensorrt.Tool().load(tmp_path / "made" / made.model_file, settings, 1, "GPU")


def test_an_engine_runs_with_batches_of_any_size(tmp_path: Path, classifier: Path, said: Path) -> None:
    made = make(tmp_path / "made", classifier, "tensorrt-fp32")
    assert said.is_file()
    session = tensorrt.Tool().load(tmp_path / "made" / made.model_file, made.settings, 1, "GPU")
    images, labels = models.digits()
    for rows in (slice(0, 1), slice(0, 50), slice(3, 5)):
        assert np.mean(session.infer({"image": images[rows]}).argmax(axis=1) == labels[rows]) >= 0.9
    warm = tensorrt.Tool().warm(1, "GPU")
    assert warm.infer({"x": np.array([-1.0], np.float32)}).tolist() == [0.0]


@pytest.mark.usefixtures("quick")
def test_the_way_of_a_job_runs(tmp_path: Path, classifier: Path, labelled: Path, said: Path) -> None:
    cpu = catalogue()["cpu"].wire()
    cpu["devices"]["TensorRT"] = "GPU"
    cpu["frameworks"].append({"name": "TensorRT", "reason": "a fake", "source": "this test"})
    here = Surroundings(
        tmp_path / "work",
        "node-1",
        1,
        lambda: NOW,
        catalogue={"cpu": AcceleratorEntry.model_validate(cpu)},
        tools=toolshed(),
    )
    wanted = [
        {"framework": "TensorRT", "precision": "INT8", "technique": "PostTraining"},
        {"framework": "TensorRT", "precision": "FP16", "technique": "Conversion"},
    ]
    spec = {
        "model": {"uri": str(classifier)},
        "accelerator": "cpu",
        "evaluation": {"uri": str(labelled)},
        "candidates": wanted,
        "gates": [{"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "20"}],
    }
    outcome = optimize(OptimizationJobSpec.model_validate(spec), LocalFiles(), Lines(), here)
    assert outcome.folder is not None, outcome.message
    document = json.loads((outcome.folder / "skerry.json").read_text(encoding="utf-8"))
    assert document["settings"] == Machine("Fake Orin", "8.7", "", "10.3.0").key()
    assert document["device"] == "GPU"
    assert all(report.tool_metrics["latency-p95"] == 10.8698 for report in outcome.report.candidates)
    assert said.is_file()
