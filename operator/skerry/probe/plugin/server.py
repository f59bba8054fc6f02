"""A gRPC server that can end."""

import asyncio
import contextlib
import weakref

from grpclib.protocol import H2Protocol
from grpclib.server import Server

from skerry.probe.plugin.deviceplugin_grpc import DevicePluginBase, RegistrationBase

PARTING_SECONDS = 1.0
"""How long to wait for the end of connections that were ended."""
_ACCEPTING_TURNS = 3
"""An event loop makes a connection of what it has accepted within so many turns."""


class EndingServer(Server):
    """grpclib's server, which also ends its connections: else they live, and are served, until the peer goes."""

    def __init__(self, handler: DevicePluginBase | RegistrationBase) -> None:
        super().__init__([handler])
        self._connections: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._connections.add(protocol)
        return protocol

    async def end(self) -> None:
        """Stop listening, end what goes on, and wait a little for the end."""
        self.close()
        for _ in range(_ACCEPTING_TURNS):
            await asyncio.sleep(0)
        for connection in list(self._connections):
            if hasattr(connection, "processor"):  # else it never became a connection
                connection.processor.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait_closed(), PARTING_SECONDS)
