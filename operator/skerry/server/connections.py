"""HTTP connections with limits that uvicorn does not have: what it holds of a head or of trailers is unbounded."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 64 << 10
CONNECTIONS: Final = 1000
FIRST_HEAD_SECONDS: Final = 30


class Connection(HttpToolsProtocol):
    """A connection that is closed when its client only fills memory."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self._asked = False
        self._advanced = False
        self._idle_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a connection where there are not too many, and wait for its first request for a while only."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > CONNECTIONS:
            self.transport.abort()
            return
        self.loop.call_later(FIRST_HEAD_SECONDS, self._expect_request)

    def data_received(self, data: bytes) -> None:
        """Read on; close the connection after too many bytes that neither end a head nor belong to a body."""
        self._advanced = False
        super().data_received(data)
        self._idle_bytes = 0 if self._advanced else self._idle_bytes + len(data)
        if self._idle_bytes > HEAD_BYTES:
            self.logger.warning("closed a connection whose head or trailers exceed %d bytes", HEAD_BYTES)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Note that the head ended."""
        self._asked = self._advanced = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the body grew."""
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request ended."""
        self._advanced = True
        super().on_message_complete()

    def _expect_request(self) -> None:
        if not self._asked:
            self.transport.close()
