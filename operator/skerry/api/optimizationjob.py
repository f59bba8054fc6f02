"""OptimizationJob: one model, one accelerator, one search for the best variant."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from skerry.api.jobcontract import Stage
from skerry.api.meta import (
    ApiModel,
    Condition,
    Name,
    Sha256,
    ShortText,
    StatusModel,
    Timestamp,
    cel,
    list_map,
)
from skerry.api.pods import OptimizationSettings
from skerry.api.types import (
    ACCURACY_RULE,
    CalibrationData,
    CandidateRequests,
    CandidateResult,
    EvaluationData,
    Figures,
    Gates,
    Host,
    InputShapes,
    ModelFacts,
    ModelSource,
    Objective,
    Requirements,
    WhenNoneQualifies,
    default_gates,
)

_FIXED = (
    "model",
    "inputs",
    "accelerator",
    "calibration",
    "evaluation",
    "gates",
    "objective",
    "candidates",
    "whenNoneQualifies",
    "optimization",
)


def _rules() -> dict[str, Any]:
    """Return the CEL rules: the first freezes all fields but `suspend`.

    `has` on both sides, because an absent optional field would make a plain comparison an error.
    """
    terms = [f"has(self.{field}) == has(oldSelf.{field})" for field in _FIXED]
    terms += [f"(!has(self.{field}) || !has(oldSelf.{field}) || self.{field} == oldSelf.{field})" for field in _FIXED]
    frozen = (" && ".join(terms), "spec is immutable, except suspend: create a new OptimizationJob instead")
    return cel(frozen, ACCURACY_RULE)


class OptimizationJobSpec(ApiModel):
    """The inputs of one optimization."""

    model_config = ConfigDict(json_schema_extra=_rules())

    model: ModelSource = Field(description="The source model.")
    inputs: InputShapes = Field(default_factory=list, description="Shapes for inputs that the model leaves dynamic.")
    accelerator: Name = Field(description="The accelerator to optimize for, by its name in the catalogue.")
    calibration: CalibrationData | None = Field(default=None, description="Data for quantization.")
    evaluation: EvaluationData | None = Field(default=None, description="Data to measure accuracy on.")
    gates: Gates = Field(default_factory=default_gates, description="What a candidate must meet to be published.")
    objective: Objective = Field(
        default=Objective.LATENCY_P95, description="What decides among the candidates that pass the gates."
    )
    candidates: CandidateRequests = Field(
        default_factory=list, description="Candidates to try; empty means those of the decision matrix."
    )
    when_none_qualifies: WhenNoneQualifies = Field(
        default=WhenNoneQualifies.FAIL,
        description="What to do when no candidate passes: Fail, or ServeBaseline (publish the unoptimized model).",
    )
    optimization: OptimizationSettings = Field(
        default_factory=OptimizationSettings, description="Where and within which limits the Job runs."
    )
    suspend: bool = Field(default=False, description="Stops the Job and starts it anew when set back to false.")


class OptimizationJobStatus(StatusModel):
    """How far the optimization is, and what came of it."""

    conditions: Annotated[list[Condition], Field(max_length=32, json_schema_extra=list_map("type"))] = Field(
        default_factory=list, description="Complete and Suspended."
    )
    observed_generation: int | None = Field(default=None, ge=0, description="Generation that this status speaks of.")
    stage: Stage = Field(default=Stage.WAITING, description="What is being done now.")
    progress_percent: Annotated[int, Field(ge=0, le=100)] = Field(default=0, description="How far it is, in percent.")
    start_time: Timestamp | None = Field(default=None, description="When its Job started.")
    completion_time: Timestamp | None = Field(
        default=None, description="When it ended for good, well or not; absent while it goes on or will be retried."
    )
    digest: Sha256 | None = Field(default=None, description="SHA-256 of the source model.")
    model: ModelFacts | None = Field(default=None, description="What inspection found in the source model.")
    candidates: Annotated[list[CandidateResult], Field(max_length=32, json_schema_extra=list_map("name"))] = Field(
        default_factory=list, description="Every candidate with its figures and verdict."
    )
    chosen: ShortText | None = Field(default=None, description="Name of the candidate that was chosen.")
    size_bytes: int | None = Field(default=None, ge=0, description="Size of the chosen variant's files.")
    metrics: Figures = Field(default_factory=list, description="Figures of the chosen variant.")
    requires: Requirements | None = Field(default=None, description="What a node must have to run the chosen variant.")
    artifact: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="The published variant, pinned by digest."
    )
    report_artifact: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="The full report as JSON, HTML and Markdown, pinned by digest."
    )
    host: Host | None = Field(default=None, description="Where the figures were measured.")
