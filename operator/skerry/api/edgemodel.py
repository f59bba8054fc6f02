"""EdgeModel: one source model, and the goals that its variants must meet."""

from typing import Annotated

from pydantic import ConfigDict, Field

from skerry.api.meta import (
    ApiModel,
    Condition,
    Decimal,
    Name,
    Sha256,
    ShortText,
    StatusModel,
    Text,
    cel,
    list_map,
    list_set,
)
from skerry.api.pods import OptimizationSettings
from skerry.api.types import (
    ACCURACY_RULE,
    CalibrationData,
    CandidateRequests,
    EvaluationData,
    Figures,
    Framework,
    Gates,
    InputShapes,
    ModelFacts,
    ModelSource,
    Objective,
    Precision,
    Requirements,
    Technique,
    Verdict,
    WhenNoneQualifies,
    default_gates,
)


class EdgeModelSpec(ApiModel):
    """Where the model is, and what its variants must achieve."""

    model_config = ConfigDict(json_schema_extra=cel(ACCURACY_RULE))

    source: ModelSource = Field(description="The source model.")
    inputs: InputShapes = Field(default_factory=list, description="Shapes for inputs that the model leaves dynamic.")
    calibration: CalibrationData | None = Field(
        default=None,
        description="Data for quantization. Default: a part of the evaluation data, then left out of the measure.",
    )
    evaluation: EvaluationData | None = Field(
        default=None,
        description="Data to measure accuracy on. Without it only candidates that keep the precision are tried.",
    )
    accelerators: Annotated[list[Name], Field(max_length=32, json_schema_extra=list_set())] = Field(
        default_factory=list,
        description="Accelerators to build for, by their names in the catalogue; empty means all that the nodes have.",
    )
    gates: Gates = Field(default_factory=default_gates, description="What a candidate must meet to be served.")
    objective: Objective = Field(
        default=Objective.LATENCY_P95, description="What decides among the candidates that pass the gates."
    )
    candidates: CandidateRequests = Field(
        default_factory=list, description="Candidates to try; empty means those of the decision matrix."
    )
    when_none_qualifies: WhenNoneQualifies = Field(
        default=WhenNoneQualifies.FAIL,
        description="What to do when no candidate passes: Fail, or ServeBaseline (the unoptimized model).",
    )
    optimization: OptimizationSettings = Field(
        default_factory=OptimizationSettings, description="Where and within which limits optimization Jobs run."
    )


class Variant(StatusModel):
    """The best form of the model for one accelerator."""

    accelerator: Name = Field(description="Accelerator that it is for.")
    optimization_job_name: Annotated[str, Field(max_length=253)] = Field(
        description="OptimizationJob that made it, or is making it."
    )
    artifact: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="The published variant, pinned by digest; absent until there is one."
    )
    framework: Framework | None = Field(default=None, description="Runtime that executes it.")
    precision: Precision | None = Field(default=None, description="Precision of its weights.")
    technique: Technique | None = Field(default=None, description="How it was made.")
    size_bytes: int | None = Field(default=None, ge=0, description="Size of its files.")
    verdict: Verdict | None = Field(default=None, description="What the gates say of it.")
    metrics: Figures = Field(default_factory=list, description="Its measured figures beside the baseline's.")
    requires: Requirements | None = Field(default=None, description="What a node must have to run it.")
    reason: ShortText = Field(default="", description="Reason of the newest OptimizationJob's Complete condition.")
    message: Text = Field(default="", description="Message of the newest OptimizationJob's Complete condition.")


class EdgeModelStatus(StatusModel):
    """What is known of the model and of its variants."""

    conditions: Annotated[list[Condition], Field(max_length=32, json_schema_extra=list_map("type"))] = Field(
        default_factory=list, description="Ready, SourceVerified and Optimized."
    )
    observed_generation: int | None = Field(default=None, ge=0, description="Generation that this status speaks of.")
    digest: Sha256 | None = Field(default=None, description="SHA-256 of the source model.")
    model: ModelFacts | None = Field(default=None, description="What inspection found in the source model.")
    variants: Annotated[list[Variant], Field(max_length=32, json_schema_extra=list_map("accelerator"))] = Field(
        default_factory=list,
        description="One variant for each accelerator: the published ones first, in the order of the objective.",
    )
    variants_ready: ShortText = Field(default="", description="How many of the variants are published, as 1/2.")
    best: ShortText = Field(default="", description="Framework and precision of the fastest variant.")
    speedup: Annotated[str, Field(max_length=32)] = Field(
        default="", description="How many times faster than the baseline the fastest variant is at LatencyP95, as 3.4x."
    )


def speedup(baseline: Decimal, value: Decimal) -> str:
    """Return how many times smaller `value` is than `baseline`, as 3.4x; empty where that has no meaning."""
    return f"{float(baseline) / float(value):.1f}x" if float(value) > 0 else ""
