"""What can go wrong with an artifact, divided by who can mend it.

StoreError
├── BadInputError            the user's URI or file is wrong; trying again changes nothing
│   ├── DigestMismatchError  other bytes than the ones that were named
│   ├── NotFoundError        nothing there under that name
│   ├── UnsafeArchiveError   an archive that would write where it must not, or without bound
│   └── TooLargeError        more bytes than are allowed
├── UnreachableError         a server does not answer, or says that it cannot now; trying again helps
└── AccessError              credentials, certificates or settings are missing or wrong
"""


class StoreError(Exception):
    """Base of the store's errors; the message is made for the user."""


class BadInputError(StoreError):
    """The user's URI or file is wrong."""


class DigestMismatchError(BadInputError):
    """The bytes are not the ones that were named."""

    def __init__(
        self,
        what: str,
        wanted: str,
        found: str,
        *,
        algorithm: str = "SHA-256",
        reason: str = "either the file changed or the digest in the spec is wrong",
    ) -> None:
        super().__init__(f"{what}: the {algorithm} is {found}, but {wanted} was expected; {reason}")


class NotFoundError(BadInputError):
    """There is nothing under that name."""


class UnsafeArchiveError(BadInputError):
    """Unpacking would write outside its folder, or without bound."""


class TooLargeError(BadInputError):
    """There is more of it than is allowed."""


class UnreachableError(StoreError):
    """A server does not answer.

    Attributes:
        retry_after_seconds: For how long the server asked not to be asked again.
    """

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AccessError(StoreError):
    """The server does not let us in, or we must not go there."""
