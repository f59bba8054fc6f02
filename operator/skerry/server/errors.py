"""Errors that a client or the pod's log sees."""


class RequestError(Exception):
    """A request cannot be answered; becomes `{"error": message}` with the status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class ArtifactError(Exception):
    """The mounted variant cannot be served; the message says why."""
