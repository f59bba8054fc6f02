"""The contract between the operator and the optimizer Job.

The operator gives the Job's container its work in environment variables and mounted files; the container answers with
progress lines on stdout, an exit code, and a termination message. It holds no API token.
"""

import json
from enum import IntEnum, StrEnum
from typing import Annotated, Final

from pydantic import Field

from skerry.api.meta import Sha256, StatusModel
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Figures, Framework, Host, ModelFacts, Precision, Requirements, Technique

ENV_SPEC: Final = "SKERRY_OPTIMIZATION_SPEC"
"""The OptimizationJob's spec as JSON."""
ENV_ACCELERATOR: Final = "SKERRY_ACCELERATOR"
"""The accelerator's entry in the catalogue as JSON; it may be one that the site added."""
ENV_MODEL_NAME: Final = "SKERRY_MODEL_NAME"
"""Name of the EdgeModel, or of the OptimizationJob when it was made by hand."""
ENV_PUSH_REPOSITORY: Final = "SKERRY_PUSH_REPOSITORY"
"""Where to push, without scheme and tag: registry.skerry-system:5000/models/vision/digits."""
ENV_PULL_REPOSITORY: Final = "SKERRY_PULL_REPOSITORY"
"""The same repository in the name by which nodes pull: localhost:30500/models/vision/digits."""
ENV_TAG: Final = "SKERRY_TAG"
"""Tag of the variant; the report gets the same with the suffix -report."""
ENV_RUN: Final = "SKERRY_RUN"
"""UID of the OptimizationJob: figures of one that had the same name before are not this one's."""
ENV_INSECURE_REGISTRIES: Final = "SKERRY_INSECURE_REGISTRIES"
"""host[:port] of registries that speak plain HTTP, separated by commas."""
ENV_ALLOW_HTTP: Final = "SKERRY_ALLOW_HTTP"
"""`true` when http:// sources are allowed."""
ENV_PVC_ROOT: Final = "SKERRY_PVC_ROOT"
"""Folder below which claim NAME of a pvc:// URI is mounted as NAME."""
ENV_SOURCE_CREDENTIALS: Final = "SKERRY_SOURCE_CREDENTIALS"
"""Folder with `.dockerconfigjson` (for all hosts in it), or `username` and `password` (for the model's host); AWS_… for
s3:// sources; HF_TOKEN for hf:// sources."""
ENV_PUSH_CREDENTIALS: Final = "SKERRY_PUSH_CREDENTIALS"
"""Folder with `.dockerconfigjson` to push (and to read from the same registry)."""
ENV_CA_BUNDLE: Final = "SKERRY_CA_BUNDLE"
"""Certificate authorities that are trusted beside the image's, as PEM text."""
ENV_HUB_ENDPOINT: Final = "HF_ENDPOINT"
"""URL of a mirror of the Hugging Face hub that hf:// sources are read from; the name that the hub's own tools use."""
ENV_WORK: Final = "SKERRY_WORK"
"""Folder for everything that is written; its size is limited."""
ENV_MEMORY_LIMIT: Final = "SKERRY_MEMORY_LIMIT_BYTES"
"""Memory limit of the container in bytes."""
ENV_CPU_LIMIT: Final = "SKERRY_CPU_LIMIT"
"""CPU limit of the container in whole cores, rounded up."""
ENV_WORKERS: Final = "SKERRY_WORKERS"
"""Groups of tools that have a worker in this pod, separated by commas; each listens in the folder `workers` of the
shared folder."""
SHARED_FOLDER: Final = "common"
"""Folder of the work folder that workers share; they see nothing else of it."""
WORKERS_FOLDER: Final = "workers"
ENV_NODE: Final = "SKERRY_NODE_NAME"
"""Name of the node that the Job runs on."""
ENV_TERMINATION_LOG: Final = "SKERRY_TERMINATION_LOG"
"""File for the termination message."""
TERMINATION_MESSAGE_LIMIT: Final = 4096


class ExitCode(IntEnum):
    """Exit codes of the optimizer (sysexits); any other is a defect of Skerry."""

    FINISHED = 0
    BAD_INPUT = 65
    UNAVAILABLE = 69
    BAD_CONFIGURATION = 78


KILLED: Final = 137
"""Exit code of a container that the kernel ended whole for the memory that a process in it took (cgroup v2). The Job
tries again: its next pod goes on after what was measured, and gives up a candidate that was begun too often."""


class Stage(StrEnum):
    """Stages of an optimization, in their order."""

    WAITING = "Waiting"
    FETCHING = "Fetching"
    INSPECTING = "Inspecting"
    BASELINE = "Baseline"
    CONVERTING = "Converting"
    QUANTIZING = "Quantizing"
    COMPILING = "Compiling"
    MEASURING = "Measuring"
    PUBLISHING = "Publishing"
    DONE = "Done"


class Progress(StatusModel):
    """One line on the optimizer's stdout."""

    stage: Stage
    percent: Annotated[int, Field(ge=0, le=100)]
    candidate: str | None = None
    message: str = ""
    model: ModelFacts | None = None
    """Sent once, after inspection."""
    result: CandidateResult | None = None
    """Sent whenever a candidate's figures or verdict are known; the last one of a name counts."""

    def line(self) -> str:
        """Return the line, without the newline."""
        return json.dumps(self.wire(), ensure_ascii=False, separators=(",", ":"))


class ChosenVariant(StatusModel):
    """The candidate that was chosen and published."""

    name: str
    framework: Framework
    precision: Precision
    technique: Technique
    execution_precision: str | None = None
    size_bytes: int
    metrics: Figures = Field(default_factory=list)
    requires: Requirements


class JobResult(StatusModel):
    """The termination message: verdicts and digests, at most 4096 bytes."""

    reason: JobReason
    message: str = ""
    source_sha256: Sha256 | None = None
    artifact: str | None = None
    """`oci://PULL_REPOSITORY@sha256:…` of the chosen variant."""
    report_artifact: str | None = None
    chosen: ChosenVariant | None = None
    host: Host | None = None

    def termination_message(self) -> str:
        """Return the JSON of at most 4096 bytes, shortening the message and then the figures where it must."""
        shortened = self
        while len(text := json.dumps(shortened.wire(), ensure_ascii=True, separators=(",", ":"))) > (
            TERMINATION_MESSAGE_LIMIT
        ):
            if len(shortened.message) > 256:  # noqa: PLR2004 - enough for the first sentence
                half = shortened.message[: len(shortened.message) // 2] + "…"
                shortened = shortened.model_copy(update={"message": half})
            elif shortened.chosen is not None and shortened.chosen.metrics:
                bare = shortened.chosen.model_copy(update={"metrics": shortened.chosen.metrics[:-1]})
                shortened = shortened.model_copy(update={"chosen": bare})
            else:
                message = f"termination message of {len(text)} bytes cannot be shortened to {TERMINATION_MESSAGE_LIMIT}"
                raise ValueError(message)
        return text
