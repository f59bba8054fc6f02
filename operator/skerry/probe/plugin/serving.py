"""The event loop's side: one server and one registration a resource, kept alive."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from skerry.probe.devices import FoundDevice
from skerry.probe.plugin.cdi import SpecFile
from skerry.probe.plugin.deviceplugin_grpc import RegistrationStub
from skerry.probe.plugin.deviceplugin_pb2 import RegisterRequest
from skerry.probe.plugin.server import EndingServer
from skerry.probe.plugin.service import OPTIONS, Service
from skerry.probe.plugin.stock import Offer, Stock

KUBELET_SOCKET = "kubelet.sock"
VERSION = "v1beta1"
REGISTER_SECONDS = 15.0
"""The kubelet takes up to 10 s to connect to a plugin before it answers."""
PATIENCE_POLLS = 5
"""A kubelet that has registered a plugin follows its list within that many polls, or is asked again."""
LONGEST_PAUSE_POLLS = 60

_BROKEN = (OSError, GRPCError, StreamTerminatedError, ProtocolError, H2Error, AttributeError)
"""What comes when a peer is away, refuses, or goes; grpclib forgets a transport (`_transport`) that ended at once."""

Identity = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Where and how to serve.

    Attributes:
        folder: Folder of kubelet.sock.
        cdi: Folder for CDI files; None: the kubelet is told the device files.
        poll_seconds: How often to look after the sockets.
        say: Tells people, one line at a time.
    """

    folder: Path
    cdi: Path | None
    poll_seconds: float
    say: Callable[[str], None]


def _identity(path: Path) -> Identity | None:
    """Return what changes when a socket is made anew; None when there is none.

    Inodes are used again at once on some file systems: the time of the last change tells the two apart.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


class Plugin:
    """One resource: its socket, its server, its registration."""

    def __init__(self, accelerator: str, settings: Settings) -> None:
        self._settings = settings
        self._stock = Stock(accelerator)
        self._spec_file = SpecFile(settings.cdi, accelerator) if settings.cdi else None
        self._path = settings.folder / f"skerry-{accelerator}.sock"
        self._service = Service(self._stock, self._spec_file)
        self._server: EndingServer | None = None
        self._socket: Identity | None = None
        self._kubelet: Identity | None = None
        self._attempts = 0
        self._due = 0.0
        self._said = ""

    def update(self, found: Sequence[FoundDevice] | None) -> None:
        """Offer what was found; None leaves it to somebody else's plugin."""
        self._stock.update(found)
        self._write_spec()
        self._service.changed()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._look_after()
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            await self._stop()

    async def _look_after(self) -> None:
        """Put right what is not in order: level-triggered, so that it matters not how it came about.

        In order is: our socket is there, and the kubelet that listens now follows our list. That a registration was
        answered is not enough: when the kubelet notices late that an earlier list has ended it drops the new one
        (runClient in its pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go looks up the client by resource).
        """
        self._write_spec()
        now = asyncio.get_running_loop().time()
        kubelet = _identity(self._settings.folder / KUBELET_SOCKET)
        if kubelet != self._kubelet:
            self._kubelet, self._attempts, self._due, self._said = kubelet, 0, now, ""
        elif self._service.watched and self._socket == _identity(self._path):
            self._attempts = 0
            return
        if kubelet is None or now < self._due:
            return
        await self._stop()
        self._due = now + self._settings.poll_seconds * min(PATIENCE_POLLS * 2**self._attempts, LONGEST_PAUSE_POLLS)
        self._attempts += 1
        try:
            await self._serve()
            await self._register()
        except _BROKEN as error:
            self._say(f"cannot be offered to the kubelet, which is tried again: {error!r}")
        else:
            self._say("is registered with the kubelet")

    async def _serve(self) -> None:
        # A server that has ended cannot be started again. asyncio removes a stale socket before it binds.
        self._service = Service(self._stock, self._spec_file)
        server = EndingServer(self._service)
        await server.start(path=str(self._path))
        self._server, self._socket = server, _identity(self._path)

    async def _register(self) -> None:
        request = RegisterRequest(
            version=VERSION, endpoint=self._path.name, resource_name=self._stock.resource, options=OPTIONS
        )
        async with Channel(path=str(self._settings.folder / KUBELET_SOCKET)) as channel:
            await RegistrationStub(channel).Register(request, timeout=REGISTER_SECONDS)

    async def _stop(self) -> None:
        """Stop serving, and remove the socket if it is ours."""
        if self._server is None:
            return
        if self._socket == _identity(self._path):
            self._path.unlink(missing_ok=True)
        server, self._server, self._socket = self._server, None, None
        await server.end()

    def _write_spec(self) -> None:
        if self._spec_file is None:
            return
        try:
            self._spec_file.write(self._stock.present)
        except OSError as error:
            self._say(f"has no CDI file, and the kubelet is told device files instead: {error}")

    def _say(self, text: str) -> None:
        """Say what has not just been said."""
        if text != self._said:
            self._settings.say(f"{self._stock.resource} {text}")
            self._said = text


async def serve(
    settings: Settings, wanted: Callable[[], Offer | None], ready: Callable[[Callable[[], object]], None]
) -> None:
    """Offer what is wanted until nothing is.

    Args:
        settings: Where and how.
        wanted: Tells what to offer; None: end.
        ready: Is given what to call, from any thread, whenever `wanted` may say something else.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    ready(lambda: loop.call_soon_threadsafe(changed.set))
    plugins: dict[str, Plugin] = {}
    changed.set()
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        while True:
            await changed.wait()
            changed.clear()
            offer = wanted()
            if offer is None:
                break
            for accelerator in offer.keys() - plugins.keys():
                # What never had a device of ours would only show a zero on the node.
                if offer[accelerator]:
                    plugins[accelerator] = Plugin(accelerator, settings)
                    tasks.append(group.create_task(plugins[accelerator].run()))
            for accelerator, plugin in plugins.items():
                plugin.update(offer.get(accelerator, ()))
        for task in tasks:
            task.cancel()
