"""A fake kubelet: the kubelet's side of the device plugin API, spoken for real over unix sockets.

It does what kubelet 1.36 does (pkg/kubelet/cm/devicemanager): removes all sockets when it starts, connects back and
asks for the options before it answers a registration, follows one list a resource, and when a list ends disconnects
whatever client the resource has by then.
"""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from grpclib.server import Stream

from skerry.probe.plugin.deviceplugin_grpc import DevicePluginStub, RegistrationBase
from skerry.probe.plugin.deviceplugin_pb2 import (
    AllocateRequest,
    ContainerAllocateRequest,
    ContainerAllocateResponse,
    ContainerPreferredAllocationRequest,
    DevicePluginOptions,
    Empty,
    ListAndWatchResponse,
    PreferredAllocationRequest,
    RegisterRequest,
)
from skerry.probe.plugin.server import EndingServer


class Client:
    """The connection to one plugin."""

    def __init__(self, socket: Path) -> None:
        self.channel = Channel(path=str(socket))
        self.stub = DevicePluginStub(self.channel)
        self.options: DevicePluginOptions | None = None


class Kubelet(RegistrationBase):
    """The kubelet of a folder.

    Attributes:
        registered: Every registration that was asked for.
        lists: Every list of a resource that came, in the order of coming.
        devices: What a resource has now, by id; empty when its plugin is gone.
        refusal: Refuse registrations with this message.
        deaf: Answer registrations, but do not follow the list.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "kubelet.sock"
        self.registered: list[RegisterRequest] = []
        self.lists: defaultdict[str, list[dict[str, bool]]] = defaultdict(list)
        self.messages: defaultdict[str, list[ListAndWatchResponse]] = defaultdict(list)
        self.devices: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        self.clients: dict[str, Client] = {}
        self.refusal = ""
        self.deaf = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: EndingServer | None = None

    async def start(self) -> None:
        """Listen, after a clean-up of the folder."""
        self._clean_up()
        self._server = EndingServer(self)
        await self._server.start(path=str(self.socket))

    def _clean_up(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_socket():
                path.unlink()

    async def stop(self, *, killed: bool = False) -> None:
        """End, with all connections; when killed the socket stays."""
        # The server first: a registration that is under way would begin to follow a list that nobody ends.
        if self._server is not None:
            await self._server.end()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients.values():
            client.channel.close()
        self.clients.clear()
        self.devices.clear()
        if not killed:
            self.socket.unlink(missing_ok=True)

    async def restart(self) -> None:
        """End and start."""
        await self.stop()
        await self.start()

    def healthy(self, resource: str) -> set[str]:
        """Return the ids of the devices that a pod could get."""
        return {key for key, healthy in self.devices[resource].items() if healthy}

    async def allocate(self, resource: str, *ids: str) -> ContainerAllocateResponse:
        """Ask for devices for one container, as at admission."""
        request = AllocateRequest(container_requests=[ContainerAllocateRequest(devices_ids=ids)])
        answer = await self.clients[resource].stub.Allocate(request)
        return answer.container_responses[0]

    async def prefer(self, resource: str, size: int, must: tuple[str, ...] = ()) -> list[str]:
        """Ask which of the healthy devices to take."""
        asked = ContainerPreferredAllocationRequest(
            available_deviceIDs=self.healthy(resource), must_include_deviceIDs=must, allocation_size=size
        )
        request = PreferredAllocationRequest(container_requests=[asked])
        answer = await self.clients[resource].stub.GetPreferredAllocation(request)
        return list(answer.container_responses[0].deviceIDs)

    async def Register(self, stream: Stream[RegisterRequest, Empty]) -> None:  # noqa: N802 - the protocol's name
        request: Any = await stream.recv_message()
        self.registered.append(request)
        if self.refusal:
            raise GRPCError(Status.UNKNOWN, self.refusal)
        client = Client(self.folder / request.endpoint)
        try:
            client.options = await client.stub.GetDevicePluginOptions(Empty(), timeout=10)
            await stream.send_message(Empty())
        except BaseException:
            client.channel.close()
            raise
        if self.deaf:
            client.channel.close()
        else:
            self.clients[request.resource_name] = client
            task = asyncio.create_task(self._follow(request.resource_name, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # Also of one that was cancelled before it began.
            task.add_done_callback(lambda _: client.channel.close())

    async def _follow(self, resource: str, client: Client) -> None:
        try:
            async with client.stub.ListAndWatch.open() as stream:
                await stream.send_message(Empty(), end=True)
                async for message in stream:
                    self.messages[resource].append(message)
                    self.devices[resource] = {each.ID: each.health == "Healthy" for each in message.devices}
                    self.lists[resource].append(self.devices[resource])
        except (GRPCError, StreamTerminatedError, ProtocolError, OSError, AttributeError):
            pass  # grpclib forgets a transport (`_transport`) that ended at once
        current = self.clients.pop(resource, None)
        if current is not None:
            current.channel.close()
            self.devices[resource] = {}
