"""Reading the files of a node below a root, so that a whole board can be a folder in a test.

Paths are strings relative to the root, such as `sys/bus/pci/devices`. Nothing here raises because of what is below the
root: files vanish between listing and opening, firmware writes garbage, and the kernel refuses to read some attributes.
"""

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Final

_LIMIT: Final = 4096
"""Bytes that are read of a file: the size of a sysfs attribute."""
_NUMBERS: Final = 2**63
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]+")

Stamp = tuple[int, int]
"""What differs between an object and another one of the same name that came later."""


class Tree:
    """The files below a root; a link that leads out of it is as good as absent."""

    def __init__(self, root: Path) -> None:
        # The root itself may be reached through links.
        self._root = os.path.realpath(root)
        self._prefix = self._root if self._root.endswith(os.sep) else self._root + os.sep

    def resolve(self, path: str) -> str | None:
        """Return the path without links, whether something is there or not; None when it leads out of the root."""
        real = os.path.realpath(self._prefix + path)
        if real == self._root:
            return ""
        return real.removeprefix(self._prefix) if real.startswith(self._prefix) else None

    def _real(self, path: str) -> str:
        resolved = self.resolve(path)
        if resolved is None:
            message = f"{path} leads out of {self._root}"
            raise FileNotFoundError(message)
        return self._prefix + resolved

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; none where it cannot be listed."""
        try:
            with os.scandir(self._real(folder)) as entries:
                return sorted(entry.name for entry in entries)
        except OSError:
            return []

    def stamps(self, folder: str) -> dict[str, Stamp]:
        """Return the names in a folder, sorted, with what tells whether a name is still the same object.

        Links are not followed: the kernel makes the link of a device anew whenever it adds the device.
        """
        found: dict[str, Stamp] = {}
        try:
            with os.scandir(self._real(folder)) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        state = entry.stat(follow_symlinks=False)
                        found[entry.name] = (state.st_ino, state.st_mtime_ns)
        except OSError:
            return {}
        return dict(sorted(found.items()))

    def status(self, path: str) -> os.stat_result | None:
        """Return what `stat` says of a file; None where it cannot."""
        try:
            return Path(self._real(path)).stat()
        except OSError:
            return None

    def data(self, path: str, limit: int = _LIMIT) -> bytes:
        """Return the first bytes of a regular file; none where it cannot be read."""
        try:
            # Without O_NONBLOCK a pipe would be waited for.
            descriptor = os.open(self._real(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.read(descriptor, limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
            finally:
                os.close(descriptor)
        except OSError:
            return b""

    def text(self, path: str) -> str:
        """Return a file's first string without control characters; empty where it cannot be read."""
        return printable(self.data(path).split(b"\0", 1)[0])

    def texts(self, path: str) -> tuple[str, ...]:
        """Return a file's strings, which end with a NUL each."""
        return tuple(text for part in self.data(path).split(b"\0") if (text := printable(part)))

    def number(self, path: str) -> int | None:
        """Return the number that a file says, decimal or with `0x`; None where it says none, or one beyond 64 bits."""
        try:
            number = int(self.text(path), 0)
        except ValueError:
            return None
        return number if abs(number) < _NUMBERS else None

    def hexadecimal(self, path: str) -> str:
        """Return the digits of a file with a hexadecimal number, with or without `0x`; empty where it has none."""
        text = self.text(path).lower().removeprefix("0x")
        return text if re.fullmatch("[0-9a-f]{1,8}", text) else ""

    def target(self, path: str) -> str:
        """Return the last name of what a link points to; empty where there is no link, or one out of the root."""
        if not Path(self._prefix + path).is_symlink():
            return ""
        return (self.resolve(path) or "").rpartition("/")[2]


def printable(data: bytes) -> str:
    """Return bytes of whatever kind as one line of text."""
    return _UNPRINTABLE.sub(" ", data.decode("utf-8", errors="replace")).strip()
