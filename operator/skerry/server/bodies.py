"""Reading the bodies of requests, without ever holding more than the limits allow."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from skerry.server.errors import RequestError, shown
from skerry.server.limits import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLIENT_GONE: Final = 499
"""As nginx counts it; nobody is left to see it."""
_ENCODINGS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_SMALL: Final = 64 << 10
_CLOSE: Final = (b"connection", b"close")
RETRY: Final = (b"retry-after", b"1")


def is_small(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request with these headers declares a body that fits into a buffer or two."""
    declared = headers.get(b"content-length", b"")
    return declared.isdigit() and int(declared) <= _SMALL


class Bodies:
    """The bodies that are held at the moment."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = 2 * limits.body_bytes
        self._held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | bytearray:
        """Return a request's body, unpacked; its bytes count as held until they are released.

        Raises:
            RequestError: It is too large, came too slowly, or cannot be unpacked, or others hold too much.
        """
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        # A timer costs more than reading a small body; when that is slow, its connection ends (connections.py).
        if is_small(headers):
            body = await self._received(receive)
        else:
            body = await self._received_in_time(receive)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding == b"identity":
            return body
        try:
            unpacked = self._unpacked(body, encoding)
            self._hold(len(unpacked))
        finally:
            self.release(len(body))
        return unpacked

    def release(self, size: int) -> None:
        """Give back the bytes of a body."""
        self._held -= size

    async def _received_in_time(self, receive: Receive) -> bytes | bytearray:
        seconds = self._limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._received(receive)
        except TimeoutError as error:
            raise RequestError(408, f"the request did not arrive within {seconds:g} s", _CLOSE) from error

    async def _received(self, receive: Receive) -> bytes | bytearray:
        body: bytes | bytearray = b""
        more = True
        try:
            while more:
                message = await receive()
                chunk = self._chunk(message, len(body))
                if not body:
                    body = chunk
                elif isinstance(body, bytearray):
                    body += chunk
                else:
                    body = bytearray(body) + chunk
                more = message.get("more_body", False)
        except BaseException:
            self.release(len(body))
            raise
        return body

    def _chunk(self, message: Mapping[str, Any], before: int) -> bytes:
        """Return a part of a body, of which `before` bytes came earlier; it counts as held."""
        if message["type"] == "http.disconnect":
            raise RequestError(CLIENT_GONE, "the client went away")
        chunk: bytes = message.get("body", b"")
        if before + len(chunk) > self._limits.body_bytes:
            raise self._too_large()
        self._hold(len(chunk))
        return chunk

    def _hold(self, size: int) -> None:
        if self._held + size > self._most:
            raise RequestError(503, "other requests fill the memory for bodies; try again later", RETRY, _CLOSE)
        self._held += size

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the request is larger than the limit of {self._limits.body_bytes} bytes")

    def _unpacked(self, body: bytes | bytearray, encoding: bytes) -> bytes:
        if encoding not in _ENCODINGS:
            said = shown(encoding.decode("latin-1"))
            raise RequestError(415, f"Content-Encoding {said} is not supported; gzip and deflate are")
        unpacker = zlib.decompressobj(_ENCODINGS[encoding])
        limit = self._limits.body_bytes
        try:
            unpacked = unpacker.decompress(body, limit + 1)
        except zlib.error as error:
            raise RequestError(400, f"the body cannot be unpacked: {error}") from error
        if len(unpacked) > limit:
            raise self._too_large()
        if not unpacker.eof:
            raise RequestError(400, "the packed body is cut off")
        if unpacker.unused_data:
            raise RequestError(400, f"{len(unpacker.unused_data)} bytes follow the end of the packed body")
        return unpacked
