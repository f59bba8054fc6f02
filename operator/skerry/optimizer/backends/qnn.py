"""Qualcomm QNN: models for the Hexagon Tensor Processor (HTP), by ONNX Runtime's execution provider.

Where there is no such device the HTP's emulator, which is part of the provider on x86-64, runs the models. A candidate
is an ONNX file with one node, which holds the context binary that QNN has built.
"""

import ctypes
import importlib.metadata
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

from skerry.api.types import Framework, Technique
from skerry.optimizer.backends import calibration
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError

MODEL_FILE: Final = "model.onnx"
DEVICE: Final = "HTP"
EMULATED: Final = "measured in the emulator of the HTP, which says nothing about speed and memory of a device"
_PROVIDER: Final = "QNNExecutionProvider"
_ARCHITECTURE: Final = "htp_arch"
_DEVICE_ARCHITECTURE: Final = "arm64"
_CALIBRATIONS: Final = {
    "MinMax": CalibrationMethod.MinMax,
    "Entropy": CalibrationMethod.Entropy,
    "Percentile": CalibrationMethod.Percentile,
}
_ACTIVATIONS: Final = {"UInt8": QuantType.QUInt8, "UInt16": QuantType.QUInt16}
EXECUTION: Final = {"UInt8": "INT8", "UInt16": "A16W8"}
_FATAL_ONLY: Final = 4
_SHOWN: Final = 5
_LIBRARY: Final = "libatomic.so.1"


class QnnSession:
    """A session of which every node runs on the HTP."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._first = [session.get_outputs()[0].name]

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        return np.asarray(self._session.run(self._first, sample)[0])


class Tool:
    """Quantization to QDQ models and conversion, both ending in a context binary."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> QnnSession:
        """Load a model on the HTP, or in its emulator; no node ever runs on the CPU.

        Raises:
            BadModelError: A node cannot run there.
            ConfigurationError: The device is another one.
        """
        del threads  # neither the HTP nor its emulator counts them
        if device != DEVICE:
            message = f"QNN runs models on {DEVICE} only, not on {device}"
            raise ConfigurationError(message)
        return QnnSession(_session(model, settings))

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        wish = work.request.options
        execution, remark = "FP16", ""
        with tempfile.TemporaryDirectory(dir=work.folder.parent, prefix="qnn-") as scratch:
            model = prepared(work.source.path, Path(scratch))
            if work.request.technique is Technique.POST_TRAINING:
                samples = calibration.required(work.calibration)
                model = _quantized(model, samples, wish)
                remark = "; ".join(calibration.remarks(samples))
                execution = EXECUTION[wish.get("activations", "UInt8")]
            return built(model, work, execution, remark)


def built(model: Path, work: Work, execution: str, remark: str, packages: Sequence[str] = ()) -> Made:
    """Build the context binary of a prepared model into the candidate's folder.

    Args:
        model: An ONNX file with fixed shapes.
        work: The work for the candidate.
        execution: The precision in which it computes.
        remark: What a person should know.
        packages: Packages that had a part in it, beside QNN's.

    Raises:
        BadModelError: Nodes cannot run on the HTP; the message names them.
        ConfigurationError: A library of the system is missing.
    """
    settings = dict(BASELINE_SETTINGS[Framework.QNN])
    if architecture := work.request.options.get("htpArchitecture"):
        settings[_ARCHITECTURE] = architecture
    _session(model, settings, context=work.folder / MODEL_FILE)
    emulated = EMULATED if _emulated() else ""
    return Made(
        MODEL_FILE,
        settings,
        execution,
        {name: importlib.metadata.version(name) for name in (*packages, "onnxruntime-qnn", "onnxruntime", "onnx")},
        remark,
        emulated=emulated,
        architecture=_DEVICE_ARCHITECTURE if emulated else "",
        one_by_one=True,
    )


@cache
def _devices() -> tuple[Any, ...]:
    """Return the devices of the provider; of the kind NPU where there is one, else the CPU, on which it emulates one.

    Raises:
        ConfigurationError: The provider finds none.
    """
    ort.register_execution_provider_library(_PROVIDER, onnxruntime_qnn.get_library_path())
    found = [device for device in ort.get_ep_devices() if device.ep_name == _PROVIDER]
    real = [device for device in found if device.device.type == ort.OrtHardwareDeviceType.NPU]
    if not found:
        message = "QNN finds neither an HTP nor the means to emulate one on this machine"
        raise ConfigurationError(message)
    return tuple(real or found)


