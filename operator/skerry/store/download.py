"""A file from a web server, continued where the connection broke."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from skerry.store import transport
from skerry.store.errors import TooLargeError, UnreachableError
from skerry.store.registry import Advance

_WEAK: Final = "W/"
Check = Callable[[httpx.Response, str], None]
"""Raises what an answer means; the text begins the message."""


class Download:
    """One URL and the file that it becomes; `attempt` may be called again after an UnreachableError.

    Only a part that this object received itself is continued, and only when the server says that the file is still the
    same (If-Range): a mixture of two versions would be refused by its digest, but only after everything was read.
    """

    def __init__(
        self,
        url: str,
        target: Path,
        *,
        auth: httpx.Auth | None,
        max_bytes: int,
        advance: Advance,
        check: Check = transport.check,
    ) -> None:
        self._url = url
        self._target = target
        self._auth = auth
        self._max_bytes = max_bytes
        self._advance = advance
        self._check = check
        self._validator: str | None = None
        self._written = 0

    def attempt(self, client: httpx.Client) -> None:
        """Download what is missing.

        Raises:
            UnreachableError: The connection broke; another attempt may help.
            TooLargeError: There is more than the limit.
            NotFoundError, AccessError, BadInputError: What the server says of the URL.
        """
        auth = self._auth or httpx.USE_CLIENT_DEFAULT
        with (
            transport.mapped(self._url),
            client.stream("GET", self._url, headers=self._headers(), auth=auth) as response,
        ):
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._restart(None)
                message = f"{self._url}: the file on the server changed while it was being read"
                raise UnreachableError(message)
            self._check(response, self._url)
            if not self._continues(response):
                self._restart(_validator(response))
            length = response.headers.get("Content-Length", "")
            whole = self._written + int(length) if length.isdecimal() else None
            self._fits(whole or 0)
            with self._target.open("ab" if self._written else "wb") as stream:
                for chunk in response.iter_raw():
                    self._written += len(chunk)
                    self._fits(self._written)
                    stream.write(chunk)
                    self._advance(len(chunk))
                stream.flush()
                os.fsync(stream.fileno())

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._written and self._validator:
            headers |= {"Range": f"bytes={self._written}-", "If-Range": self._validator}
        return headers

    def _continues(self, response: httpx.Response) -> bool:
        begin = f"bytes {self._written}-"
        partial = response.status_code == httpx.codes.PARTIAL_CONTENT
        return partial and response.headers.get("Content-Range", "").startswith(begin)

    def _restart(self, validator: str | None) -> None:
        self._advance(-self._written)
        self._written = 0
        self._validator = validator

    def _fits(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"{self._url}: larger than the limit of {self._max_bytes} bytes"
            raise TooLargeError(message)


def _validator(response: httpx.Response) -> str | None:
    """Return what If-Range may name: a strong ETag, else the date of the last change."""
    tag: str | None = response.headers.get("ETag")
    changed: str | None = response.headers.get("Last-Modified")
    return tag if tag and not tag.startswith(_WEAK) else changed
