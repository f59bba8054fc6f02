"""What the API server can answer, as types.

ApiError
├── NotFoundError       404
├── ConflictError       409: someone else wrote first, or the object exists
├── ForbiddenError      401 or 403
├── InvalidError        400 or 422: the object is not valid
├── GoneError           410, or the namespace is being deleted: nothing can be made there any more
└── UnavailableError    408, 429, 5xx, or no answer at all; trying again helps
"""


class ApiError(Exception):
    """The API server refused."""

    @property
    def told(self) -> str:
        """What the API server said, without the request."""
        return str(self).partition(": ")[2] or str(self)


class NotFoundError(ApiError):
    """There is no such object."""


class ConflictError(ApiError):
    """Someone else wrote first."""


class ForbiddenError(ApiError):
    """Not allowed."""


class InvalidError(ApiError):
    """The object is not valid."""


class GoneError(ApiError):
    """What was asked for is no longer there."""


class UnavailableError(ApiError):
    """The API server cannot answer now."""


_TERMINATING = "because it is being terminated"
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: UnavailableError,
}


def error_for(status: int, message: str) -> ApiError:
    """Return the error that a status code stands for."""
    if status == 403 and _TERMINATING in message:  # noqa: PLR2004 - the API server says so with Forbidden
        return GoneError(message)
    kind = _BY_STATUS.get(status, UnavailableError if status >= 500 else ApiError)  # noqa: PLR2004 - server errors
    return kind(message)
