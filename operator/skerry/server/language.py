"""Serving language models by OpenAI's API: what llama-server answers, with Skerry's limits, figures and readiness."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import httpx
import orjson

from skerry.api.artifact import VariantFacts
from skerry.server.app import App, require_method
from skerry.server.bodies import CLIENT_GONE, RETRY
from skerry.server.errors import RequestError, shown
from skerry.server.facts import Served
from skerry.server.http import Answer, Receive, Scope, Send
from skerry.server.limits import Limits
from skerry.server.llamacpp import LlamaServer
from skerry.server.metrics import LanguageMetrics

_LOG: Final = logging.getLogger("uvicorn.error")
MODELS: Final = "/v1/models"
WRITING: Final = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
"""What has the model write; all is JSON."""
_EVENTS: Final = b"text/event-stream"
_UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""Tells proxies to pass on what they have."""
_DATA: Final = b"data:"


class LanguageApp(App):
    """Serves a language model that llama-server runs.

    As many requests are with llama-server as it writes answers at once. Others wait here, where clients may leave.
    """

    def __init__(
        self,
        facts: VariantFacts,
        engine: LlamaServer,
        name: str,
        slots: int,
        limits: Limits,
        clock: Callable[[], float] = time.perf_counter,
        *,
        device_required: bool = False,
    ) -> None:
        super().__init__(name, limits, clock, device_required=device_required)
        self._facts = facts
        self._engine = engine
        self._slots = asyncio.Semaphore(slots)
        self._watching: asyncio.Task[None] | None = None
        self._language = LanguageMetrics(self.metrics.registry, lambda: engine.pid)

    async def load(self) -> Served:
        """Start llama-server, and watch it from then on."""
        await self._engine.start()
        self._watching = asyncio.create_task(self._watch())
        return Served(self._name, self._facts, self._engine)

    async def _watch(self) -> None:
        self.fail(await self._engine.ended())

    async def unload(self) -> None:
        """End llama-server."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._engine.stop()

    async def measure(self) -> None:
        """Take over llama-server's counters."""
        if self.ready:
            self._language.take(await self._engine.figures())

    async def infer(self, scope: Scope, receive: Receive) -> Answer:
        """Refuse tensors."""
        del scope, receive
        raise RequestError(
            400, f"{self._name!r} is a language model, which has no tensors; ask {' or '.join(WRITING[:2])}"
        )

    async def speak(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Pass a request on, and its answer back as it is written."""
        path = scope["path"]
        if path != MODELS and path not in WRITING:
            told = f"there is nothing at {shown(path)}; there are {', '.join((MODELS, *WRITING))}"
            raise RequestError(404, told)
        require_method(scope, "GET" if path == MODELS else "POST")
        self.served()
        if path == MODELS:
            return await self._models()
        await self._write(scope, receive, send)
        return None

    async def _models(self) -> Answer:
        try:
            answer = await self._engine.client.get(MODELS)
        except httpx.TransportError as error:
            raise _silent(error) from error
        return Answer(answer.status_code, answer.content)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics = self.metrics
        metrics.in_flight.inc()
        code, held = 500, 0
        try:
            body = await self._bodies.read(dict(scope["headers"]), receive)
            held = len(body)
            started = self._clock()
            self._check(body)
            passing = self._pass_on(scope["path"], bytes(body), started, send)
            code = await _unless_gone(receive, passing)
            metrics.latency.observe(self._clock() - started)
        except RequestError as error:
            code = error.status
            raise
        finally:
            self._bodies.release(held)
            metrics.in_flight.dec()
            metrics.requests.labels(str(code)).inc()

    def _check(self, body: bytes | bytearray) -> None:
        """Refuse what is not for this model.

        Raises:
            RequestError: It is too large, is no JSON, or names another model.
        """
        limit = self._limits.json_bytes
        if len(body) > limit:
            raise RequestError(413, f"the request has more than {limit} bytes of JSON")
        try:
            document: Any = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"the request is not valid JSON: {error}") from error
        if not isinstance(document, dict):
            raise RequestError(400, "the request must be a JSON object")
        wanted = document.get("model", self._name)
        if wanted != self._name:
            raise RequestError(404, f"there is no model {shown(wanted)}; this server has {self._name!r}")

    async def _pass_on(self, path: str, body: bytes, started: float, send: Send) -> int:
        """Have an answer written and send it; return its status."""
        if self._waiting >= self._limits.waiting:
            raise RequestError(503, f"{self._waiting} requests are waiting already; try again later", RETRY)
        async with self._turn():
            self.metrics.queue.observe(self._clock() - started)
            began = self._clock()
            client = self._engine.client
            request = client.build_request("POST", path, content=body, headers={"content-type": "application/json"})
            try:
                answer = await client.send(request, stream=True)
            except httpx.TransportError as error:
                raise _silent(error) from error
            try:
                await self._send_on(answer, started, send)
            finally:
                await answer.aclose()
            self.metrics.inference.observe(self._clock() - began)
            return answer.status_code

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _send_on(self, answer: httpx.Response, started: float, send: Send) -> None:
        """Send an answer, one that is streamed as it comes.

        What the client does not take is not read, so that llama-server waits too.
        """
        kind = answer.headers.get("content-type", "application/json").encode("latin-1")
        if not kind.startswith(_EVENTS):
            try:
                content = await answer.aread()
            except httpx.TransportError as error:
                raise _silent(error) from error
            await Answer(answer.status_code, content, kind).send(send)
            return
        headers = [(b"content-type", kind), *_UNBUFFERED]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        waits = True
        try:
            async for part in answer.aiter_raw():
                if waits and _DATA in part:
                    self._language.first_token.observe(self._clock() - started)
                    waits = False
                await _send_part(part, send)
        except httpx.TransportError as error:
            _LOG.warning("an answer was cut off: %s", error or type(error).__name__)
            told = {"error": {"code": 502, "message": "the answer was cut off", "type": "server_error"}}
            await _send_part(b"data: " + orjson.dumps(told) + b"\n\n", send)
        await send({"type": "http.response.body", "body": b""})


async def _send_part(part: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def _silent(error: httpx.TransportError) -> RequestError:
    return RequestError(502, f"llama-server did not answer: {str(error) or type(error).__name__}", RETRY)


async def _unless_gone(receive: Receive, work: Awaitable[int]) -> int:
    """Return what the work gives; when the client goes away, the work is given up.

    Raises:
        RequestError: The client went away.
    """

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.ensure_future(work), asyncio.create_task(until_gone())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestError(CLIENT_GONE, "the client went away")
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
