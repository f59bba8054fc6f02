"""Serving models of tensors by the Open Inference Protocol v2."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from skerry.server import protocol
from skerry.server.app import App
from skerry.server.bodies import RETRY
from skerry.server.engines.base import Array
from skerry.server.errors import RequestError
from skerry.server.facts import Served
from skerry.server.http import Answer, Receive, Scope, Send
from skerry.server.limits import Limits
from skerry.server.model import ServedModel

_INLINE_SECONDS: Final = 0.002
"""What runs no longer than this runs on the event loop: to hand it to a thread would cost as much."""
_RUNS: Final = 3
_DIGITS: Final = 15


class TensorApp(App):
    """Serves a model that takes and gives tensors."""

    extensions = ("binary_tensor_data",)

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
        super().__init__(name, limits, clock, device_required=device_required)
        self._folder = folder
        self._threads = threads
        self._model: ServedModel | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._turn = asyncio.Lock()
        self._seconds_per_element = 0.0

    async def load(self) -> Served:
        """Load the model and see how long it runs."""

        def load() -> tuple[ServedModel, float]:
            model = ServedModel.load(self._folder, self._name, self._threads, self._limits.batch)
            zeros = model.zeros()
            runs = []
            for _ in range(_RUNS):
                started = self._clock()
                model.engine.infer(zeros)
                runs.append(self._clock() - started)
            return model, min(runs) / max(1, _elements(zeros))

        model, self._seconds_per_element = await asyncio.get_running_loop().run_in_executor(self._executor, load)
        self._model = model
        return Served(self._name, model.facts, model.engine)

    async def unload(self) -> None:
        """Let go of the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def measure(self) -> None:
        """Do nothing: all figures are counted here."""

    async def speak(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Refuse to talk."""
        del scope, receive, send
        raise RequestError(404, f"{self._name!r} is no language model; ask /v2/models/{self._name}/infer")

    async def infer(self, scope: Scope, receive: Receive) -> Answer:
        """Run the model on a request's tensors."""
        if self._model is None:
            message = "the model is asked before it is loaded"
            raise AssertionError(message)
        return await self._infer(self._model, scope, receive)

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
