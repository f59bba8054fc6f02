"""The contract of a published variant: an OCI image with the model's files and `skerry.json` in its root.

The optimizer writes it, the operator reads its reference from the status, the server reads the files from the mounted
image. The image has an ordinary image config with `diff_ids` and plain tar layers, because containerd mounts anything
else as an empty folder without an error.
"""

from typing import Annotated, Literal

from pydantic import Field

from skerry.api.meta import Decimal, Sha256, ShortText, StatusModel, Timestamp
from skerry.api.types import (
    EvaluationMetric,
    Figures,
    Framework,
    Host,
    Precision,
    Requirements,
    Technique,
    Tensors,
)

FACTS_FILE = "skerry.json"
MODEL_FILE_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
"""Parts of a path that are neither hidden nor lead upwards."""
ARTIFACT_TYPE = "application/vnd.skerry.model.v1"
REPORT_ARTIFACT_TYPE = "application/vnd.skerry.report.v1+json"
PROGRESS_ARTIFACT_TYPE = "application/vnd.skerry.progress.v1+json"
RECORD_MEDIA_TYPE = "application/vnd.skerry.record.v1+json"
SOURCE_ARTIFACT_TYPE = "application/vnd.skerry.source.v1"
DATA_ARTIFACT_TYPE = "application/vnd.skerry.data.v1"

ANNOTATION_FRAMEWORK = "skerry.dev/framework"
ANNOTATION_PRECISION = "skerry.dev/precision"
ANNOTATION_TECHNIQUE = "skerry.dev/technique"
ANNOTATION_ACCELERATOR = "skerry.dev/accelerator"
ANNOTATION_CANDIDATE = "skerry.dev/candidate"
ANNOTATION_CALIBRATION_DIGEST = "skerry.dev/calibration-digest"
ANNOTATION_SOURCE_DIGEST = "skerry.dev/source-digest"


class Provenance(StatusModel):
    """Where a variant comes from."""

    source_uri: Annotated[str, Field(max_length=1024)] = Field(description="URI of the source model.")
    source_sha256: Sha256 = Field(description="SHA-256 of the source model.")
    created_at: Timestamp = Field(description="When the variant was made.")
    skerry_version: ShortText = Field(description="Version of Skerry that made it.")
    tools: dict[str, str] = Field(default_factory=dict, description="Versions of the tools that made it, by package.")
    options: dict[str, str] = Field(default_factory=dict, description="Options of the technique that were given.")
    calibration_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the data that it was calibrated with; absent where there was none."
    )
    evaluation_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the data that its accuracy was measured on; absent where there was none."
    )
    host: Host | None = Field(default=None, description="Where its figures were measured.")


class StreamFigure(StatusModel):
    """Throughput with several streams of inferences at once; the metric Throughput is that of one after the other."""

    streams: int = Field(ge=1, description="Number of streams.")
    baseline: Decimal = Field(description="The unoptimized model's figure.")
    value: Decimal = Field(description="Inferences per second of all streams together.")


class VariantFacts(StatusModel):
    """The content of `skerry.json`: all that a server needs to load the variant, and what is known of it."""

    schema_version: Literal[1] = Field(default=1, description="Version of this document.")
    name: ShortText = Field(description="Name of the candidate, for example openvino-int8-ptq.")
    accelerator: ShortText = Field(description="Accelerator that the variant was made for and measured on.")
    framework: Framework = Field(description="Runtime that executes it.")
    precision: Precision = Field(description="Precision of its weights.")
    technique: Technique = Field(description="How it was made.")
    execution_precision: ShortText = Field(default="FP32", description="Precision in which it was measured.")
    model_file: Annotated[str, Field(pattern=MODEL_FILE_PATTERN, max_length=128)] = Field(
        description="Name of the file that the runtime loads, beside this one: model.onnx, or model.xml with model.bin."
    )
    device: ShortText = Field(description="Device name in the framework's words: CPU, GPU, NPU, CPUExecutionProvider.")
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="Settings of the runtime with which it was measured, for example INFERENCE_PRECISION_HINT.",
    )
    inputs: Tensors = Field(description="The model's inputs.")
    outputs: Tensors = Field(description="The model's outputs.")
    requires: Requirements = Field(description="What a node must have.")
    evaluation_metric: EvaluationMetric | None = Field(default=None, description="What Accuracy means in the figures.")
    metrics: Figures = Field(default_factory=list, description="Measured figures beside the baseline's.")
    streams: list[StreamFigure] = Field(
        default_factory=list, description="Throughput by number of streams; empty where it was not measured."
    )
    provenance: Provenance = Field(description="Where it comes from.")
