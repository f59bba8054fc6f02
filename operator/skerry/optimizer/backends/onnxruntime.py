"""ONNX Runtime with its own quantization tools."""

import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx.external_data_helper import uses_external_data
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from skerry.accelerators import onnx_providers
from skerry.accelerators.onnx_providers import LEVEL, OPTIONS, ProviderOptionsError, session_setup
from skerry.api.types import Framework, Technique
from skerry.optimizer.backends import calibration, sensitivity
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Work
from skerry.optimizer.backends.sensitivity import Sensitivity
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.onnx"
PROVIDER: Final = onnx_providers.CPU
_LEVELS: Final = {
    "All": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "Extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "Basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}
_WEIGHTS: Final = "model.data"
_CALIBRATIONS: Final = {
    "MinMax": CalibrationMethod.MinMax,
    "Entropy": CalibrationMethod.Entropy,
    "Percentile": CalibrationMethod.Percentile,
}
_ACTIVATIONS: Final = {"UInt8": QuantType.QUInt8, "Int8": QuantType.QInt8}
# Convolutions are left out: ONNX Runtime's integer convolution without known activation ranges is slower than FP32.
_DYNAMIC_OPERATORS: Final = ["MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization"]
_OPERATORS: Final = frozenset(QDQRegistry) | frozenset(QLinearOpsRegistry)
# Operators that only move values about: what they lose, others have lost before.
_MOVES: Final = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Gather", "Slice", "Split", "Concat"),
        *("Pad", "Resize", "Where", "DepthToSpace", "SpaceToDepth", "ArgMax"),
    }
)
# Activations that ONNX Runtime fuses into what is before them; they are as precise as that.
_FUSED: Final = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid"})
_BINS: Final = 1024
_STEPS: Final = 128
_ERRORS_ONLY: Final = 3


class OnnxRuntimeSession:
    """A session on one provider."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._first = [session.get_outputs()[0].name]

    @property
    def output_shapes(self) -> dict[str, list[int]]:
        """Shapes of the outputs as ONNX Runtime infers them; -1 stands for a dimension that is free."""
        return {
            output.name: [size if isinstance(size, int) else -1 for size in output.shape]
            for output in self._session.get_outputs()
        }

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        return np.asarray(self._session.run(self._first, sample)[0])


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives ONNX Runtime one sample after the other."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._rows = self._iterate()

    def _iterate(self) -> Iterator[Sample]:
        return (self._samples.sample(index) for index in range(len(self._samples)))

    def get_next(self) -> Sample | None:
        return next(self._rows, None)

    def rewind(self) -> None:
        self._rows = self._iterate()


@dataclass(frozen=True)
class _Result:
    """In which precision a candidate computes, and what is to be said of it."""

    execution: str
    remarks: tuple[str, ...] = ()
    sensitivity: Sensitivity = ()


def session_options(device: str, settings: Mapping[str, str], threads: int) -> ort.SessionOptions:
    """Return the options of a session on a device.

    Raises:
        ProviderOptionsError: The provider's options cannot be read.
    """
    setup = session_setup(device, settings)
    options = _options(settings.get(LEVEL, "All"))
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = setup.memory_pattern
    for name, value in setup.entries.items():
        options.add_session_config_entry(name, value)
    return options


def _options(level: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = _ERRORS_ONLY
    return options


class Tool:
    """Graph optimization, static and dynamic quantization, half precision."""

    def streams(
        self, model: Path, settings: Mapping[str, str], threads: int, device: str, count: int
    ) -> Sequence[OnnxRuntimeSession]:
        """Return one session for all streams, which threads may call at once: each computes, and a pool helps them."""
        return [self.load(model, settings, max(threads - count + 1, 1), device)] * count

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> OnnxRuntimeSession:
        """Make a session on a provider, without a fallback to the CPU.

        Raises:
            ConfigurationError: This ONNX Runtime does not have the provider, or its options cannot be read.
        """
        if device not in ort.get_available_providers():
            message = f"this ONNX Runtime has no {device}; it has {', '.join(ort.get_available_providers())}"
            raise ConfigurationError(message)
        try:
            options = session_options(device, settings, threads)
            providers = list(session_setup(device, settings).providers)
        except ProviderOptionsError as error:
            raise ConfigurationError(str(error)) from error
        return OnnxRuntimeSession(ort.InferenceSession(str(model), options, providers=providers))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        target = work.folder / MODEL_FILE
        match work.request.technique:
            case Technique.GRAPH_OPTIMIZATION:
                result = _optimize(work, target)
            case Technique.CONVERSION:
                result = _halve(work, target)
            case Technique.POST_TRAINING:
                result = _quantize_static(work, target)
            case _:
                result = _quantize_dynamic(work, target)
        tools = {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx")}
        remark = "; ".join(result.remarks)
        return Made(MODEL_FILE, settings_of(work), result.execution, tools, remark, result.sensitivity)


def settings_of(work: Work) -> dict[str, str]:
    """Return a candidate's settings: the provider's options are those of its precision and those asked for.

    Raises:
        ConfigurationError: The options that were asked for cannot be read.
    """
    settings = dict(BASELINE_SETTINGS[Framework.ONNX_RUNTIME])
    try:
        asked = onnx_providers.provider_options(work.request.options.get(OPTIONS, "{}"))
    except ProviderOptionsError as error:
        raise ConfigurationError(str(error)) from error
    options = {**onnx_providers.default_options(work.device, work.request.precision), **asked}
    return {**settings, OPTIONS: json.dumps(options, sort_keys=True)} if options else settings


def _optimize(work: Work, target: Path) -> _Result:
    """Write the graph as ONNX Runtime's hardware-independent optimizations leave it."""
    options = _options(work.request.options.get("level", "Extended"))
    options.optimized_model_filepath = str(target)
    if _weights_outside(work.source.path):
        # Else the new model would look for the old one's weights beside itself.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    ort.InferenceSession(str(work.source.path), options, providers=[PROVIDER])
    return _Result("FP32")


