"""The HTTP side: an ASGI application without a framework, because every microsecond of it is paid at each request."""

import asyncio
import contextlib
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import orjson

from skerry.server.bodies import RETRY, Bodies
from skerry.server.errors import ArtifactError, RequestError, ServerError, shown
from skerry.server.facts import Served
from skerry.server.http import Answer, Receive, Scope, Send, error_answer, language_error
from skerry.server.limits import Limits
from skerry.server.metrics import Metrics
from skerry.version import version

_LOG: Final = logging.getLogger("uvicorn.error")
_MODEL_PATH: Final = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<action>/ready|/infer)?"
)
_LANGUAGE: Final = "/v1/"


class App(ABC):
    """Serves one model; live at once, ready when the model has been loaded and run.

    Where the device is required, it does not get ready while another one executes: it says so, but takes no traffic.
    """

    extensions: ClassVar[tuple[str, ...]] = ()
    """Those of the Open Inference Protocol."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        clock: Callable[[], float] = time.perf_counter,
        *,
        device_required: bool = False,
    ) -> None:
        self._device_required = device_required
        self._name = name
        self._limits = limits
        self._clock = clock
        self._served: Served | None = None
        self._failure: ServerError | None = None
        self._waiting = 0
        self._bodies = Bodies(limits)
        self._loading: asyncio.Task[None] | None = None
        self.metrics = Metrics()
        self.on_failure: Callable[[ServerError], None] = lambda _: None

    @abstractmethod
    async def load(self) -> Served:
        """Load the model and run it.

        Raises:
            ArtifactError: It cannot be served.
        """

    @abstractmethod
    async def unload(self) -> None:
        """Let go of what was loaded, or begun to be."""

    @abstractmethod
    async def infer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request with tensors.

        Raises:
            RequestError: It cannot be answered.
        """

    @abstractmethod
    async def speak(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Answer a request to a language model; None when the answer has been sent already.

        Raises:
            RequestError: It cannot be answered, and nothing has been sent.
        """

    @abstractmethod
    async def measure(self) -> None:
        """Bring up to date the figures that are not counted here."""

    @property
    def ready(self) -> bool:
        """Whether the model can be asked."""
        return self._served is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in starting and stopping."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        told = language_error if scope["path"].startswith(_LANGUAGE) else error_answer
        answer: Answer | None
        try:
            answer = await self._route(scope, receive, send)
        except RequestError as error:
            answer = told(error)
        except Exception:  # noqa: BLE001 - one request must not end the others
            _LOG.exception("a defect: the request could not be answered")
            answer = told(RequestError(500, "a defect of the server; its log says more"))
        if answer is not None:
            await answer.send(send)

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
        await self.unload()

    async def _load(self) -> None:
        try:
            served = await self.load()
        except ArtifactError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - else the pod would wait for the model without end
            self.fail(ArtifactError(f"the variant cannot be served: {error!r}"))
        else:
            self.metrics.serves(served)
            self._served = served

    def fail(self, error: ServerError) -> None:
        """Note that the model cannot be asked, now and later."""
        self._served = None
        self._failure = error
        self.on_failure(error)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        path, method = scope["path"], scope["method"]
        if method == "GET" and (answer := await self._general(path)) is not None:
            return answer
        if path.startswith(_LANGUAGE):
            return await self.speak(scope, receive, send)
        found = _MODEL_PATH.fullmatch(path)
        if found is None:
            raise RequestError(404, f"there is nothing at {shown(path)}; see the Open Inference Protocol v2")
        served = self._asked(found["model"], found["version"])
        wanted = "POST" if found["action"] == "/infer" else "GET"
        require_method(scope, wanted)
        if found["action"] == "/infer":
            return await self.infer(scope, receive)
        if found["action"] == "/ready":
            return self._readiness()
        return Answer(200, orjson.dumps(served.metadata()))

    async def _general(self, path: str) -> Answer | None:
        """Answer what is not about a model."""
        match path:
            case "/metrics":
                await self.measure()
                return Answer(200, self.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")
            case "/v2/health/live":
                return Answer(200, b'{"live":true}')
            case "/v2/health/ready":
                return self._readiness()
            case "/v2":
                known = {"name": "skerry", "version": version(), "extensions": self.extensions}
                return Answer(200, orjson.dumps(known))
        return None

    def _readiness(self) -> Answer:
        served = self.served()
        if self._device_required and not served.verified:
            told = f"the model executes on {served.device}, but {served.facts.device} is required"
            raise RequestError(503, told, RETRY)
        return Answer(200, b'{"ready":true}')

    def served(self) -> Served:
        """Return the model.

        Raises:
            RequestError: It is not ready.
        """
        if self._served is None:
            raise RequestError(503, str(self._failure or "the model is being loaded"), RETRY)
        return self._served

    def _asked(self, name: str, number: str | None) -> Served:
        if name != self._name:
            raise RequestError(404, f"there is no model {shown(name)}; this server has {self._name!r}")
        if number not in {None, "1"}:
            raise RequestError(404, f"there is no version {shown(number)} of {name!r}; there is version 1")
        return self.served()


def require_method(scope: Scope, wanted: str) -> None:
    """Refuse a request that has another method.

    Raises:
        RequestError: It has.
    """
    if scope["method"] != wanted:
        raise RequestError(405, f"{shown(scope['path'])} wants {wanted}", (b"allow", wanted.encode()))
