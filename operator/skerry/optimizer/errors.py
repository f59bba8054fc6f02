"""What can end an optimization, divided by what the user can do.

OptimizationError
├── BadModelError             the model cannot be used; the user must mend it
│   └── UnsupportedFormatError  it is of a format that Skerry does not read
├── BadDataError              the calibration or evaluation data does not fit the model
├── ConfigurationError        the spec asks for something that does not exist
├── OutOfMemoryError          the memory limit is too small for what is tried
├── OutOfDiskError            the work folder is full
├── DeadlineError             a step took too long, and was ended
└── ChildDiedError            a process that worked on the model crashed
"""

import signal
from typing import Final


class OptimizationError(Exception):
    """Base; the message is made for the user."""


class BadModelError(OptimizationError):
    """The model cannot be used."""


class UnsupportedFormatError(BadModelError):
    """The model is of another format."""


class BadDataError(OptimizationError):
    """The data does not fit."""


class ConfigurationError(OptimizationError):
    """The spec asks for something that does not exist."""


class OutOfMemoryError(OptimizationError):
    """Memory ran out."""


class OutOfDiskError(OptimizationError):
    """The work folder is full."""


class DeadlineError(OptimizationError):
    """A step took too long."""


class ChildDiedError(OptimizationError):
    """A process that worked on the model crashed."""


_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        *(OptimizationError, BadModelError, UnsupportedFormatError, BadDataError, ConfigurationError),
        *(OutOfMemoryError, OutOfDiskError, DeadlineError, ChildDiedError),
    )
}


def named(name: str, message: str) -> OptimizationError:
    """Return an error by the name of its class, which another process told."""
    return _KINDS.get(name, OptimizationError)(message)


def death(what: str, exit_code: int | None) -> OptimizationError:
    """Return the error for a child process that ended without an answer.

    Args:
        what: What the process was doing.
        exit_code: Its exit code, or minus the signal that killed it; None when the worker that it ran in is gone.
    """
    if exit_code is None:
        return OutOfMemoryError(
            f"{what}: the worker that it ran in ended, most likely because memory ran out; raise the memory limit in "
            "spec.optimization.resources"
        )
    if exit_code == -signal.SIGKILL:
        return OutOfMemoryError(
            f"{what}: the process was killed, most likely because memory ran out; "
            "raise the memory limit in spec.optimization.resources"
        )
    if exit_code < 0:
        known = -exit_code in {member.value for member in signal.Signals}
        name = signal.Signals(-exit_code).name if known else f"signal {-exit_code}"
        return ChildDiedError(f"{what}: the process crashed with {name}")
    return ChildDiedError(f"{what}: the process ended with exit code {exit_code} and without an answer")
