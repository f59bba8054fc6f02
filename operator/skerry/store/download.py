"""A file from a web server, continued where the connection broke."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from skerry.store import transport
from skerry.store.errors import UnreachableError
from skerry.store.landing import Landing
from skerry.store.registry import Advance

_WEAK: Final = "W/"
Check = Callable[[httpx.Response, str], None]
"""Raises what an answer means; the text begins the message."""


class Download:
    """One URL and the file that it becomes; `attempt` may be called again after an UnreachableError.

    What it has is continued only when the server says that the file is still the same (If-Range).
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
        self._auth = auth
        self._check = check
        self._landing = Landing(url, target, max_bytes, advance)

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
                self._landing.restart("")
                message = f"{self._url}: the file on the server changed while it was being read"
                raise UnreachableError(message)
            self._check(response, self._url)
            if not self._continues(response):
                self._landing.restart(_validator(response))
            self._landing.receive(response.iter_raw(), response.headers.get("Content-Length", ""))

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._landing.written and self._landing.version:
            headers |= {"Range": f"bytes={self._landing.written}-", "If-Range": self._landing.version}
        return headers

    def _continues(self, response: httpx.Response) -> bool:
        begin = f"bytes {self._landing.written}-"
        partial = response.status_code == httpx.codes.PARTIAL_CONTENT
        return partial and response.headers.get("Content-Range", "").startswith(begin)


def _validator(response: httpx.Response) -> str:
    """Return what If-Range may name: a strong ETag, else the date of the last change."""
    tag: str = response.headers.get("ETag", "")
    changed: str = response.headers.get("Last-Modified", "")
    return tag if tag and not tag.startswith(_WEAK) else changed
