"""The seam between the search and the frameworks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy.typing as npt

from skerry.api.types import CandidateRequest, EvaluationMetric, Framework, ModelFormat, ModelKind
from skerry.optimizer.data import Sample, Samples
from skerry.optimizer.language import LanguageSession
from skerry.optimizer.wire import transported

Array = npt.NDArray[Any]

BASELINE_SETTINGS: Final[Mapping[Framework, Mapping[str, str]]] = {
    Framework.ONNX_RUNTIME: {"graphOptimizationLevel": "All"},
    # Without the hint OpenVINO computes FP32 models in BF16 where it can, and every gain would be understated.
    Framework.OPENVINO: {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    Framework.LLAMA_CPP: {},
    Framework.LITERT: {},
    Framework.QNN: {"htp_performance_mode": "burst"},
}
"""Settings of the unoptimized model: the framework as people use it, at true FP32."""

BASELINE_DEVICE: Final[Mapping[Framework, str]] = {
    Framework.ONNX_RUNTIME: "CPUExecutionProvider",
    Framework.OPENVINO: "CPU",
    Framework.LLAMA_CPP: "CPU",
    Framework.LITERT: "CPU",
}
"""The unoptimized model runs on the CPU, whatever the candidates are for: only that computes it as it is."""


@transported
@dataclass(frozen=True)
class Source:
    """The source model, inspected, its free dimensions pinned where the spec says so.

    Attributes:
        path: The main file.
        format: Its format.
        files: All files that belong to it, by their name relative to the main file's folder.
        kind: What it is built of.
        folder: All that was fetched, when that is a folder.
    """

    path: Path
    format: ModelFormat
    files: Mapping[str, Path]
    kind: ModelKind = ModelKind.OTHER
    folder: Path | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values())


@transported
@dataclass(frozen=True)
class Work:
    """All that a backend needs to make one candidate.

    Attributes:
        source: The source model.
        request: What is to be made.
        folder: An empty folder for the files.
        calibration: Samples for quantization, with labels for accuracy-aware quantization.
        metric: What accuracy means.
        half_precision: BF16 or FP16 when the CPU computes in it at full speed, else None.
        native_int8: Whether the CPU multiplies 8-bit integers without an overflow in between.
        device: The device that it is made for, in the framework's words.
        text: File with text to calibrate language models with.
        prepared: The source as the baseline is run, which for language models is a conversion without loss.
    """

    source: Source
    request: CandidateRequest
    folder: Path
    calibration: Samples | None
    metric: EvaluationMetric | None
    half_precision: str | None
    native_int8: bool
    device: str = "CPU"
    text: Path | None = None
    prepared: Source | None = None


@transported
@dataclass(frozen=True)
class Made:
    """A candidate's files and how to run them.

    Attributes:
        model_file: Name of the file that the runtime loads.
        settings: Settings of the runtime, part of the candidate's identity.
        execution_precision: The precision in which it computes.
        tools: Versions of the tools that made it.
        remark: What a person should know.
        sensitivity: Layers with the percent by which the output is wrong when that layer alone is quantized, the worst
            first; empty when that was not measured.
        tool_metrics: What the tool itself measured, in its own words and on its own terms.
        emulated: Why speed and memory cannot be measured here, where an emulator stands in for the device; else empty.
        architecture: Node architecture that it runs on; empty: that of the machine on which it is made.
        one_by_one: Whether it takes a batch of 1 only, though the source model leaves the batch free.
    """

    model_file: str
    settings: Mapping[str, str]
    execution_precision: str
    tools: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    sensitivity: tuple[tuple[str, float], ...] = ()
    tool_metrics: Mapping[str, float] = field(default_factory=dict)
    emulated: str = ""
    architecture: str = ""
    one_by_one: bool = False


class Session(Protocol):
    """A loaded model."""

    def infer(self, sample: Sample) -> Array:
        """Run one sample and return the first output."""
        ...


class Backend(Protocol):
    """A framework."""

    def make(self, work: Work) -> Made:
        """Make a candidate's files.

        Raises:
            OptimizationError: It cannot be made from this model; the message says why.
        """
        ...

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load a model's file on a device, in the framework's words."""
        ...


@runtime_checkable
class LanguageBackend(Protocol):
    """A framework for language models."""

    def make(self, work: Work) -> Made:
        """Make a candidate's files.

        Raises:
            OptimizationError: It cannot be made from this model; the message says why.
        """
        ...

    def prepare(self, source: Source, folder: Path) -> Source:
        """Return the source itself, or a conversion without loss below the folder that the framework loads.

        Raises:
            BadModelError: It cannot be converted.
        """
        ...

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> LanguageSession:
        """Load a model's file on a device."""
        ...


@runtime_checkable
class OwnStreams(Protocol):
    """A framework that runs several inferences at once from one loaded model; others load it once for each."""

    def streams(
        self, model: Path, settings: Mapping[str, str], threads: int, device: str, count: int
    ) -> Sequence[Session]:
        """Return what so many streams run, which share so many threads."""
        ...


@runtime_checkable
class OwnWarmUp(Protocol):
    """A framework that cannot load the ONNX model with which runtimes are warmed up."""

    def warm(self, threads: int, device: str) -> Session:
        """Return a session with the smallest model of the framework's own, run once."""
        ...
