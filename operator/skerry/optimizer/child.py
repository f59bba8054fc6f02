"""Work on untrusted models in child processes.

A model file can crash the libraries that parse it. Each step that touches it therefore runs in a process of its own,
and its death becomes an error with a message instead of the end of the Job.
"""

import contextlib
import errno
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

from skerry.optimizer.errors import OptimizationError, OutOfDiskError, OutOfMemoryError, death

_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")
_JOIN_SECONDS: Final = 5.0
_MESSAGE_LIMIT: Final = 1500
_OUT_OF_MEMORY_WORDS: Final = ("bad_alloc", "bad allocation", "failed to allocate memory")
T = TypeVar("T")


def summary(error: BaseException) -> str:
    """Return what a library says about a model in one line, without the places in its own source code."""
    lines = (line.strip() for line in str(error).splitlines())
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(telling)[:_MESSAGE_LIMIT] or type(error).__name__


def _foreseen(error: Exception) -> OptimizationError:
    """Return an error that can be sent to the parent and shown to the user."""
    if isinstance(error, OptimizationError):
        return error
    text = summary(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OUT_OF_MEMORY_WORDS):
        return OutOfMemoryError(f"memory ran out ({text}); raise the memory limit in spec.optimization.resources")
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutOfDiskError(
            "the work folder is full; raise the ephemeral-storage limit in spec.optimization.resources"
        )
    traceback.print_exception(error)
    return OptimizationError(f"{type(error).__name__}: {text}")


def _answer(connection: Connection, action: Callable[[], Any]) -> None:
    """Send what the action returns, or the error that it raises."""
    try:
        connection.send((True, action()))
    except Exception as error:  # noqa: BLE001 - whatever a library raises about a model becomes a message
        connection.send((False, _foreseen(error)))


def _settle() -> None:
    """Leave Ctrl-C to the parent, and be the first to go when memory runs out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # not everywhere is one let
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _once(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _settle()
    _answer(connection, lambda: function(*arguments))


def _serve(connection: Connection, factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Make an object and call its methods as they are asked for, until the pipe is closed."""
    _settle()
    made: list[Any] = []
    _answer(connection, lambda: made.append(factory(*arguments)))
    while made:
        try:
            method, values = connection.recv()
        except EOFError:
            return
        _answer(connection, lambda: getattr(made[0], method)(*values))  # noqa: B023 - called at once


class _Child:
    """A process with a pipe to it."""

    def __init__(self, what: str, target: Callable[..., None], *arguments: Any) -> None:
        self._what = what
        self._connection, there = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=target, args=(there, *arguments), daemon=True)
        self._process.start()
        there.close()

    def send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> Any:
        try:
            good, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        if not good:
            raise value
        return value

    def _death(self) -> OptimizationError:
        self._process.join(_JOIN_SECONDS)
        return death(self._what, self._process.exitcode)

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def close(self, *, patience: float) -> None:
        """End the process: kindly within the patience, else by force."""
        self._connection.close()
        self._process.join(patience)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a fresh process and return what it returns; `what` begins the message when the process dies.

    Raises:
        OptimizationError: What the function raised, or how the process died.
    """
    child = _Child(what, _once, function, arguments)
    patience = 0.0
    try:
        result: T = child.receive()
        patience = _JOIN_SECONDS
    finally:
        child.close(patience=patience)
    return result


class Remote(Generic[T]):
    """An object that lives in a process of its own; a context manager that ends the process."""

    def __init__(self, what: str, factory: Callable[..., T], *arguments: Any) -> None:
        self._child = _Child(what, _serve, factory, arguments)
        try:
            self._child.receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *values: Any) -> Any:
        """Call a method of the object and return what it returns.

        Raises:
            OptimizationError: What the method raised, or how the process died.
        """
        self._child.send((method, values))
        return self._child.receive()

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._child.alive

    def close(self) -> None:
        """End the process."""
        self._child.close(patience=0.0)


def prepare_environment(work: Path, threads: int) -> None:
    """Set what child processes inherit: no telemetry, temporary files in the work folder, a number of threads."""
    scratch = work / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(scratch)
    os.environ["CI"] = "true"  # openvino-telemetry sends nothing then, and progress bars stay still
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
