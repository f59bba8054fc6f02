"""What status codes mean."""

import pytest

from skerry.kube.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    error_for,
)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "", NotFoundError),
        (409, "", ConflictError),
        (422, "", InvalidError),
        (403, "pods is forbidden: User cannot", ForbiddenError),
        (403, "unable to create new content in namespace x because it is being terminated", GoneError),
        (410, "", GoneError),
        (429, "", UnavailableError),
        (503, "", UnavailableError),
        (418, "", ApiError),
    ],
)
def test_a_status_becomes_the_error_that_callers_can_act_on(status: int, message: str, kind: type[ApiError]) -> None:
    assert type(error_for(status, message)) is kind
