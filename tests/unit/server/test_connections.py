"""Clients that are slow or idle lose their connections; no others do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from skerry.server.connections import Connections
from skerry.server.limits import Limits
from tests.unit.server.conftest import facts
from tests.unit.server.running import NAME, Running, write_variant

KIB: Final = 1024
HEAD: Final = b"POST / HTTP/1.1\r\n"
SMALL: Final = HEAD + b"Content-Length: 10\r\n\r\n{"
WHOLE: Final = b"GET / HTTP/1.1\r\n\r\n"
SECONDS: Final = 30


class Site:
    """A server on loopback whose application reads the request, waits for its sign and answers."""

    def __init__(self, port: int, state: ServerState) -> None:
        self.port = port
        self.connections = state.connections
        self.requests = 0
        self.go = asyncio.Event()
        self.answer = b"done"
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and send something."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        writer.write(sent)
        await writer.drain()
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what has to come about."""
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110 - what uvicorn keeps has no event
                await asyncio.sleep(0.01)

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            return
        self.requests += 1
        await self.go.wait()
        headers = [(b"content-length", b"%d" % len(self.answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Site]:
    """Serve on a free port until the end of the block."""
    state, connections = ServerState(), Connections(limits)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await site(scope, receive, send)

    config = uvicorn.Config(app, interface="asgi3", ws="none", lifespan="off", proxy_headers=False, log_config=None)
    server = await asyncio.get_running_loop().create_server(
        lambda: connections(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    site = Site(server.sockets[0].getsockname()[1], state)
    try:
        yield site
    finally:
        server.close()
        for writer in site.clients:
            writer.transport.abort()
        await site.until(lambda: not state.connections)


def run(limits: Limits, scenario: Callable[[Site], Awaitable[None]]) -> None:
    """Play on the event loop that the server has."""

    async def play() -> None:
        async with serving(limits) as site:
            await scenario(site)

    uvloop.run(play())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(SECONDS):
        return await reader.read()


async def _dribble(writer: asyncio.StreamWriter, part: bytes) -> None:
    while True:
        writer.write(part)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("sent", "part"),
    [(b"\r\n", b"\r\n"), (HEAD, b"x: y\r\n"), (SMALL, b""), (HEAD + b"Content-Length: 60000\r\n\r\n", b"x")],
    ids=["lines", "head", "silent body", "body"],
)
def test_a_small_request_that_does_not_come_in_time_is_given_up_while_it_dribbles(sent: bytes, part: bytes) -> None:
    async def scenario(site: Site) -> None:
        reader, writer = await site.connect(sent)
        dribbling = asyncio.create_task(_dribble(writer, part))
        said = await _rest(reader)
        dribbling.cancel()
        assert site.requests == 0
        if sent.strip():
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b'{"error":"the request did not arrive within 0.2 s"}' in said

    run(Limits(head_seconds=0.2), scenario)


def test_a_connection_without_a_request_is_closed() -> None:
    async def scenario(site: Site) -> None:
        reader, _ = await site.connect()
        assert await _rest(reader) == b""

    run(Limits(head_seconds=0.2), scenario)


def test_a_larger_body_and_a_long_computation_may_take_longer_than_a_head() -> None:
    async def scenario(site: Site) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await site.connect(HEAD + b"Content-Length: %d\r\n\r\n" % (100 * KIB))
        began = loop.time()
        for _ in range(5):
            writer.write(bytes(20 * KIB))
            await asyncio.sleep(0.1)
        await site.until(lambda: site.requests == 1 and loop.time() - began > 1)
        site.go.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

    run(Limits(head_seconds=0.2, body_seconds=SECONDS), scenario)


def test_who_does_not_take_the_answers_is_cut_off() -> None:
    async def scenario(site: Site) -> None:
        site.answer = bytes(16 << 20)
        site.go.set()
        _, writer = await site.connect(WHOLE * 3)
        await site.until(lambda: site.requests > 0)
        await site.until(lambda: not site.connections)
        writer.close()

    run(Limits(head_seconds=0.1, body_seconds=0.1), scenario)


def test_at_the_limit_the_longest_wait_ends_and_no_request_that_is_being_answered() -> None:
    async def scenario(site: Site) -> None:
        worked, _ = await site.connect(WHOLE)
        await site.until(lambda: site.requests == 1)
        first, _ = await site.connect(SMALL)
        second, writer = await site.connect(HEAD)
        await site.until(lambda: len(site.connections) == 3)
        newcomer, _ = await site.connect(WHOLE)
        await site.until(lambda: site.requests == 2)
        site.go.set()
        writer.write(b"\r\n")
        for reader in (worked, newcomer, second):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert await _rest(first) == b""

    run(Limits(connections=3), scenario)


@pytest.mark.parametrize("sent", [SMALL, HEAD, b""], ids=["body", "head", "nothing"])
def test_the_kubelet_gets_through_while_slow_clients_take_all_connections(tmp_path: Path, sent: bytes) -> None:
    folder, slow = write_variant(tmp_path, facts()), []
    sent = sent.replace(b"POST /", f"POST /v2/models/{NAME}/infer".encode())
    with (folder / "log").open("wb") as log, Running(folder, log) as server:
        try:
            for number in range(1, Limits.connections + 20):
                slow.append(server.connect())
                slow[-1].sendall(sent)
                if number % 100 == 0 or number > Limits.connections:
                    with server.connect() as probe:
                        probe.sendall(b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
                        assert probe.recv(64).startswith(b"HTTP/1.1 200 OK")
        finally:
            for connection in slow:
                connection.close()
