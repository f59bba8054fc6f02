"""NVIDIA TensorRT: trtexec builds an engine where it will run; TensorRT's own Python package runs it.

Precisions are written into the ONNX model by ONNX Runtime's tools before, where TensorRT takes them from there.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from skerry.accelerators import onnx_providers
from skerry.api.types import Framework, Precision, Technique, TensorFacts
from skerry.optimizer import tensorrt_plan
from skerry.optimizer.backends import onnxruntime
from skerry.optimizer.backends.base import Array, Made, Session, Work
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError, OptimizationError
from skerry.optimizer.onnx_source import OnnxReader
from skerry.optimizer.programs import leash
from skerry.optimizer.tensorrt_plan import ENGINE, PROGRAM, Build, Machine

_DRIVER: Final = Path("/proc/driver/nvidia/version")
_NAME: Final = "model"
_TIMINGS: Final = "tensorrt-timings.cache"
_SECONDS: Final = 3600.0
_TOLD_LINES: Final = 3
_RECIPES: Final = {Precision.FP16: Technique.CONVERSION, Precision.INT8: Technique.POST_TRAINING}


class Tool:
    """Builds and runs engines."""

    def make(self, work: Work) -> Made:
        """Build an engine, and have trtexec measure it: its figures are kept beside.

        Raises:
            ConfigurationError: There is no GPU, or this TensorRT cannot build that.
            BadModelError: TensorRT refuses the model.
        """
        options = work.request.options
        scratch = work.folder.with_suffix(".tensorrt")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            version = tensorrt_plan.version_of(_run([PROGRAM, "--help"], fails=True))
            build = Build(
                precision=work.request.precision,
                version=version,
                workspace_mib=int(float(options.get("workspaceMib", "1024"))),
                # Beside the candidates, so that the next one need not time the same kernels again.
                timing_cache=work.folder.parent / _TIMINGS,
                dla_core=int(options["dlaCore"]) if options.get("dlaCore") else None,
                shapes=_shapes(work),
            )
            model = _typed(work, scratch) if build.typed else work.source.path
            if not build.typed and build.precision is Precision.INT8:
                build = replace(build, calibration=_measured_ranges(work, scratch, version))
            return _built(work, model, build)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load an engine.

        Raises:
            ConfigurationError: It was built for another machine.
        """
        del threads, device
        found = machine()
        if (reason := tensorrt_plan.stale(settings, found)) is not None:
            raise ConfigurationError(reason)
        return EngineSession(model.read_bytes())

    def warm(self, threads: int, device: str) -> Session:
        """Return a session with an engine of one node, run once."""
        del threads, device
        session = EngineSession(_smallest_engine())
        session.infer({"x": np.zeros(1, np.float32)})
        return session


def _run(command: Sequence[str], *, fails: bool = False) -> str:
    """Run trtexec and return what it says.

    Raises:
        ConfigurationError: It is not here.
        BadModelError: It ends with an error; the message has its last words.
    """
    if shutil.which(command[0]) is None:
        message = f"{command[0]} is not here: it belongs to the image of the group tensorrt"
        raise ConfigurationError(message)
    words = [*leash(), *command]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} did not end within {_SECONDS / 60:.0f} minutes"
        raise OptimizationError(message) from error
    if done.returncode != 0 and not fails:
        errors = [line for line in done.stdout.splitlines() if "[E]" in line] or done.stdout.splitlines()
        told = " ".join(line.partition("[E]")[2].strip() or line.strip() for line in errors[:_TOLD_LINES])
        message = f"TensorRT refuses the model: {told or f'exit code {done.returncode}'}"
        raise BadModelError(message)
    return done.stdout


def _driver() -> str:
    return tensorrt_plan.driver_of(_DRIVER.read_text(encoding="utf-8", errors="replace")) if _DRIVER.is_file() else ""


