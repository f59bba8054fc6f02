"""A worker: starts processes for the search, with the tools of another image.

It listens on a socket in the work folder, which its container shares with the search's. A connection is a process: the
first message says what to run, then messages go to and fro unread, and the last one says how the process ended. The
worker holds no credentials and no API token, and never reads what the processes say.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Final

from skerry.optimizer.child import HERE, JOIN_SECONDS, LocalProcess, Running, prepare_environment
from skerry.optimizer.errors import OptimizationError
from skerry.optimizer.wire import Line

ENTRY_PREFIX: Final = "skerry.optimizer."
_POLL_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 330.0
"""A little more than the kubelet waits at the most before it starts a container again that ended badly."""
_MOST_TOLD: Final = 64
"""Bytes that a message at the end has at the most."""
_END: Final = b"\0end"
_SUFFIX: Final = ".sock"


def socket_of(folder: Path, group: str) -> Path:
    """Return where a group's worker listens."""
    return folder / f"{group}{_SUFFIX}"


def listening(folder: Path) -> list[str]:
    """Return the groups whose workers listen in a folder; of one that was killed the socket is left."""
    return sorted(path.stem for path in folder.glob(f"*{_SUFFIX}") if _listens(path))


def _listens(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        return True
    return False


class Worker:
    """Listens, and starts a process for each connection.

    Args:
        folder: Folder for the socket.
        group: Group of the tools that are here.
        prefix: How the names of all that may be started begin.
    """

    def __init__(self, folder: Path, group: str, prefix: str = ENTRY_PREFIX) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = socket_of(folder, group)
        path.unlink(missing_ok=True)
        self._listener = Listener(str(path), family="AF_UNIX", backlog=16)
        path.chmod(0o660)
        self._prefix = prefix

    def serve(self) -> None:
        """Serve until `close`."""
        while True:
            try:
                connection = self._listener.accept()
            except (EOFError, AuthenticationError, ConnectionError):
                continue
            except OSError:  # the listener was closed
                return
            threading.Thread(target=_attend, args=(connection, self._prefix), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def _attend(there: Connection, prefix: str) -> None:
    """Run what a connection asks for."""
    with there, contextlib.suppress(EOFError, OSError):
        entry = there.recv_bytes().decode()
        if not entry.startswith(prefix):
            return
        process = HERE.start(entry)
        outward = threading.Thread(target=_pass, args=(process.line, there), daemon=True)
        outward.start()
        try:
            _follow(there, process)
        finally:
            code = process.end()
            outward.join()
            process.close(0.0)
            there.send_bytes(_END + json.dumps(code).encode())


def _pass(source: Line, target: Line) -> None:
    """Pass messages on until one side is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            target.send_bytes(source.recv_bytes())


def _follow(there: Connection, process: LocalProcess) -> None:
    """Pass messages to the process until it ends or nobody wants it any more."""
    with contextlib.suppress(EOFError, OSError):
        while process.alive:
            if there.poll(_POLL_SECONDS):
                process.line.send_bytes(there.recv_bytes())


class _Conversation:
    """A process in a worker, seen from the search: its line, on which the last message tells how it ended."""

    def __init__(self, path: Path, entry: str) -> None:
        self._there: Connection = Client(str(path), family="AF_UNIX")
        self._there.send_bytes(entry.encode())
        self._ended = False
        self._code: int | None = None

    @property
    def line(self) -> Line:
        return self

    def send_bytes(self, buf: bytes | memoryview) -> None:
        self._there.send_bytes(buf)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        if self._ended:
            raise EOFError
        message = self._there.recv_bytes(maxlength)
        self._heed(message)
        return message

    def recv_bytes_into(self, buf: memoryview) -> int:
        message = self._there.recv_bytes(max(len(buf), _MOST_TOLD))
        if len(message) != len(buf):  # it died before the bytes that it announced
            self._heed(message)
            return len(message)
        buf[:] = message
        return len(message)

    def poll(self, timeout: float = 0.0) -> bool:
        return self._there.poll(timeout)

    def _heed(self, message: bytes) -> None:
        """Note the end, when the message tells it."""
        if message.startswith(_END):
            self._ended = True
            with contextlib.suppress(ValueError):
                code = json.loads(message.removeprefix(_END))
                self._code = code if isinstance(code, int) else None
            raise EOFError

    @property
    def alive(self) -> bool:
        """Between answers a process says nothing but that it ended."""
        with contextlib.suppress(EOFError, OSError):
            if not self._ended and self._there.poll(0.0):
                self.recv_bytes()
            return not self._ended
        return False

    def exit_code(self) -> int | None:
        self._wait(JOIN_SECONDS)
        return self._code

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(EOFError, OSError):
            while not self._ended and self._there.poll(max(deadline - time.monotonic(), 0.0)):
                self.recv_bytes()

    def stop(self) -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._there.fileno())) as whole:
            whole.shutdown(socket.SHUT_RDWR)

    def close(self, patience: float) -> None:
        if self._there.closed:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._there.fileno())) as half:
            half.shutdown(socket.SHUT_WR)
        self._wait(patience + JOIN_SECONDS)
        self._there.close()


class InWorker:
    """Processes that a worker starts.

    Args:
        folder: Folder with the workers' sockets.
        group: Group of the worker.
        patience_seconds: How long to wait for it to listen.
    """

    def __init__(self, folder: Path, group: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._socket = socket_of(folder, group)
        self._group = group
        self._patience = patience_seconds

    def start(self, entry: str) -> Running:
        """Start a process in the worker.

        Raises:
            OptimizationError: The worker does not answer.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return _Conversation(self._socket, entry)
            except OSError as error:
                if time.monotonic() > deadline:
                    message = f"the worker with the tools of {self._group} does not answer: {error}"
                    raise OptimizationError(message) from error
                time.sleep(_POLL_SECONDS)


def main(arguments: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder for the socket")
    parser.add_argument("--group", required=True, help="group of the tools that are here")
    parser.add_argument("--work", type=Path, required=True, help="folder for temporary files")
    wanted = parser.parse_args(arguments)

    def leave(*_: Any) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    prepare_environment(wanted.work, int(environ.get("SKERRY_CPU_LIMIT", "0")) or len(os.sched_getaffinity(0)))
    worker = Worker(wanted.folder, wanted.group)
    sys.stderr.write(f"ready with the tools of {wanted.group}\n")
    worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
