"""The full report of an optimization, as JSON: every figure with its unit, its runs and its interval."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, WrapValidator

from skerry.api.meta import StatusModel, Timestamp
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CandidateResult, EvaluationMetric, Gate, Host, Metric, ModelFacts, Objective

METHOD: Final = (
    "Each candidate runs in a fresh process with the same threads and inputs as the baseline, batch 1, one stream in a "
    "closed loop. Latency and throughput: baseline and candidate take turns in rounds, in random order; the half of "
    "the rounds counts that waited least for a CPU; the figure is the baseline's times the median ratio within rounds, "
    "with a bootstrap 95 % interval; the spread is that of the rounds' own figures from the first to the third "
    "quartile; while that alone keeps a gate Inconclusive the rounds are doubled, twice at most. ModelMemory: private "
    "memory and mapped pages of the model's files that loading and running the model add to a runtime that has run a "
    "one-node model before; pages of the runtime's libraries are not counted. ModelMemory and StartupTime (load and "
    "first inference, files in the page cache): the median of fresh starts; the interval spans the ratios of all "
    "starts, the spread all starts. Throughput at several streams (the metric Throughput is that of one): after the "
    "rounds, inferences in one stream and in as many as there are threads, two to four, each a loop in a thread of its "
    "own, which share the threads of the one; sixteen turns in half a second, fewer of slow models; the half of the "
    "turns counts that waited least for a CPU; the figure is the baseline's times the median ratio within turns, its "
    "interval spans these ratios. EnergyPerInference: by the counters that are named, of whole packages, boards or "
    "GPUs. Accuracy: of the first output, on the same samples as the baseline, with the 95 % interval of the paired "
    "difference."
)


class Measurement(StatusModel):
    """One figure."""

    metric: Metric
    unit: str
    value: float
    low: float = Field(description="Lower end of the interval, given the baseline's figure.")
    high: float = Field(description="Upper end of the interval.")
    baseline: float = Field(description="The unoptimized model's figure.")
    runs: int = Field(description="Number of inferences, starts or samples behind the figure.")
    rounds: int = Field(default=1, description="Number of rounds in which the runs were taken.")
    warmup_runs: int = Field(default=0, description="Number of inferences before the first that counts.")
    spread_low: float | None = Field(default=None, description="Lower end of the spread of single rounds or starts.")
    spread_high: float | None = Field(default=None, description="Upper end of that spread.")
    waited_percent: float | None = Field(
        default=None, description="How long a typical round that counts waited for a CPU, in percent of its time."
    )
    counters: list[str] = Field(default_factory=list, description="What counted energy.")


class LatencyHistogram(StatusModel):
    """How long single inferences took, in bins whose edges are spaced evenly in the logarithm."""

    edges: list[float] = Field(description="Edges of the bins in ms, ascending: one more than there are counts.")
    counts: list[int] = Field(description="Number of inferences in each bin.")


class LayerSensitivity(StatusModel):
    """What quantizing one layer costs."""

    name: str = Field(description="Name of the layer in the source model.")
    degradation: float = Field(
        description="By how many percent the output is wrong when this layer alone is quantized."
    )


class StreamThroughput(StatusModel):
    """Inferences per second, with so many streams at once; no part of any verdict."""

    streams: int
    value: float = Field(description="Inferences per second of all streams together.")
    low: float = Field(description="By the turn in which it did worst beside the unoptimized model.")
    high: float = Field(description="By the turn in which it did best.")
    baseline: float = Field(description="The unoptimized model's figure.")
    runs: int = Field(description="Number of inferences behind the figure.")
    turns: int = Field(default=1, description="Number of turns in which the runs were taken.")


class CandidateReport(StatusModel):
    """One candidate."""

    result: CandidateResult
    measurements: list[Measurement] = Field(default_factory=list)
    options: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, str] = Field(default_factory=dict, description="Settings of the runtime.")
    tools: dict[str, str] = Field(default_factory=dict, description="Versions of the tools that made it.")
    tool_metrics: dict[str, float] = Field(
        default_factory=dict, description="What the tool itself measured; no part of any verdict."
    )
    size_bytes: int = 0
    seconds_to_make: float = 0.0
    latency_histogram: LatencyHistogram | None = Field(
        default=None, description="All inferences of the rounds that count, as they were timed."
    )
    sensitivity: list[LayerSensitivity] = Field(
        default_factory=list, description="What quantizing each layer costs, where that was measured."
    )
    streams: list[StreamThroughput] = Field(
        default_factory=list, description="Throughput by number of streams, where that was measured."
    )
    streams_remark: str = Field(default="", description="Why there is no throughput by number of streams.")


class DataReport(StatusModel):
    """The data that was used."""

    uri: str
    sha256: str
    samples: int
    distribution: dict[str, int] = Field(default_factory=dict, description="Samples of each class.")
    remark: str = Field(default="", description="How the samples were picked.")


class HostReport(StatusModel):
    """The machine on which the figures were measured."""

    host: Host
    architecture: str
    cpu_cores: int
    cpu_features: list[str]
    cpu_governor: str = Field(default="", description="Frequency governor of the first core; empty where hidden.")
    threads: int = Field(description="Threads that models ran with.")
    python: str
    kernel: str


def _known(value: Any, validate: Callable[[Any], OptimizationJobSpec | None]) -> OptimizationJobSpec | None:
    """Return a spec, or None when it has fields that this version does not know."""
    try:
        return validate(value)
    except ValidationError:
        return None


class Report(StatusModel):
    """All of an optimization."""

    schema_version: int = 1
    skerry_version: str
    created_at: Timestamp
    source_uri: str
    source_sha256: str
    spec: Annotated[OptimizationJobSpec | None, WrapValidator(_known)] = Field(
        default=None, description="What was asked for; absent when a newer version wrote what this one does not know."
    )
    model: ModelFacts
    machine: HostReport
    evaluation_metric: EvaluationMetric | None = None
    evaluation: DataReport | None = None
    calibration: DataReport | None = None
    gates: list[Gate]
    objective: Objective
    method: str = Field(default=METHOD, description="How the figures were taken.")
    baseline: CandidateReport
    candidates: list[CandidateReport]
    left_out: dict[str, str] = Field(description="Candidates that were not tried, with the reason.")
    pareto: list[str] = Field(description="Names of the candidates that no other one beats in everything.")
    chosen: str | None = None
    reason: str
    message: str
    stage_seconds: dict[str, float]
