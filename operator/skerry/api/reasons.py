"""Every condition type and reason that Skerry writes.

A reason that says "waiting" names what is waited for in its message and is never final.
"""

from enum import StrEnum
from typing import Final

REFUSED: Final = "Refused"
"""Reason of the leading condition of any kind: the API server refuses an object that is needed, and says why."""


class ConditionType(StrEnum):
    """Types of conditions."""

    READY = "Ready"
    SOURCE_VERIFIED = "SourceVerified"
    OPTIMIZED = "Optimized"
    COMPLETE = "Complete"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    ACCELERATION_VERIFIED = "AccelerationVerified"


class ModelReason(StrEnum):
    """Reasons of an EdgeModel's conditions."""

    OPTIMIZED = "Optimized"
    BASELINE_ONLY = "BaselineOnly"
    OPTIMIZING = "Optimizing"
    WAITING_FOR_NODES = "WaitingForNodes"
    WAITING_FOR_ACCELERATOR = "WaitingForAccelerator"
    GATES_FAILED = "GatesFailed"
    VERIFIED = "Verified"
    NOT_FETCHED = "NotFetched"


class JobReason(StrEnum):
    """Reasons of an OptimizationJob's `Complete` condition; an EdgeModel repeats the ones of a failure.

    The final ones come with a completionTime; SourceUnreachable, SourceNotFound, RegistryUnreachable and the waiting
    ones are retried: what is missing may be pushed later.
    """

    SUCCEEDED = "Succeeded"
    BASELINE_ONLY = "BaselineOnly"
    GATES_FAILED = "GatesFailed"
    BAD_MODEL = "BadModel"
    BAD_DATA = "BadData"
    BAD_CONFIGURATION = "BadConfiguration"
    DIGEST_MISMATCH = "DigestMismatch"
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    OUT_OF_DISK = "OutOfDisk"
    INTERNAL_ERROR = "InternalError"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_NOT_FOUND = "SourceNotFound"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    PENDING = "Pending"
    RUNNING = "Running"
    WAITING_FOR_ACCELERATOR = "WaitingForAccelerator"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"


class DeploymentReason(StrEnum):
    """Reasons of an EdgeDeployment's conditions."""

    SERVING = "Serving"
    MODEL_NOT_FOUND = "ModelNotFound"
    WAITING_FOR_MODEL = "WaitingForModel"
    NO_SERVER_IMAGE = "NoServerImage"
    WAITING_FOR_ACCELERATOR = "WaitingForAccelerator"
    NO_SPARE_ACCELERATOR = "NoSpareAccelerator"
    DOES_NOT_FIT = "DoesNotFit"
    WAITING_FOR_PODS = "WaitingForPods"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    ROLLING_OUT = "RollingOut"
    ROLLED_OUT = "RolledOut"
    NAME_TAKEN = "NameTaken"
    ACCELERATION_VERIFIED = "AccelerationVerified"
    ACCELERATION_NOT_VERIFIED = "AccelerationNotVerified"
    NO_PODS = "NoPods"
