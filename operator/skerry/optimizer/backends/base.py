"""The seam between the search and the frameworks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from skerry.api.types import CandidateRequest, EvaluationMetric, ModelFormat
from skerry.optimizer.data import Sample, Samples

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """The source model, inspected: its main file, its format, and shapes that pin its free dimensions."""

    path: Path
    format: ModelFormat
    shapes: Mapping[str, list[int]]


@dataclass(frozen=True)
class Work:
    """All that a backend needs to make one candidate.

    Attributes:
        source: The source model.
        request: What is to be made.
        folder: An empty folder for the files.
        calibration: Samples for quantization.
        validation: Labelled samples for accuracy-aware quantization.
        metric: What accuracy means.
        half_precision: BF16 or FP16 when the CPU computes in it at full speed, else None.
        threads: Number of threads.
    """

    source: Source
    request: CandidateRequest
    folder: Path
    calibration: Samples | None
    validation: Samples | None
    metric: EvaluationMetric | None
    half_precision: str | None
    threads: int


@dataclass(frozen=True)
class Made:
    """A candidate's files and how to run them.

    Attributes:
        model_file: Name of the file that the runtime loads.
        settings: Settings of the runtime, part of the candidate's identity.
        execution_precision: The precision in which it computes.
        tools: Versions of the tools that made it.
        remark: What a person should know.
    """

    model_file: str
    settings: dict[str, str]
    execution_precision: str
    tools: dict[str, str] = field(default_factory=dict)
    remark: str = ""


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

    def load(self, model: Path, settings: Mapping[str, str], threads: int) -> Session:
        """Load a model's file."""
        ...

    def baseline_settings(self) -> dict[str, str]:
        """Return the settings of the unoptimized model at true FP32."""
        ...