def _halve(work: Work, target: Path) -> _Result:
    """Write the graph with weights and activations in FP16, inputs and outputs as they are.

    Raises:
        BadModelError: It has no weights in FP32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - changes sys.path

    model = onnx.load(str(work.source.path))
    if not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in model.graph.initializer):
        message = "there is nothing to convert: the model has no weights in FP32"
        raise BadModelError(message)
    onnx.save(convert_float_to_float16(model, keep_io_types=True), str(target))
    if work.device == PROVIDER and work.half_precision != "FP16":
        return _Result("FP32", ("FP16 weights, computed in FP32, because the CPU has no FP16 kernels",))
    return _Result("FP16")


def _weights_outside(path: Path) -> bool:
    graph = onnx.load(str(path), load_external_data=False).graph
    return any(uses_external_data(tensor) for tensor in graph.initializer)


def whole(path: Path, folder: Path) -> Path:
    """Return a model with its weights inside, a copy where they are in files beside it, which quantizers do not find.

    Raises:
        BadModelError: They are too large for one file.
    """
    if not _weights_outside(path):
        return path
    model = onnx.load(str(path))
    if model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        message = "the quantizers of ONNX Runtime take models of less than 2 GiB"
        raise BadModelError(message)
    target = folder / "whole.onnx"
    onnx.save(model, str(target))
    return target


def _prepared(work: Work, folder: Path) -> Path:
    """Return the model with shapes inferred and layers fused, as the quantizers want it, and every node named."""
    prepared = folder / "prepared.onnx"
    # Symbolic shape inference helps transformers only, and fails on some of them.
    quant_pre_process(whole(work.source.path, folder), prepared, skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_{node.output[0]}"
    onnx.save(model, str(prepared))
    return prepared


@dataclass(frozen=True)
class _Static:
    """A static quantization: what is quantized, and how.

    The ranges of activations are measured once and kept in a file.
    """

    prepared: Path
    samples: Samples
    arguments: Mapping[str, Any]

    def write(self, target: Path) -> None:
        """Write the model with everything quantized that can be."""
        self._write(target, self.arguments["extra_options"])

    def write_without(self, target: Path, kept: Sequence[str]) -> None:
        """Write the model with some nodes in floating point, what they read and what follows them too."""
        self._write(target, self._only_inputs, nodes_to_exclude=[*kept, *self._activations_beside(set(kept))])

    def sensitivity(self) -> Sensitivity:
        """Return how wrong the output is when one node alone is quantized, for each node that computes."""
        samples = calibration.sampled(self.samples)
        wanted = _outputs(self.prepared, samples)
        known = _OPERATORS - _MOVES - _FUSED
        names = [node.name for node in self._nodes if node.op_type in known]
        alone, errors = self.prepared.with_suffix(".alone.onnx"), {}
        for name in names[: sensitivity.MAX_LAYERS]:
            self._write(alone, self._only_inputs, nodes_to_quantize=[name])
            errors[name] = sensitivity.error_percent(wanted, _outputs(alone, samples))
        return sensitivity.ranked(errors)

    @property
    def _only_inputs(self) -> dict[str, Any]:
        """Options with which a tensor is quantized for those who read it, not for the node that makes it."""
        return {**self.arguments["extra_options"], "OpTypesToExcludeOutputQuantization": sorted(_OPERATORS)}

    @property
    def _nodes(self) -> list[Any]:
        return list(onnx.load(str(self.prepared), load_external_data=False).graph.node)

    def _activations_beside(self, kept: set[str]) -> list[str]:
        nodes = self._nodes
        read = {value for node in nodes if node.name in kept for value in node.input}
        made = {value for node in nodes if node.name in kept for value in node.output}
        fused = [node for node in nodes if node.op_type in _FUSED]
        return [node.name for node in fused if not read.isdisjoint(node.output) or not made.isdisjoint(node.input)]

    @property
    def _ranges(self) -> Path:
        """The file with the ranges of activations; what is not in it yet, ONNX Runtime measures."""
        file = self.prepared.with_suffix(".ranges.json")
        if self.arguments["calibrate_method"] is CalibrationMethod.Entropy and not file.exists():
            # With as many bins as steps, as quantize_static has it, there is no threshold to choose.
            bins = {"num_bins": _BINS, "num_quantized_bins": _STEPS}
            with tempfile.TemporaryDirectory(dir=self.prepared.parent) as folder:
                calibrator = create_calibrator(
                    self.prepared,
                    sorted(_OPERATORS),
                    augmented_model_path=f"{folder}/augmented.onnx",
                    calibrate_method=CalibrationMethod.Entropy,
                    extra_options=bins,
                )
                calibrator.collect_data(_Reader(self.samples))
                save_tensors_data(calibrator.compute_data(), file)
        return file

    def _write(self, target: Path, extra_options: Mapping[str, Any], **nodes: Any) -> None:
        quantize_static(
            self.prepared,
            target,
            _Reader(self.samples),
            quant_format=QuantFormat.QDQ,
            calibration_cache_path=self._ranges,
            **{**self.arguments, "extra_options": dict(extra_options)},
            **nodes,
        )


def _outputs(model: Path, samples: Samples) -> Array:
    session = OnnxRuntimeSession(ort.InferenceSession(str(model), _options("All"), providers=[PROVIDER]))
    return np.concatenate([session.infer(samples.sample(index)) for index in range(len(samples))])


def _static_arguments(work: Work) -> dict[str, Any]:
    options = work.request.options
    symmetric = work.device in {onnx_providers.CUDA, onnx_providers.TENSORRT}
    signed = symmetric or (work.device == PROVIDER and platform.machine() in {"aarch64", "arm64"})
    return {
        "per_channel": options.get("granularity", "PerChannel") == "PerChannel",
        "activation_type": _ACTIVATIONS[options.get("activations", "Int8" if signed else "UInt8")],
        "weight_type": QuantType.QInt8,
        "calibrate_method": _CALIBRATIONS[options.get("calibration", "MinMax")],
        # Without VNNI, products of 8-bit unsigned and signed numbers overflow 16 bits: 7-bit weights do not.
        "reduce_range": _narrow(work),
        # TensorRT takes scales without zero points only.
        "extra_options": {"ActivationSymmetric": True} if symmetric else {},
    }


def _narrow(work: Work) -> bool:
    return work.device == PROVIDER and not work.native_int8


def _quantize_static(work: Work, target: Path) -> _Result:
    samples = calibration.required(work.calibration)
    count = int(float(work.request.options.get("keepSensitive", "0")))
    with tempfile.TemporaryDirectory(dir=work.folder.parent) as folder:
        static = _Static(_prepared(work, Path(folder)), samples, _static_arguments(work))
        found = static.sensitivity() if count else ()
        names = sensitivity.worst(found, count)
        if names:
            static.write_without(target, names)
        else:
            static.write(target)
    _require_integers(target, ("QuantizeLinear",), "convolutions or matrix products")
    remarks = [*calibration.remarks(samples), *_narrowness(work), *([sensitivity.kept(names)] if names else [])]
    return _Result("INT8", tuple(remarks), found)


def _narrowness(work: Work) -> list[str]:
    return ["7-bit weights, because the CPU has no instruction for 8-bit dot products"] if _narrow(work) else []


def _quantize_dynamic(work: Work, target: Path) -> _Result:
    with tempfile.TemporaryDirectory(dir=work.folder.parent) as folder:
        quantize_dynamic(
            _prepared(work, Path(folder)),
            target,
            weight_type=QuantType.QInt8,
            per_channel=work.request.options.get("granularity", "PerChannel") == "PerChannel",
            op_types_to_quantize=_DYNAMIC_OPERATORS,
            reduce_range=_narrow(work),
        )
    _require_integers(target, ("MatMulInteger", "DynamicQuantizeLinear", "QAttention"), "matrix products or LSTMs")
    return _Result("INT8", tuple(_narrowness(work)))


def _require_integers(model: Path, operators: tuple[str, ...], wanted: str) -> None:
    """Refuse a quantized model in which nothing is quantized.

    Raises:
        BadModelError: It is the source model in other words.
    """
    graph = onnx.load(str(model), load_external_data=False).graph
    if not any(node.op_type.startswith(operators) for node in graph.node):
        message = f"there is nothing to quantize: the model has no {wanted} with constant weights"
        raise BadModelError(message)
