"""What can end an optimization.

OptimizationError
├── BadModelError             the model cannot be used; the user must mend it
├── UnsupportedFormatError    the model is of a format that Skerry does not read
├── BadDataError              the calibration or evaluation data does not fit the model
├── ConfigurationError        the spec asks for something that does not exist
└── ChildDiedError            a child process that worked on the model died (crash or out of memory)
"""

import signal


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


class ChildDiedError(OptimizationError):
    """A child process died while it worked on the model."""

    def __init__(self, what: str, exit_code: int | None) -> None:
        self.out_of_memory = exit_code == -signal.SIGKILL
        name = signal.Signals(-exit_code).name if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
        reason = "it was killed, most likely because memory ran out" if self.out_of_memory else f"it ended with {name}"
        super().__init__(f"{what}: the process that worked on the model died: {reason}")
