"""Words of the API that several kinds use: metrics, gates, candidates, sources, measured figures."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from skerry.api.meta import (
    ApiModel,
    Decimal,
    Name,
    ObjectName,
    Sha256,
    ShortText,
    StatusModel,
    Text,
    cel,
    list_atomic,
    list_map,
)
from skerry.api.uris import SHA256_RULE, SourceUri


class ModelFormat(StrEnum):
    """Formats in which a source model may come."""

    AUTO = "Auto"
    ONNX = "ONNX"
    OPENVINO = "OpenVINO"
    TFLITE = "TFLite"
    HUGGING_FACE = "HuggingFace"
    SAFETENSORS = "SafeTensors"
    GGUF = "GGUF"
    TORCH_EXPORT = "TorchExport"
    KERAS = "Keras"


class ModelKind(StrEnum):
    """What a model is built of, which decides what is worth trying."""

    CONVOLUTIONAL = "Convolutional"
    TRANSFORMER = "Transformer"
    RECURRENT = "Recurrent"
    OTHER = "Other"
    LANGUAGE = "Language"


class DataFormat(StrEnum):
    """Formats in which calibration and evaluation data may come."""

    AUTO = "Auto"
    NPZ = "Npz"
    TEXT = "Text"


class EvaluationMetric(StrEnum):
    """What `Accuracy` means for a model."""

    ACCURACY = "Accuracy"
    F1 = "F1"
    MEAN_ABSOLUTE_ERROR = "MeanAbsoluteError"
    COSINE_SIMILARITY = "CosineSimilarity"
    AGREEMENT = "Agreement"
    PERPLEXITY = "Perplexity"


class Metric(StrEnum):
    """A measured property of a candidate, in the units of `skerry.api.metrics`."""

    ACCURACY = "Accuracy"
    LATENCY_P50 = "LatencyP50"
    LATENCY_P95 = "LatencyP95"
    LATENCY_P99 = "LatencyP99"
    THROUGHPUT = "Throughput"
    MODEL_MEMORY = "ModelMemory"
    ARTIFACT_SIZE = "ArtifactSize"
    STARTUP_TIME = "StartupTime"
    PROMPT_THROUGHPUT = "PromptThroughput"
    GENERATION_THROUGHPUT = "GenerationThroughput"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - not that kind of token
    ENERGY_PER_INFERENCE = "EnergyPerInference"


class Objective(StrEnum):
    """What decides among the candidates that pass: one metric, or the balance of all."""

    ACCURACY = "Accuracy"
    LATENCY_P50 = "LatencyP50"
    LATENCY_P95 = "LatencyP95"
    LATENCY_P99 = "LatencyP99"
    THROUGHPUT = "Throughput"
    MODEL_MEMORY = "ModelMemory"
    ARTIFACT_SIZE = "ArtifactSize"
    STARTUP_TIME = "StartupTime"
    PROMPT_THROUGHPUT = "PromptThroughput"
    GENERATION_THROUGHPUT = "GenerationThroughput"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - not that kind of token
    ENERGY_PER_INFERENCE = "EnergyPerInference"
    BALANCED = "Balanced"


class Goal(StrEnum):
    """How a gate compares a candidate with its value or with the baseline (Microsoft Olive's vocabulary)."""

    THRESHOLD = "Threshold"
    MIN_IMPROVEMENT = "MinImprovement"
    MAX_DEGRADATION = "MaxDegradation"
    PERCENT_MIN_IMPROVEMENT = "PercentMinImprovement"
    PERCENT_MAX_DEGRADATION = "PercentMaxDegradation"


class Verdict(StrEnum):
    """The answer of a gate, or of all gates of a candidate."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class Framework(StrEnum):
    """Runtimes that can execute a variant."""

    OPENVINO = "OpenVINO"
    ONNX_RUNTIME = "ONNXRuntime"
    LITERT = "LiteRT"
    QNN = "QNN"
    TENSORRT = "TensorRT"
    DIRECTML = "DirectML"
    LLAMA_CPP = "LlamaCpp"
    OPENVINO_GENAI = "OpenVINOGenAI"
    MLX = "MLX"


class Precision(StrEnum):
    """Precision in which a variant's weights are stored."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"
    INT6 = "INT6"
    INT5 = "INT5"
    INT4 = "INT4"
    INT3 = "INT3"


class Technique(StrEnum):
    """How a candidate is made from the source model."""

    CONVERSION = "Conversion"
    GRAPH_OPTIMIZATION = "GraphOptimization"
    POST_TRAINING = "PostTraining"
    ACCURACY_AWARE = "AccuracyAware"
    WEIGHTS_ONLY = "WeightsOnly"
    DYNAMIC = "Dynamic"
    IMPORTANCE_MATRIX = "ImportanceMatrix"
    ADAPTIVE_ROUNDING = "AdaptiveRounding"
    WORKFLOW = "Workflow"


class WhenNoneQualifies(StrEnum):
    """What to do when no candidate passes the gates."""

    FAIL = "Fail"
    SERVE_BASELINE = "ServeBaseline"


class TensorType(StrEnum):
    """Element types of tensors, in the words of the Open Inference Protocol v2."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


class ModelSource(ApiModel):
    """Where the model is and how to be sure that it is the right one."""

    model_config = ConfigDict(json_schema_extra=cel(SHA256_RULE))

    uri: SourceUri = Field(
        description=(
            "Where the model is: oci://registry/repository:tag, https://host/path, s3://bucket/key "
            "(s3://bucket/folder/ for a folder), hf://organization/name@commit (…@commit/path for a part of it), or pvc://claim/path."
        )
    )
    sha256: Sha256 | None = Field(
        default=None,
        description=(
            "SHA-256 of the model file, or of a folder's sorted listing; required for https, http, s3 and pvc. "
            "`skerry digest` prints it."
        ),
    )
    format: ModelFormat = Field(default=ModelFormat.AUTO, description="Format of the model; Auto looks into the file.")
    credentials_secret_name: ObjectName | None = Field(
        default=None,
        description=(
            "Secret in the same namespace with the credentials to read the source, and the data: type "
            "kubernetes.io/dockerconfigjson for oci://, kubernetes.io/basic-auth for https://; the keys "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL, all "
            "optional, for s3://; the key HF_TOKEN for hf://."
        ),
    )


_DATA: Final = (
    "Where the data is; the same schemes as for the model. An npz file with one array for each model input, under the "
    "input's name: first axis samples, type as the model wants it. For a language model: text in UTF-8."
)
_DATA_FORMAT: Final = "Format of the data; Auto: what the model takes, Npz for tensors and Text for language models."
_LABELS: Final = (
    "For accuracy against the truth it has an array `labels` as well: class ids [N], or targets shaped like the first "
    "output."
)


class CalibrationData(ApiModel):
    """Samples that quantization looks at; never used to measure."""

    model_config = ConfigDict(json_schema_extra=cel(SHA256_RULE))

    uri: SourceUri = Field(description=_DATA)
    sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the file; required for https, http, s3 and pvc."
    )
    format: DataFormat = Field(default=DataFormat.AUTO, description=_DATA_FORMAT)
    max_samples: int = Field(default=300, ge=1, le=100_000, description="How many samples are used at the most.")


class EvaluationData(ApiModel):
    """Samples on which accuracy is measured."""

    model_config = ConfigDict(json_schema_extra=cel(SHA256_RULE))

    uri: SourceUri = Field(description=f"{_DATA} {_LABELS}")
    sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the file; required for https, http, s3 and pvc."
    )
    format: DataFormat = Field(default=DataFormat.AUTO, description=_DATA_FORMAT)
    metric: EvaluationMetric | None = Field(
        default=None,
        description=(
            "What accuracy means here, of the model's first output. Default: Accuracy when the labels are class ids, "
            "MeanAbsoluteError when they are shaped like the output, Agreement with the unoptimized model when there "
            "are no labels; Perplexity for language models."
        ),
    )


class InputShape(ApiModel):
    """Pins the shape of one model input."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the model input.")
    shape: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000_000)]],
        Field(min_length=1, max_length=16, json_schema_extra=list_atomic()),
    ] = Field(description="The full shape, batch included, for example [1, 3, 224, 224].")


