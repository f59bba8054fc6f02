"""Work on untrusted models in child processes.

A model file can crash the libraries that parse it. Each step that touches it therefore runs in a process of its own,
and its death becomes an error with a message instead of the end of the Job.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any, Final, Generic, TypeVar

from skerry.optimizer.errors import ChildDiedError, OptimizationError

_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")
_JOIN_SECONDS: Final = 5.0
T = TypeVar("T")


def _answer(connection: Connection, action: Callable[[], Any]) -> None:
    """Send what the action returns, or the error that it raises."""
    try:
        connection.send((True, action()))
    except OptimizationError as error:
        connection.send((False, error))
    except Exception as error:  # noqa: BLE001 - whatever a library raises about a model becomes a message
        connection.send((False, OptimizationError(f"{type(error).__name__}: {error}")))


def _once(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _answer(connection, lambda: function(*arguments))


def _serve(connection: Connection, factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Make an object and call its methods as they are asked for, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made: list[Any] = []
    _answer(connection, lambda: made.append(factory(*arguments)))
    while made:
        try:
            method, values = connection.recv()
        except EOFError:
            return
        _answer(connection, lambda: getattr(made[0], method)(*values))  # noqa: B023 - called at once


def _receive(what: str, connection: Connection, process: Any) -> Any:
    try:
        good, value = connection.recv()
    except EOFError:
        process.join(_JOIN_SECONDS)
        raise ChildDiedError(what, process.exitcode) from None
    if not good:
        raise value
    return value


def call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a fresh process and return what it returns; `what` begins the message when the process dies.

    Raises:
        ChildDiedError: The process died.
        OptimizationError: What the function raised.
    """
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_once, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        result: T = _receive(what, here, process)
    finally:
        here.close()
        process.join(_JOIN_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
    return result


class Remote(Generic[T]):
    """An object that lives in a process of its own; a context manager that ends the process."""

    def __init__(self, what: str, factory: Callable[..., T], *arguments: Any) -> None:
        self._what = what
        self._connection, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(there, factory, arguments), daemon=True)
        self._process.start()
        there.close()
        try:
            _receive(what, self._connection, self._process)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Remote[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *values: Any) -> Any:
        """Call a method of the object and return what it returns.

        Raises:
            ChildDiedError: The process died.
        """
        try:
            self._connection.send((method, values))
        except BrokenPipeError:
            self._process.join(_JOIN_SECONDS)
            raise ChildDiedError(self._what, self._process.exitcode) from None
        return _receive(self._what, self._connection, self._process)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(_JOIN_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def quiet_libraries() -> None:
    """Turn telemetry and progress bars of libraries off: nothing of the Job goes out, and stdout is for progress."""
    os.environ.setdefault("OLIVE_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NNCF_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("CI", "1")
