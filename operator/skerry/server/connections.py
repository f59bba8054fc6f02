"""HTTP connections with limits that uvicorn does not have: on their number, on a head's size, on a client's time."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from skerry.server.bodies import is_small
from skerry.server.limits import Limits

HEAD_BYTES: Final = 64 << 10
_SWEEPS: Final = 10
"""How often the connections are looked through within the time that a head may take."""
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)


class Connections:
    """The connections of a server; uvicorn calls it for each new one.

    Where there are too many, the one that has kept the server waiting longest goes, never the newest: clients that are
    idle or slow cannot keep the kubelet's probes out.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._waiting: dict[Connection, float] = {}
        """Those whose client has the turn, and since when: the longest wait first."""
        self._sweeping = False

    def __call__(self, *arguments: object, **more: object) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self, *arguments, **more)

    def wait(self, connection: "Connection") -> None:
        """Note that the client of a connection has the turn from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = connection.loop.time()
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(self.limits.head_seconds / _SWEEPS, self._sweep, connection.loop)

    def go_on(self, connection: "Connection") -> None:
        """Note that the server waits for the client of a connection no longer."""
        self._waiting.pop(connection, None)

    def make_room(self) -> None:
        """End the connection that has waited longest."""
        connection = next(iter(self._waiting))
        self.go_on(connection)
        connection.transport.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        overdue = []
        for connection, since in self._waiting.items():
            if now - since < self.limits.head_seconds:
                break
            if now - since >= connection.patience():
                overdue.append(connection)
        for connection in overdue:
            connection.give_up()
        self._sweeping = bool(self._waiting)
        if self._sweeping:
            loop.call_later(self.limits.head_seconds / _SWEEPS, self._sweep, loop)


class Connection(HttpToolsProtocol):
    """A connection that is closed when its client only fills memory, or only takes time."""

    def __init__(self, others: Connections, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self._others = others
        self._in_head = False
        self._in_request = False
        self._advanced = False
        self._idle_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a connection; where there are too many, another one goes."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._take_turns()
        if len(self.connections) > self._others.limits.connections:
            self._others.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._others.go_on(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; close the connection after too many bytes that neither end a head nor belong to a body."""
        self._advanced = False
        super().data_received(data)
        self._idle_bytes = 0 if self._advanced else self._idle_bytes + len(data)
        if self._idle_bytes > HEAD_BYTES:
            self.logger.warning("closed a connection whose head or trailers exceed %d bytes", HEAD_BYTES)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Note that a request began."""
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._take_turns()

    def on_headers_complete(self) -> None:
        """Note that the head ended."""
        self._in_head = False
        self._advanced = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the body grew."""
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request ended."""
        self._in_request = False
        self._advanced = True
        super().on_message_complete()
        self._take_turns()

    def on_response_complete(self) -> None:
        """Note that the next request may come."""
        super().on_response_complete()
        self._take_turns()

    def pause_writing(self) -> None:
        """Note that the client takes no more of its answer."""
        super().pause_writing()
        self._take_turns()

    def resume_writing(self) -> None:
        """Note that the client takes more of its answer."""
        super().resume_writing()
        self._take_turns()

    def patience(self) -> float:
        """Return for how many seconds the client may have the turn."""
        limits = self._others.limits
        long = self._in_request and not self._in_head and not is_small(dict(self.headers))
        if long or self.transport.get_write_buffer_size():
            return limits.head_seconds + limits.body_seconds
        return limits.head_seconds

    def give_up(self) -> None:
        """End the connection; a client that is in the middle of its request is told."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        if self._in_request and (self._in_head or not self.cycle.response_complete):
            text = b'{"error":"the request did not arrive within %g s"}' % self._others.limits.head_seconds
            self.transport.write(_TOO_SLOW % (len(text), text))
        self.transport.close()

    def _take_turns(self) -> None:
        """Note whose turn it is: the server's from when a request is complete until the client has to take or send."""
        cycle = self.cycle
        asked = bool(self.pipeline) or (cycle is not None and not cycle.more_body and not cycle.response_complete)
        lost = self not in self.connections
        if lost or (asked and not self.flow.write_paused):
            self._others.go_on(self)
        else:
            self._others.wait(self)