ACCURACY_RULE = (
    "has(self.evaluation) || !self.gates.exists(gate, gate.metric == 'Accuracy')",
    "a gate on Accuracy needs evaluation data: give evaluation, or set gates without one on Accuracy",
)
"""For specs with gates and evaluation data; the default gates have one on Accuracy."""

_SIGN_RULE = (
    "self.goal == 'Threshold' || !self.value.startsWith('-')",
    "value must not be negative for this goal: it is the size of the improvement or degradation",
)
_LESS_IS_BETTER = [
    *("LatencyP50", "LatencyP95", "LatencyP99", "ModelMemory", "ArtifactSize", "StartupTime"),
    *("TimeToFirstToken", "EnergyPerInference"),
]
_PERCENT_RULE = (
    f"!(self.goal == 'PercentMinImprovement' && self.metric in {_LESS_IS_BETTER}) || double(self.value) < 100.0",
    "PercentMinImprovement of a metric where less is better must be below 100: 50 means half, that is 2x as good",
)


class Gate(ApiModel):
    """One condition that a candidate must meet."""

    model_config = ConfigDict(json_schema_extra=cel(_SIGN_RULE, _PERCENT_RULE))

    metric: Metric = Field(
        description="What is compared. Throughput is that of one stream: inferences one after the other."
    )
    goal: Goal = Field(description="How it is compared.")
    value: Decimal = Field(
        description=(
            "The number that the goal speaks of: percent for the Percent goals, else the unit of the metric "
            "(ms, inferences per second, MiB, s; percent for Accuracy)."
        )
    )