def _built(work: Work, model: Path, build: Build) -> Made:
    """Build the engine, lay it out, measure it."""
    plan = work.folder / ENGINE
    output = _run(tensorrt_plan.build_command(model, plan, build))
    if not plan.is_file():
        message = "trtexec ended well, but wrote no engine"
        raise BadModelError(message)
    found = tensorrt_plan.machine_of(output, _driver())
    figures = tensorrt_plan.figures_of(_run(tensorrt_plan.measure_command(plan, build)))
    file = _laid_out(work, plan) if work.request.options.get("layout") == "Triton" else ENGINE
    remark = "" if build.typed else f"TensorRT {build.version} chose the precision of each layer itself"
    precision = str(build.precision)
    return Made(file, found.key(), precision, {"tensorrt": found.tensorrt}, remark, tool_metrics=figures)


def _shapes(work: Work) -> dict[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] | None:
    """Return smallest, usual and largest shape of inputs with a free batch; other dimensions are pinned before."""
    most = int(float(work.request.options.get("maxBatch", "1")))
    free = [tensor for tensor in _inputs(work) if -1 in tensor.shape]
    if not free:
        return None
    one = {tensor.name: [1, *tensor.shape[1:]] for tensor in free}
    return {name: (shape, shape, [most, *shape[1:]]) for name, shape in one.items()}


def _inputs(work: Work) -> list[TensorFacts]:
    return OnnxReader().read(work.source.path).inputs


def _typed(work: Work, scratch: Path) -> Path:
    """Return a model in whose types the precision is written: FP16, or integers with their scales."""
    technique = _RECIPES.get(work.request.precision)
    if technique is None:
        return work.source.path
    options = {name: value for name, value in work.request.options.items() if name == "calibration"}
    request = work.request.model_copy(
        update={"framework": Framework.ONNX_RUNTIME, "technique": technique, "options": options}
    )
    # For this provider scales come without zero points, which is what TensorRT takes.
    made = onnxruntime.Tool().make(replace(work, request=request, folder=scratch, device=onnx_providers.TENSORRT))
    return scratch / made.model_file


def _measured_ranges(work: Work, scratch: Path, version: str) -> Path:
    """Write the ranges of all tensors on the calibration data, as TensorRT reads them."""
    if work.calibration is None:
        message = "quantizing activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    target = scratch / "calibration.cache"
    ranges = largest_values(work.source.path, work.calibration)
    target.write_text(tensorrt_plan.calibration_cache(ranges, version), encoding="ascii")
    return target


