"""What HTTP requests and answers are to the applications."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from skerry.server.errors import RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_TYPE: Final = b"application/json"


@dataclass(frozen=True)
class Answer:
    """A response that is there as a whole."""

    status: int
    body: bytes
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", str(len(self.body)).encode()),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def error_answer(error: RequestError) -> Answer:
    """Return an error in the form of the Open Inference Protocol."""
    return Answer(error.status, orjson.dumps({"error": str(error)}), headers=error.headers)


_KINDS: Final = {404: "not_found_error", 500: "server_error", 502: "server_error", 503: "unavailable_error"}


def language_error(error: RequestError) -> Answer:
    """Return an error in the form of OpenAI's API, with the words that llama-server has for kinds of errors."""
    kind = _KINDS.get(error.status, "invalid_request_error")
    content = {"error": {"code": error.status, "message": str(error), "type": kind}}
    return Answer(error.status, orjson.dumps(content), headers=error.headers)
