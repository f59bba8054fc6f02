"""The full report of an optimization, as JSON: every figure with its unit, its runs and its interval."""

from pydantic import Field

from skerry.api.meta import StatusModel, Timestamp
from skerry.api.types import CandidateResult, EvaluationMetric, Gate, Host, Metric, ModelFacts, Objective


class Measurement(StatusModel):
    """One figure."""

    metric: Metric
    unit: str
    value: float
    low: float = Field(description="Lower end of the 95 % interval (smallest start, for memory and startup).")
    high: float = Field(description="Upper end of the interval.")
    baseline: float = Field(description="The unoptimized model's figure.")
    runs: int = Field(description="Number of inferences or starts behind the figure.")
    rounds: int = Field(default=1, description="Number of rounds in which the runs were taken.")


class CandidateReport(StatusModel):
    """One candidate."""

    result: CandidateResult
    measurements: list[Measurement] = Field(default_factory=list)
    settings: dict[str, str] = Field(default_factory=dict)
    tools: dict[str, str] = Field(default_factory=dict)
    size_bytes: int = 0
    seconds_to_make: float = 0.0


class DataReport(StatusModel):
    """The data that was used."""

    uri: str
    sha256: str
    samples: int
    distribution: dict[str, int] = Field(default_factory=dict, description="Samples of each class.")


class HostReport(StatusModel):
    """The machine on which the figures were measured."""

    host: Host
    architecture: str
    cpu_features: list[str]
    threads: int
    python: str


class Report(StatusModel):
    """All of an optimization."""

    schema_version: int = 1
    skerry_version: str
    created_at: Timestamp
    source_uri: str
    source_sha256: str
    model: ModelFacts
    machine: HostReport
    evaluation_metric: EvaluationMetric | None
    evaluation: DataReport | None
    calibration: DataReport | None
    gates: list[Gate]
    objective: Objective
    method: str = Field(description="How the figures were taken.")
    baseline: CandidateReport
    candidates: list[CandidateReport]
    left_out: dict[str, str] = Field(description="Candidates that were not tried, with the reason.")
    chosen: str | None
    reason: str
    message: str
    stage_seconds: dict[str, float]


METHOD = (
    "Each candidate runs in a fresh process with the same threads and inputs as the baseline, batch 1, one stream in a "
    "closed loop. Latency and throughput: baseline and candidate take turns in rounds, in random order; the figure is "
    "the baseline's times the median ratio within rounds, with a bootstrap 95 % interval. ModelMemory: resident memory "
    "added by loading the model and running it, counted from a runtime that has already run a one-node model; median "
    "and range of fresh starts, as for StartupTime (load and first inference). Accuracy: on the same samples as the "
    "baseline, with the interval of the paired difference."
)