def largest_values(model: Path, samples: Samples) -> dict[str, float]:
    """Return the largest absolute value that each tensor of floats takes on samples, inputs and outputs included."""
    import onnxruntime as ort  # noqa: PLC0415 - heavy

    whole = onnx.shape_inference.infer_shapes(onnx.load(str(model)))
    known = {value.name for value in whole.graph.output}
    inner = [value for value in whole.graph.value_info if value.name not in known]
    floats = onnx.TensorProto.FLOAT
    whole.graph.output.extend(value for value in inner if value.type.tensor_type.elem_type == floats)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=[onnxruntime.PROVIDER])
    names = [value.name for value in session.get_outputs() if value.type == "tensor(float)"]
    found: dict[str, float] = {}
    for index in range(len(samples)):
        sample = samples.sample(index)
        values = dict(zip(names, session.run(names, sample), strict=True))
        values.update({name: array for name, array in sample.items() if array.dtype == np.float32})
        for name, value in values.items():
            found[name] = max(found.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
    return found


def _laid_out(work: Work, plan: Path) -> str:
    """Move the engine into a model repository of Triton, and return its place there."""
    content = OnnxReader().read(work.source.path)
    batched = all(tensor.shape and tensor.shape[0] == -1 for tensor in (*content.inputs, *content.outputs))
    most = int(float(work.request.options.get("maxBatch", "1"))) if batched else 0
    config = tensorrt_plan.triton_config(_NAME, content.inputs, content.outputs, max_batch=most)
    folder = work.folder / _NAME / "1"
    folder.mkdir(parents=True)
    plan.rename(folder / ENGINE)
    (folder.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    return (folder / ENGINE).relative_to(work.folder).as_posix()


def machine() -> Machine:
    """Return what this machine is to an engine, asked of CUDA and TensorRT.

    Raises:
        ConfigurationError: There is no GPU.
    """
    import tensorrt as trt  # noqa: PLC0415 - only in its image
    from cuda.bindings import runtime as cuda  # noqa: PLC0415 - only in its image

    error, properties = cuda.cudaGetDeviceProperties(0)
    if int(error) != 0:
        message = f"CUDA finds no GPU in this pod: error {int(error)}"
        raise ConfigurationError(message)
    name = properties.name.decode().rstrip("\0") if isinstance(properties.name, bytes) else str(properties.name)
    return Machine(name, f"{properties.major}.{properties.minor}", _driver(), tensorrt_plan.three(trt.__version__))


def _smallest_engine() -> bytes:
    import tensorrt as trt  # noqa: PLC0415 - only in its image

    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    source = network.add_input("x", trt.float32, (1,))
    layer = network.add_activation(source, trt.ActivationType.RELU)
    layer.get_output(0).name = "y"
    network.mark_output(layer.get_output(0))
    return bytes(builder.build_serialized_network(network, builder.create_builder_config()))


class EngineSession:
    """An engine with one execution context, whose inputs and outputs are copied to and from the GPU.

    Args:
        engine: The serialized engine.
    """

    def __init__(self, engine: bytes) -> None:
        import tensorrt as trt  # noqa: PLC0415 - only in its image
        from cuda.bindings import runtime as cuda  # noqa: PLC0415 - only in its image

        self._trt, self._cuda = trt, cuda
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            message = "TensorRT cannot load the engine: it was built by another version, or for another GPU"
            raise ConfigurationError(message)
        self._context = self._engine.create_execution_context()
        self._stream = self._checked(cuda.cudaStreamCreate())
        self._memory: dict[str, tuple[int, int]] = {}
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._outputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]

    def _checked(self, answer: Any) -> Any:
        """Return the value of CUDA's answer.

        Raises:
            OptimizationError: It is an error.
        """
        error, *values = answer if isinstance(answer, tuple) else (answer,)
        if int(error) != 0:
            message = f"CUDA: error {int(error)}"
            raise OptimizationError(message)
        return values[0] if values else None

    def _place(self, name: str, size: int) -> int:
        """Return memory of the GPU for a tensor of so many bytes."""
        place, have = self._memory.get(name, (0, 0))
        if have < size:
            if have:
                self._checked(self._cuda.cudaFree(place))
            place = self._checked(self._cuda.cudaMalloc(size))
            self._memory[name] = (place, size)
            self._context.set_tensor_address(name, place)
        return place

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        kinds = self._cuda.cudaMemcpyKind
        for name, array in sample.items():
            whole = np.ascontiguousarray(array)
            self._context.set_input_shape(name, whole.shape)
            place = self._place(name, whole.nbytes)
            copied = (place, whole.ctypes.data, whole.nbytes, kinds.cudaMemcpyHostToDevice, self._stream)
            self._checked(self._cuda.cudaMemcpyAsync(*copied))
        results = {name: self._empty(name) for name in self._outputs}
        places = {name: self._place(name, result.nbytes) for name, result in results.items()}
        if not self._context.execute_async_v3(self._stream):
            message = "TensorRT could not run the engine"
            raise OptimizationError(message)
        first = results[self._outputs[0]]
        copied = (first.ctypes.data, places[self._outputs[0]], first.nbytes, kinds.cudaMemcpyDeviceToHost, self._stream)
        self._checked(self._cuda.cudaMemcpyAsync(*copied))
        self._checked(self._cuda.cudaStreamSynchronize(self._stream))
        return first

    def _empty(self, name: str) -> Array:
        kind = self._trt.nptype(self._engine.get_tensor_dtype(name))
        return np.empty(tuple(self._context.get_tensor_shape(name)), kind)
