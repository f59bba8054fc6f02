"""llama.cpp: its server as a process of its own, which only this process can reach."""

import asyncio
import collections
import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from skerry.api.artifact import VariantFacts
from skerry.server.errors import ArtifactError, EngineError

PROGRAM: Final = "llama-server"
CONTEXT: Final = "contextTokens"
_DEFAULT_CONTEXT: Final = 4096
"""As the optimizer measures where the settings say nothing; llama-server takes less where a model is made for less."""
_SOCKET: Final = "llama.sock"
_CPU: Final = "CPU"
_POLL_SECONDS: Final = 0.05
_END_SECONDS: Final = 3.0
_FIGURES_SECONDS: Final = 0.5
_TAIL_LINES: Final = 12
_TAIL_CHARACTERS: Final = 1200
_BUFFER: Final = re.compile(r"load_tensors:\s+(\S+) model buffer size =\s+([\d.]+) MiB")
_FIGURE: Final = re.compile(r"^llamacpp:(\w+) ([-+.\deE]+)$", re.MULTILINE)
# A line begins with a time and the letter of its level.
_WARNING: Final = re.compile(r"^[\d.]+ [WE] ")
_ERROR: Final = re.compile(r"^[\d.]+ E ")


class LlamaServer:
    """A llama-server, from when it is started.

    Its HTTP API is on a socket in a folder of this process: clients reach it through Skerry only.

    Args:
        facts: The variant.
        folder: Where its files are.
        name: The model's name to clients.
        threads: Threads that compute.
        slots: How many answers are written at once; each has a context of its own.
        context: Tokens of each; 0: what the variant was measured with.
    """

    def __init__(self, facts: VariantFacts, folder: Path, name: str, threads: int, slots: int, context: int) -> None:
        self._facts = facts
        self._model = folder / facts.model_file
        self._name = name
        self._threads = threads
        self._slots = slots
        self._context = context or int(facts.settings.get(CONTEXT, _DEFAULT_CONTEXT))
        self._loaded = False
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._mebibytes: collections.Counter[str] = collections.Counter()
        self._folder = Path(tempfile.mkdtemp(prefix="llama-"))
        # Its own end of a connection that has been kept open may be closed just when the next request is sent.
        fresh = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self._folder / _SOCKET), limits=fresh),
            base_url="http://llama",
            # Answers are passed on as they are.
            headers={"accept-encoding": "identity"},
            timeout=httpx.Timeout(None, connect=10.0),
        )

    @property
    def device(self) -> str:
        """The device that has most of the weights, and so computes with them."""
        return self._mebibytes.most_common(1)[0][0] if self._mebibytes else "unknown"

    @property
    def precision(self) -> str:
        """The precision that the variant was measured with: llama.cpp does not change it."""
        return self._facts.execution_precision

    @property
    def pid(self) -> int:
        """The process; this one before it is started."""
        return os.getpid() if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and wait until the model is loaded.

        Raises:
            ArtifactError: It cannot be loaded.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            message = f"{PROGRAM} is not in this image: variants of {self._facts.framework} need the server's other one"
            raise ArtifactError(message) from error
        self._reading = asyncio.create_task(self._read())
        while not await self._healthy():
            if self._process.returncode is not None:
                message = f"{PROGRAM} cannot load {self._model.name}: {await self._end()}"
                raise ArtifactError(message)
            await asyncio.sleep(_POLL_SECONDS)
        self._loaded = True

    def _command(self) -> list[str]:
        """Return the command; the server ends with this process, whatever ends that."""
        leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        device = self._facts.device
        place = ["--device", "none"] if device == _CPU else ["--device", device, "--gpu-layers", "all"]
        return [
            *leash,
            *(PROGRAM, "--model", os.fspath(self._model), "--alias", self._name, "--host", f"{self._folder}/{_SOCKET}"),
            *("--threads", str(self._threads), "--threads-batch", str(self._threads), *place),
            *("--parallel", str(self._slots), "--ctx-size", str(self._slots * self._context)),
            # A thread is taken for as long as an answer lasts; further ones serve probes of health and figures.
            *("--threads-http", str(self._slots + 2), "--metrics", "--no-slots", "--no-ui", "--offline"),
            # Neither a cache of prompts that grows to gigabytes, nor sizes other than those that were measured.
            *("--cache-ram", "0", "--fit", "off", "--log-verbosity", "4", "--log-colors", "off"),
        ]

    async def _read(self) -> None:
        """Read what the server says, as long as it runs."""
        stream = self._output()
        # Later there are warnings at ordinary requests, which would fill the pod's log.
        while line := await _line(stream):
            if found := _BUFFER.search(line):
                self._mebibytes[_device_of(found[1])] += float(found[2])  # type: ignore[assignment] # counts MiB
            if (_ERROR if self._loaded else _WARNING).match(line):
                sys.stderr.write(f"{PROGRAM}: {line}\n")
            self._tail.append(line)

    def _output(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stdout is None:
            message = f"{PROGRAM} has not been started"
            raise AssertionError(message)
        return self._process.stdout

    async def _healthy(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.client.get("/health")).is_success
        return False

    async def ended(self) -> EngineError:
        """Wait until it ends by itself, and return why."""
        return EngineError(f"{PROGRAM} has ended: {await self._end()}")

    async def _end(self) -> str:
        """Wait for the end and return its story in a line."""
        if self._process is None or self._reading is None:
            message = f"{PROGRAM} has not been started"
            raise AssertionError(message)
        code = await self._process.wait()
        await self._reading
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return f"{how}: {' | '.join(self._tail)[-_TAIL_CHARACTERS:]}"

    async def figures(self) -> Mapping[str, float]:
        """Return its counters by name; none while it is too busy to tell."""
        try:
            async with asyncio.timeout(_FIGURES_SECONDS):
                answer = await self.client.get("/metrics")
        except (TimeoutError, httpx.TransportError):
            return {}
        return {name: float(value) for name, value in _FIGURE.findall(answer.text)}

    async def stop(self) -> None:
        """End it; answers that are being written are cut off."""
        process = self._process
        if process is not None and process.returncode is None:
            # It does not end while a client reads an answer.
            for end in (process.terminate, process.kill):
                with contextlib.suppress(ProcessLookupError):
                    end()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_END_SECONDS):
                        await process.wait()
                        break
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.client.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _line(stream: asyncio.StreamReader) -> str:
    """Return the next line that is not empty, or nothing at the end; what is too long is passed over."""
    while True:
        try:
            line = await stream.readuntil()
        except asyncio.IncompleteReadError as end:
            line = end.partial
            if not line:
                return ""
        except asyncio.LimitOverrunError as overrun:
            await stream.readexactly(overrun.consumed)
            continue
        if text := line.decode("utf-8", "replace").strip():
            return text


def _device_of(buffer: str) -> str:
    """Return the device that a buffer belongs to: CPU_Mapped and CPU_REPACK are the CPU's, as is pinned memory."""
    device, _, kind = buffer.partition("_")
    return _CPU if kind == "Host" else device
