"""What there is to know about NVIDIA TensorRT without having it: command lines, keys, output, Triton's repository.

TensorRT 11 knows no precision flags: a network computes in the types that it is written in. From 10 on that can be
asked for, and Skerry does, so that one model file means one thing. TensorRT 8, and NVIDIA's DLA, choose precisions
themselves among those allowed, and take integers only with ranges measured beforehand.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.api.types import Precision, TensorFacts, TensorType
from skerry.optimizer.errors import ConfigurationError

PROGRAM: Final = "trtexec"
ENGINE: Final = "model.plan"
KEY: Final = "engine."
"""What the settings begin with that tell where an engine runs."""

_LONG: Final = 6  # digits of a version from 10 on
_STRONG: Final = 10
_STRONG_ONLY: Final = 11
_FLAGS: Final = {Precision.FP16: ["--fp16"], Precision.INT8: ["--int8", "--fp16"]}
_TRITON_TYPES: Final[Mapping[TensorType, str]] = {
    **{kind: f"TYPE_{kind}" for kind in TensorType if kind is not TensorType.BYTES},
    TensorType.BYTES: "TYPE_STRING",
}
_NUMBER: Final = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_SELECTED: Final = re.compile(r"Selected Device: (.+)")
_CAPABILITY: Final = re.compile(r"Compute Capability: (\d+\.\d+)")
_VERSION: Final = re.compile(r"TensorRT version: (\d+(?:\.\d+)+)")
_BANNER: Final = re.compile(r"\[TensorRT v(\d+)\]")
_DRIVER: Final = re.compile(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s")
_THROUGHPUT: Final = re.compile(rf"Throughput: {_NUMBER} qps")
_LATENCY: Final = re.compile(r"\] Latency: (.+)")
_FIGURE: Final = re.compile(rf"(min|max|mean|median|percentile\((\d+)%\)) = {_NUMBER} ms")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Machine:
    """What an engine is bound to.

    Attributes:
        gpu: Name of the GPU.
        compute_capability: Its compute capability, as 8.7.
        driver: Version of the driver; empty where it cannot be told.
        tensorrt: Version of TensorRT.
    """

    gpu: str
    compute_capability: str
    driver: str
    tensorrt: str

    def key(self) -> dict[str, str]:
        """Return it as settings of a variant."""
        return {
            f"{KEY}gpu": self.gpu,
            f"{KEY}computeCapability": self.compute_capability,
            f"{KEY}driver": self.driver,
            f"{KEY}tensorrt": self.tensorrt,
        }


def stale(settings: Mapping[str, str], machine: Machine) -> str | None:
    """Return why an engine with such settings must be built again for a machine, or None when it runs there."""
    for name, here in machine.key().items():
        built = settings.get(name)
        if built is None:
            return f"the engine does not tell its {name.removeprefix(KEY)}: build it again here"
        if built != here:
            return f"the engine was built for {name.removeprefix(KEY)} {built}, and here is {here}: build it again"
    return None


def machine_of(output: str, driver: str = "") -> Machine:
    """Return the machine that trtexec tells of in its output.

    Raises:
        ConfigurationError: It does not say which GPU it works with.
    """
    gpu, capability = _SELECTED.search(output), _CAPABILITY.search(output)
    if gpu is None or capability is None:
        message = "trtexec does not say which GPU it works with: is there one in this pod, and its driver?"
        raise ConfigurationError(message)
    return Machine(gpu[1].strip(), capability[1], driver, version_of(output))


def version_of(output: str) -> str:
    """Return TensorRT's version, three numbers, as trtexec tells it: its own words, or the number in its first line.

    Raises:
        ConfigurationError: It tells none.
    """
    if (found := _VERSION.search(output)) is not None:
        return three(found[1])
    if (banner := _BANNER.search(output)) is None:
        message = "trtexec does not tell its version"
        raise ConfigurationError(message)
    number = banner[1]  # 8601 is 8.6.1, 100300 is 10.3.0, 101600 is 10.16.0
    major, minor, patch = (number[:-3], number[-3:-2], number[-2:]) if len(number) < _LONG else _pairs(number)
    return f"{int(major)}.{int(minor)}.{int(patch)}"


def _pairs(number: str) -> tuple[str, str, str]:
    return number[:-4], number[-4:-2], number[-2:]


def three(version: str) -> str:
    """Return the first three numbers of a version: the Python package tells a fourth, trtexec does not."""
    return ".".join(version.split(".")[:3])


def driver_of(text: str) -> str:
    """Return the driver's version of what /proc/driver/nvidia/version says; empty when it says none."""
    found = _DRIVER.search(text)
    return found[1] if found else ""


@dataclass(frozen=True)
class Build:
    """How an engine is built.

    Attributes:
        precision: The precision asked for.
        version: TensorRT's version.
        workspace_mib: Memory that kernels may use while they run.
        timing_cache: File with timings of kernels, which makes the next build shorter.
        dla_core: Core of NVIDIA's DLA; None for the GPU.
        calibration: File with ranges of activations, for integers where the model has none written into it.
        shapes: Inputs with free dimensions, with the smallest, the usual and the largest shape.
    """

    precision: Precision
    version: str
    workspace_mib: int = 1024
    timing_cache: Path | None = None
    dla_core: int | None = None
    calibration: Path | None = None
    shapes: Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] | None = None

    @property
    def typed(self) -> bool:
        """Whether the precision is written into the model; else TensorRT chooses."""
        return types_are_written(self.version, dla=self.dla_core is not None)