def _emulated() -> bool:
    """Tell whether there is no real HTP."""
    return bool(_devices()[0].device.type != ort.OrtHardwareDeviceType.NPU)


def _session(model: Path, settings: Mapping[str, str], context: Path | None = None) -> ort.InferenceSession:
    """Load a model on the HTP; write the context binary that QNN builds of it, where a file is given.

    Raises:
        BadModelError: Nodes cannot run on the HTP; the message names them.
        ConfigurationError: A library of the system is missing.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # Without this QNN leaves what it cannot do, or all when a library is missing, to the CPU without a word.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if context is not None:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_embed_mode", "1")
        options.add_session_config_entry("ep.context_file_path", str(context))
    _provide(options, settings)
    try:
        return ort.InferenceSession(str(model), options)
    except Exception as error:
        _require_library()
        if (left := _left_to_cpu(model, settings)) is None:
            raise
        raise BadModelError(left) from error


def _require_library() -> None:
    """Refuse to go on without the library of the system whose absence QNN does not tell.

    Raises:
        ConfigurationError: It is not there.
    """
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        message = f"QNN needs the library {_LIBRARY}, which is not here; Debian has it as libatomic1"
        raise ConfigurationError(message) from error


def _provide(options: ort.SessionOptions, settings: Mapping[str, str]) -> None:
    backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **settings}
    options.add_provider_for_devices(list(_devices()[:1]), backend)


def _left_to_cpu(model: Path, settings: Mapping[str, str]) -> str | None:
    """Return a sentence about the nodes that the HTP does not take; None when it takes all, or nobody can tell."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    _provide(options, settings)
    try:
        parts = ort.InferenceSession(str(model), options).get_provider_graph_assignment_info()
    except Exception:  # noqa: BLE001 - the first error tells more
        return None
    nodes = [node for part in parts if part.ep_name != _PROVIDER for node in part.get_nodes()]
    if not nodes:
        return None
    more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    names = ", ".join(f"{node.name or '(without a name)'} ({node.op_type})" for node in nodes[:_SHOWN])
    return f"the HTP cannot run the nodes {names}{more}"


def prepared(source: Path, scratch: Path) -> Path:
    """Write the model with a batch of 1 and all shapes inferred, which the HTP wants, and its layers fused.

    Raises:
        BadModelError: An input has other free dimensions.
    """
    model = onnx.load(str(source))
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        sizes = [
            dimension.dim_value if dimension.HasField("dim_value") else -1
            for dimension in value.type.tensor_type.shape.dim
        ]
        if -1 in sizes[1:]:
            message = f"the HTP wants fixed shapes, but the input {value.name!r} has {sizes}: pin it in spec.inputs"
            raise BadModelError(message)
        if sizes[:1] == [-1]:
            make_input_shape_fixed(model.graph, value.name, [1, *sizes[1:]])
    fix_output_shapes(model)
    fixed, prepared, fused = (scratch / f"{step}.onnx" for step in ("fixed", "prepared", "fused"))
    onnx.save(model, str(fixed))
    # Symbolic shape inference helps transformers only, and fails on some of them.
    quant_pre_process(fixed, prepared, skip_symbolic_shape=True)
    bare = onnx.load(str(prepared))
    del bare.metadata_props[:]  # qnn_preprocess_model of ONNX Runtime 1.31 fails on models that have any
    return fused if qnn_preprocess_model(bare, fused, fuse_layernorm=True) else prepared


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives ONNX Runtime one sample after the other."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.rewind()

    def get_next(self) -> Sample | None:
        return next(self._rows, None)

    def rewind(self) -> None:
        rows: Sequence[int] = range(len(self._samples))
        self._rows: Iterator[Sample] = (self._samples.sample(row) for row in rows)


def _quantized(model: Path, samples: Samples, options: Mapping[str, str]) -> Path:
    """Write a model with nodes that quantize and dequantize, as QNN wants them."""
    channels = options.get("granularity") == "PerChannel"
    config = get_qnn_qdq_config(
        model,
        _Reader(samples),
        calibrate_method=_CALIBRATIONS[options.get("calibration", "MinMax")],
        activation_type=_ACTIVATIONS[options.get("activations", "UInt8")],
        # Weights with a scale for each channel must be symmetric.
        weight_type=QuantType.QInt8 if channels else QuantType.QUInt8,
        per_channel=channels,
    )
    target = model.with_name("quantized.onnx")
    quantize(model, target, config)
    return target
