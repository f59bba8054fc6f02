"""The HTTP side: an ASGI application without a framework, because every microsecond of it is paid at each request."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from skerry.server import protocol
from skerry.server.bodies import RETRY, Bodies
from skerry.server.engines.base import Array
from skerry.server.errors import ArtifactError, RequestError, shown
from skerry.server.limits import Limits
from skerry.server.metrics import Metrics
from skerry.server.model import ServedModel
from skerry.version import version

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LOG: Final = logging.getLogger("uvicorn.error")
_MODEL_PATH: Final = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<action>/ready|/infer)?"
)
_INLINE_SECONDS: Final = 0.002
"""What runs no longer than this runs on the event loop: to hand it to a thread would cost as much."""
_RUNS: Final = 3
_DIGITS: Final = 15


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    content_type: bytes = protocol.JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()


def _error(error: RequestError) -> Answer:
    return Answer(error.status, orjson.dumps({"error": str(error)}), headers=error.headers)


class App:
    """Serves one model; live at once, ready when the model has been loaded and run.

    Where the device is required, it does not get ready while another one executes: it says so, but takes no traffic.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        threads: int,
        limits: Limits,
        clock: Callable[[], float] = time.perf_counter,
        *,
        device_required: bool = False,
    ) -> None:
        self._folder = folder
        self._device_required = device_required
        self._name = name
        self._threads = threads
        self._limits = limits
        self._clock = clock
        self._model: ServedModel | None = None
        self._failure: ArtifactError | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._bodies = Bodies(limits)
        self._seconds_per_element = 0.0
        self._loading: asyncio.Task[None] | None = None
        self.metrics = Metrics()
        self.on_failure: Callable[[ArtifactError], None] = lambda _: None

    @property
    def ready(self) -> bool:
        """Whether the model can be asked."""
        return self._model is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in starting and stopping."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            answer = await self._route(scope, receive)
        except RequestError as error:
            answer = _error(error)
        except Exception:  # noqa: BLE001 - one request must not end the others
            _LOG.exception("a defect: the request could not be answered")
            answer = _error(RequestError(500, "a defect of the server; its log says more"))
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        """Begin to load the model; the server is live meanwhile, but not ready."""
        self._loading = asyncio.create_task(self._load())

    async def loaded(self) -> None:
        """Wait until loading ended, well or not."""
        if self._loading is not None:
            await self._loading

    async def stop(self) -> None:
        """Stop loading and running."""
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()

        def load() -> tuple[ServedModel, float]:
            model = ServedModel.load(self._folder, self._name, self._threads, self._limits.batch)
            zeros = model.zeros()
            runs = []
            for _ in range(_RUNS):
                started = self._clock()
                model.engine.infer(zeros)
                runs.append(self._clock() - started)
            return model, min(runs) / max(1, _elements(zeros))

        try:
            model, self._seconds_per_element = await loop.run_in_executor(self._executor, load)
        except ArtifactError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - else the pod would wait for the model without end
            self._fail(ArtifactError(f"the variant cannot be served: {error!r}"))
        else:
            self.metrics.serves(model)
            self._model = model

    def _fail(self, error: ArtifactError) -> None:
        self._failure = error
        self.on_failure(error)

    async def _route(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if method == "GET" and (answer := self._general(path)) is not None:
            return answer
        found = _MODEL_PATH.fullmatch(path)
        if found is None:
            raise RequestError(404, f"there is nothing at {shown(path)}; see the Open Inference Protocol v2")
        model = self._asked(found["model"], found["version"])
        wanted = "POST" if found["action"] == "/infer" else "GET"
        if method != wanted:
            raise RequestError(405, f"{shown(path)} wants {wanted}", (b"allow", wanted.encode()))
        if found["action"] == "/infer":
            return await self._infer(model, scope, receive)
        if found["action"] == "/ready":
            return self._readiness()
        return Answer(200, orjson.dumps(protocol.metadata(model)))

    def _general(self, path: str) -> Answer | None:
        """Answer what is not about a model."""
        match path:
            case "/metrics":
                return Answer(200, self.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")
            case "/v2/health/live":
                return Answer(200, b'{"live":true}')
            case "/v2/health/ready":
                return self._readiness()
            case "/v2":
                extensions = ["binary_tensor_data"]
                return Answer(200, orjson.dumps({"name": "skerry", "version": version(), "extensions": extensions}))
        return None

    def _readiness(self) -> Answer:
        if self._model is None:
            raise self._not_ready()
        if self._device_required and not self._model.verified:
            facts, device = self._model.facts, self._model.engine.device
            raise RequestError(503, f"the model executes on {device}, but {facts.device} is required", RETRY)
        return Answer(200, b'{"ready":true}')

    def _not_ready(self) -> RequestError:
        return RequestError(503, str(self._failure or "the model is being loaded"), RETRY)

    def _asked(self, name: str, number: str | None) -> ServedModel:
        if name != self._name:
            raise RequestError(404, f"there is no model {shown(name)}; this server has {self._name!r}")
        if number not in {None, "1"}:
            raise RequestError(404, f"there is no version {shown(number)} of {name!r}; there is version 1")
        if self._model is None:
            raise self._not_ready()
        return self._model

    async def _infer(self, model: ServedModel, scope: Scope, receive: Receive) -> Answer:
        metrics = self.metrics
        metrics.in_flight.inc()
        code, held = 500, 0
        try:
            headers = dict(scope["headers"])
            body = await self._bodies.read(headers, receive)
            held = len(body)
            started = self._clock()
            request = protocol.parse(model, body, self._header_length(headers, held))
            found = await self._run(model, request.inputs)
            content, length = protocol.answer(model, request, found)
            metrics.latency.observe(self._clock() - started)
            code = 200
        except RequestError as error:
            code = error.status
            raise
        finally:
            self._bodies.release(held)
            metrics.in_flight.dec()
            metrics.requests.labels(str(code)).inc()
        if length is None:
            return Answer(200, content)
        extra = ((b"inference-header-content-length", str(length).encode()),)
        return Answer(200, content, protocol.BINARY_TYPE, extra)

    async def _run(self, model: ServedModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model, one request at a time, as many waiting as allowed."""
        if self._waiting >= self._limits.waiting:
            raise RequestError(503, f"{self._waiting} requests are waiting already; try again later", RETRY)
        self._waiting += 1
        asked = self._clock()
        try:
            async with self._turn:
                started = self._clock()
                self.metrics.queue.observe(started - asked)
                if self._seconds_per_element * _elements(inputs) < _INLINE_SECONDS:
                    found = model.infer(inputs)
                else:
                    found = await asyncio.get_running_loop().run_in_executor(self._executor, model.infer, inputs)
                self.metrics.inference.observe(self._clock() - started)
                return found
        finally:
            self._waiting -= 1

    def _header_length(self, headers: Mapping[bytes, bytes], size: int) -> int | None:
        """Return how much of a body of `size` bytes is JSON when the rest is binary data, having checked both."""
        value = headers.get(b"inference-header-content-length")
        if value is not None and not (value.isdigit() and len(value) <= _DIGITS):
            raise RequestError(400, "Inference-Header-Content-Length must be a whole number of bytes")
        length = None if value is None else int(value)
        limit = self._limits.json_bytes
        if min(size, size if length is None else length) > limit:
            raise RequestError(
                413,
                f"the request has more than {limit} bytes of JSON; send the tensors as binary data (binary_data_size)",
            )
        return length


def _elements(inputs: Mapping[str, Array]) -> int:
    return sum(value.size for value in inputs.values())