class CandidateRequest(ApiModel):
    """One way to make a variant."""

    framework: Framework = Field(description="The runtime that will execute it.")
    precision: Precision = Field(description="The precision of its weights.")
    technique: Technique = Field(description="How it is made.")
    options: Annotated[
        dict[str, Annotated[str, Field(max_length=256)]],
        Field(max_length=16, json_schema_extra={"maxProperties": 16}),
    ] = Field(default_factory=dict, description="Settings of the technique, by name; an unknown one is an error.")


Gates = Annotated[list[Gate], Field(max_length=16, json_schema_extra=list_map("metric", "goal"))]
CandidateRequests = Annotated[list[CandidateRequest], Field(max_length=32, json_schema_extra=list_atomic())]
InputShapes = Annotated[list[InputShape], Field(max_length=32, json_schema_extra=list_map("name"))]


def default_gates() -> list[Gate]:
    """Return the gates of a model that names none: 95 % of the accuracy, twice the speed, half the memory."""
    return [
        Gate(metric=Metric.ACCURACY, goal=Goal.PERCENT_MAX_DEGRADATION, value="5"),
        Gate(metric=Metric.LATENCY_P95, goal=Goal.PERCENT_MIN_IMPROVEMENT, value="50"),
        Gate(metric=Metric.MODEL_MEMORY, goal=Goal.PERCENT_MIN_IMPROVEMENT, value="50"),
    ]


class TensorFacts(StatusModel):
    """One input or output of a model."""

    name: Annotated[str, Field(max_length=256)] = Field(description="Name of the tensor.")
    dtype: TensorType = Field(description="Element type, in the words of the Open Inference Protocol.")
    shape: Annotated[list[int], Field(max_length=16, json_schema_extra=list_atomic())] = Field(
        description="Shape; -1 stands for a dimension that is free."
    )


Tensors = Annotated[list[TensorFacts], Field(max_length=32, json_schema_extra=list_map("name"))]


class ModelFacts(StatusModel):
    """What inspection found in the source model."""

    format: ModelFormat = Field(description="Format that was found.")
    kind: ModelKind = Field(default=ModelKind.OTHER, description="What it is built of.")
    size_bytes: int = Field(ge=0, description="Size of the model's files.")
    parameters: int = Field(ge=0, description="Number of parameters.")
    inputs: Tensors = Field(description="The model's inputs.")
    outputs: Tensors = Field(description="The model's outputs.")


class MetricFigure(StatusModel):
    """One measured figure beside the baseline's."""

    name: Metric = Field(description="The metric.")
    baseline: Decimal | None = Field(default=None, description="The unoptimized model's figure.")
    value: Decimal = Field(description="This candidate's figure.")
    unit: Annotated[str, Field(max_length=16)] = Field(description="Unit of both figures.")
    verdict: Verdict | None = Field(default=None, description="What the gates on this metric say, where there are any.")
    message: ShortText = Field(default="", description="The gate and the interval that led to the verdict.")


Figures = Annotated[list[MetricFigure], Field(max_length=16, json_schema_extra=list_map("name"))]


class Requirements(StatusModel):
    """What a node must have so that a variant runs as it was measured."""

    architecture: Annotated[str, Field(max_length=32)] = Field(description="Node architecture, as Kubernetes names it.")
    cpu_features: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=64, json_schema_extra=list_atomic())
    ] = Field(default_factory=list, description="CPU features that the variant needs, for example avx512_vnni.")


class CandidateResult(StatusModel):
    """One candidate with its figures and verdict."""

    name: Name = Field(description="Name of the candidate, for example openvino-int8-ptq.")
    framework: Framework = Field(description="The runtime that executes it.")
    precision: Precision = Field(description="The precision of its weights.")
    technique: Technique = Field(description="How it was made.")
    execution_precision: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="The precision in which the device really computes, for example BF16."
    )
    verdict: Verdict | None = Field(default=None, description="What the gates say; absent while it is being measured.")
    pareto: bool = Field(default=False, description="Whether no other candidate is better in everything.")
    metrics: Figures = Field(default_factory=list, description="Measured figures.")
    message: Text = Field(default="", description="Why it was refused or could not be made.")


class Host(StatusModel):
    """Where figures were measured."""

    node: Annotated[str, Field(max_length=253)] = Field(default="", description="Name of the node.")
    cpu_model: ShortText = Field(default="", description="Model name of the CPU.")
    accelerator: Annotated[str, Field(max_length=63)] = Field(description="Accelerator of the catalogue.")
