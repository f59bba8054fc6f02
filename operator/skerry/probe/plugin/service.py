"""What the kubelet asks a device plugin: the list of devices, and those that a container gets."""

import asyncio

from grpclib import GRPCError, Status
from grpclib.server import Stream

from skerry.probe.plugin import choose, deviceplugin_pb2
from skerry.probe.plugin.cdi import SpecFile
from skerry.probe.plugin.deviceplugin_grpc import DevicePluginBase
from skerry.probe.plugin.deviceplugin_pb2 import (
    AllocateRequest,
    AllocateResponse,
    CDIDevice,
    ContainerAllocateResponse,
    ContainerPreferredAllocationResponse,
    DevicePluginOptions,
    DeviceSpec,
    Empty,
    ListAndWatchResponse,
    NUMANode,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    TopologyInfo,
)
from skerry.probe.plugin.stock import Listed, RefusedError, Stock, UnknownDeviceError

OPTIONS = DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=True)
PERMISSIONS = "rw"


def variable(accelerator: str) -> str:
    """Return the environment variable that tells a container the ids of its devices, separated by commas."""
    return f"SKERRY_DEVICES_{accelerator.upper().replace('-', '_')}"


class Service(DevicePluginBase):
    """Answers for one resource; lives in the event loop."""

    def __init__(self, stock: Stock, spec_file: SpecFile | None) -> None:
        self._stock, self._spec_file = stock, spec_file
        self._watchers: set[asyncio.Event] = set()

    @property
    def watched(self) -> bool:
        """Whether somebody follows the list: only then does the kubelet take the plugin for alive."""
        return bool(self._watchers)

    def changed(self) -> None:
        """Tell all who follow the list that it may say something else."""
        for watcher in self._watchers:
            watcher.set()

    async def GetDevicePluginOptions(self, stream: Stream[Empty, DevicePluginOptions]) -> None:  # noqa: N802 - the protocol's name
        """Say what is implemented."""
        await stream.recv_message()
        await stream.send_message(OPTIONS)

    async def ListAndWatch(self, stream: Stream[Empty, ListAndWatchResponse]) -> None:  # noqa: N802 - the protocol's name
        """Send the list at once and whenever it changed."""
        await stream.recv_message()
        changed = asyncio.Event()
        self._watchers.add(changed)
        sent: tuple[Listed, ...] | None = None
        try:
            while True:
                listed = self._stock.listed()
                if listed != sent:
                    await stream.send_message(ListAndWatchResponse(devices=map(_device, listed)))
                    sent = listed
                    continue
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.remove(changed)

    async def GetPreferredAllocation(  # noqa: N802 - the protocol's name
        self, stream: Stream[PreferredAllocationRequest, PreferredAllocationResponse]
    ) -> None:
        """Name the devices that sit together."""
        request = await stream.recv_message()
        answer = PreferredAllocationResponse()
        for container in request.container_requests if request else ():
            ids = choose.preferred(
                container.available_deviceIDs, container.must_include_deviceIDs, container.allocation_size
            )
            answer.container_responses.append(ContainerPreferredAllocationResponse(deviceIDs=ids))
        await stream.send_message(answer)

    async def Allocate(self, stream: Stream[AllocateRequest, AllocateResponse]) -> None:  # noqa: N802 - the protocol's name
        """Give each container exactly the devices asked for.

        Raises:
            GRPCError: A device is unknown (NOT_FOUND) or cannot be used now (FAILED_PRECONDITION).
        """
        request = await stream.recv_message()
        answer = AllocateResponse()
        try:
            for container in request.container_requests if request else ():
                answer.container_responses.append(self._container(container))
        except UnknownDeviceError as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from error
        except RefusedError as error:
            raise GRPCError(Status.FAILED_PRECONDITION, str(error)) from error
        await stream.send_message(answer)

    def _container(self, asked: deviceplugin_pb2.ContainerAllocateRequest) -> ContainerAllocateResponse:
        devices = self._stock.take(asked.devices_ids)
        envs = {variable(self._stock.accelerator): ",".join(device.id for device in devices)}
        names = self._spec_file.names(devices) if self._spec_file else None
        if names is not None:
            return ContainerAllocateResponse(envs=envs, cdi_devices=[CDIDevice(name=name) for name in names])
        # Cards may share a file, as NVIDIA's do.
        files = dict.fromkeys(file for device in devices for file in device.files)
        specs = [DeviceSpec(container_path=file, host_path=file, permissions=PERMISSIONS) for file in files]
        return ContainerAllocateResponse(envs=envs, devices=specs)


def _device(listed: Listed) -> deviceplugin_pb2.Device:
    health = "Healthy" if listed.healthy else "Unhealthy"
    if listed.numa_node is None:
        return deviceplugin_pb2.Device(ID=listed.id, health=health)
    topology = TopologyInfo(nodes=[NUMANode(ID=listed.numa_node)])
    return deviceplugin_pb2.Device(ID=listed.id, health=health, topology=topology)
