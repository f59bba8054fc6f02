"""Errors that a client or the pod's log sees."""

import reprlib
from typing import Any, Final

_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlist = _REPR.maxtuple = 16


def shown(value: Any) -> str:
    """Return a client's value for a message, whatever its size and depth."""
    return _REPR.repr(value)


class RequestError(Exception):
    """A request cannot be answered; becomes `{"error": message}` with the status."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.headers = headers
        super().__init__(message)


class ServerError(Exception):
    """The server cannot go on; the message says why."""


class ArtifactError(ServerError):
    """The mounted variant cannot be served."""


class EngineError(ServerError):
    """What executes the model has ended or does not answer; to begin anew may help."""