def types_are_written(version: str, *, dla: bool) -> bool:
    """Tell whether a version takes the precision from the model's types."""
    major = int(version.partition(".")[0])
    return major >= _STRONG_ONLY or (major >= _STRONG and not dla)


def build_command(model: Path, engine: Path, build: Build) -> list[str]:
    """Return the command that builds an engine and measures nothing.

    Raises:
        ConfigurationError: This version cannot build that.
    """
    major = int(build.version.partition(".")[0])
    command = [PROGRAM, f"--onnx={model}", f"--saveEngine={engine}", "--skipInference"]
    command.append(f"--memPoolSize=workspace:{build.workspace_mib}")
    if build.precision is Precision.FP32:
        command.append("--noTF32")  # which has 10 bits of mantissa: FP32 would not be what it says
    if build.timing_cache is not None:
        command.append(f"--timingCacheFile={build.timing_cache}")
    if build.typed:
        command += ["--stronglyTyped"] if major < _STRONG_ONLY else []
    else:
        command += _weakly_typed(build)
    if build.dla_core is not None:
        # What the DLA cannot do runs on the GPU beside it.
        command += [f"--useDLACore={build.dla_core}", "--allowGPUFallback"]
    if build.shapes:
        for place, prefix in enumerate(("min", "opt", "max")):
            each = {name: shapes[place] for name, shapes in build.shapes.items()}
            command.append(f"--{prefix}Shapes={_shapes(each)}")
    return command


def _weakly_typed(build: Build) -> list[str]:
    """Return flags for what chooses precisions itself."""
    flags = [*_FLAGS.get(build.precision, [])]
    if build.precision is Precision.INT8:
        if build.calibration is None:
            message = "integers need measured ranges here: give calibration or evaluation data"
            raise ConfigurationError(message)
        flags.append(f"--calib={build.calibration}")
    if build.dla_core is not None and build.precision is Precision.FP32:
        message = "the DLA computes in FP16 and INT8 only: ask for one of them, or leave the option dlaCore out"
        raise ConfigurationError(message)
    return flags


def measure_command(engine: Path, build: Build) -> list[str]:
    """Return the command with which trtexec measures an engine on inputs of its own, of the usual shape."""
    command = [PROGRAM, f"--loadEngine={engine}", "--useSpinWait", "--percentile=50,95,99"]
    if build.dla_core is not None:
        command.append(f"--useDLACore={build.dla_core}")
    if build.shapes:
        command.append(f"--shapes={_shapes({name: usual for name, (_, usual, _) in build.shapes.items()})}")
    return command


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def figures_of(output: str) -> dict[str, float]:
    """Return what trtexec measured: inferences per second, and milliseconds of the whole inference on the host."""
    found: dict[str, float] = {}
    if (throughput := _THROUGHPUT.search(output)) is not None:
        found["throughput-qps"] = float(throughput[1])
    if (latency := _LATENCY.search(output)) is not None:
        for name, percent, value in _FIGURE.findall(latency[1]):
            found[f"latency-p{percent}" if percent else f"latency-{name}"] = float(value)
    return found


def calibration_cache(ranges: Mapping[str, float], version: str) -> str:
    """Return a calibration cache: for each tensor the scale of 8 bits, as the bits of a 32-bit float.

    Args:
        ranges: Largest absolute value of each tensor.
        version: TensorRT's version.
    """
    number = "".join(version.split(".")[:3])
    lines = [f"TRT-{number}-EntropyCalibration2"]
    smallest = 1e-12  # a tensor of zeros has no range, and a scale of 0 would divide by it
    for name, most in ranges.items():
        lines.append(f"{name}: {struct.pack('>f', max(most, smallest) / 127.0).hex()}")
    return "\n".join(lines) + "\n"


def triton_config(
    name: str, inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts], *, max_batch: int, instances: int = 1
) -> str:
    """Return the `config.pbtxt` of a model in Triton's repository.

    Args:
        name: Name of the model, and of its folder.
        inputs: The model's inputs.
        outputs: The model's outputs.
        max_batch: Largest batch; 0 when the first dimension is none that Triton may put requests together in.
        instances: How many execute at once on each GPU.

    Raises:
        ConfigurationError: The name cannot be a folder's, or there is a batch where the model has no free dimension.
    """
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot be the name of a model in Triton's repository: letters, digits, dots, dashes only"
        raise ConfigurationError(message)
    stiff = [tensor.name for tensor in (*inputs, *outputs) if not tensor.shape or tensor.shape[0] != -1]
    if max_batch > 0 and stiff:
        message = f"the first dimension of {', '.join(stiff)} is not free, so that no batch can be made: maxBatch 1"
        raise ConfigurationError(message)
    lines = [f'name: "{name}"', 'platform: "tensorrt_plan"', f"max_batch_size: {max_batch}"]
    for what, tensors in (("input", inputs), ("output", outputs)):
        entries = ",\n".join(_tensor(tensor, batched=max_batch > 0) for tensor in tensors)
        lines.append(f"{what} [\n{entries}\n]")
    lines.append(f"instance_group [\n  {{ kind: KIND_GPU, count: {instances} }}\n]")
    if max_batch > 1:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(tensor: TensorFacts, *, batched: bool) -> str:
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = ", ".join(map(str, shape)) or "1"
    # A tensor with nothing but the batch: Triton wants one dimension, and takes it away again.
    reshape = "" if shape else ", reshape: { shape: [ ] }"
    escaped = tensor.name.replace("\\", "\\\\").replace('"', '\\"')
    kind = _TRITON_TYPES[tensor.dtype]
    return f'  {{ name: "{escaped}", data_type: {kind}, dims: [ {dims} ]{reshape} }}'
