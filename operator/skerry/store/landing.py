"""The file that a download becomes, and how far it is."""

import os
from collections.abc import Iterable
from pathlib import Path

from skerry.store.errors import TooLargeError
from skerry.store.registry import Advance


class Landing:
    """A file that grows by attempts, of one version of what the server has.

    Only a part that this object wrote itself is continued, and only while the server says that its file is still of the
    `version` that the part is of: a mixture of two would be refused by its digest, but only after everything was read.
    """

    def __init__(self, what: str, target: Path, max_bytes: int, advance: Advance) -> None:
        """Prepare; `what` begins the messages."""
        self._what = what
        self._target = target
        self._max_bytes = max_bytes
        self._advance = advance
        self.written = 0
        self.version = ""

    def restart(self, version: str) -> None:
        """Forget what was written; what comes next is of a version, which is empty where the server names none."""
        self._advance(-self.written)
        self.written = 0
        self.version = version

    def receive(self, chunks: Iterable[bytes], length: str) -> None:
        """Append what a server sends, through to the disk.

        Args:
            chunks: What it sends.
            length: What it says that comes, in bytes, as its header Content-Length has it.

        Raises:
            TooLargeError: There is, or will be, more than the limit.
        """
        self._fits(self.written + (int(length) if length.isdecimal() else 0))
        with self._target.open("ab" if self.written else "wb") as stream:
            for chunk in chunks:
                self.written += len(chunk)
                self._fits(self.written)
                stream.write(chunk)
                self._advance(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())

    def _fits(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"{self._what}: larger than the limit of {self._max_bytes} bytes"
            raise TooLargeError(message)
