"""Work on untrusted models in child processes.

A model file can crash the libraries that parse it. Each step that touches it therefore runs in a process of its own,
and its death becomes an error with a message instead of the end of the Job. Where that process is started is a
`Place`: here, or in a worker, which is a container with other tools beside this one.
"""

import contextlib
import errno
import multiprocessing
import os
import pkgutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from skerry.optimizer import wire
from skerry.optimizer.errors import (
    DeadlineError,
    OptimizationError,
    OutOfDiskError,
    OutOfMemoryError,
    death,
    named,
)
from skerry.optimizer.wire import Line

_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")
JOIN_SECONDS: Final = 5.0
STEP_SECONDS: Final = 1800.0
"""How long one step of work may take before it counts as hanging."""
_MINUTE: Final = 60.0
_MESSAGE_LIMIT: Final = 1500
_OUT_OF_MEMORY_WORDS: Final = ("bad_alloc", "bad allocation", "failed to allocate memory")
T = TypeVar("T")


class Running(Protocol):
    """A process with a connection to it."""

    @property
    def line(self) -> Line:
        """Where values are exchanged."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        ...

    def exit_code(self) -> int | None:
        """Return how the process ended, having waited a little for it: its code, or minus the signal."""
        ...

    def stop(self) -> None:
        """End the process at once, so that whoever waits for it on the line is told; may be called by any thread."""
        ...

    def close(self, patience: float) -> None:
        """End the process: kindly within the patience in seconds, else by force."""
        ...


class Place(Protocol):
    """Where processes are started."""

    def start(self, entry: str) -> Running:
        """Start a process that calls `module:name` with the arguments that it is sent, and answers.

        Raises:
            OptimizationError: The place is gone.
        """
        ...


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
        answer = (True, action())
    except Exception as error:  # noqa: BLE001 - whatever a library raises about a model becomes a message
        foreseen = _foreseen(error)
        answer = (False, (type(foreseen).__name__, str(foreseen)))
    wire.send(connection, answer)


def _settle() -> None:
    """Leave Ctrl-C to the parent, and be the first to go when memory runs out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # not everywhere is one let
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _serve(connection: Connection, entry: str) -> None:
    """Call what the entry names with the arguments that come, then methods of what it returned, until it is enough."""
    _settle()
    made: list[Any] = []

    def begin() -> Any:
        function = pkgutil.resolve_name(entry)  # first of all: the arguments' classes come with it
        result = function(*wire.receive(connection))
        made.append(result)
        return None if isinstance(function, type) else result

    try:
        _answer(connection, begin)
        while made:
            method, values = wire.receive(connection)
            _answer(connection, lambda: getattr(made[0], method)(*values))  # noqa: B023 - called at once
    except (EOFError, BrokenPipeError):
        return


class LocalProcess:
    """A process on this machine, in this container."""

    def __init__(self, entry: str) -> None:
        self._connection, there = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=_serve, args=(there, entry), daemon=True)
        self._process.start()
        there.close()

    @property
    def line(self) -> Line:
        """Where values are exchanged."""
        return self._connection

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self._process.is_alive()

    def exit_code(self) -> int | None:
        """Return how it ended."""
        self._process.join(JOIN_SECONDS)
        return self._process.exitcode

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill it if it is still there, and return how it ended; its line stays open."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        return self._process.exitcode

    def close(self, patience: float) -> None:
        """End it: kindly within the patience in seconds, else by force."""
        self._connection.close()
        self._process.join(patience)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Here:
    """Processes beside this one."""

    def start(self, entry: str) -> LocalProcess:
        """Start a process."""
        return LocalProcess(entry)


HERE: Final = Here()


class _Child:
    """A process that is sent values and answers."""

    def __init__(self, what: str, place: Place, entry: str, seconds: float) -> None:
        self._what = what
        self._seconds = seconds
        self._running = place.start(entry)

    def send(self, message: Any) -> None:
        with self._leash():
            wire.send(self._running.line, message)

    def receive(self) -> Any:
        with self._leash():
            try:
                good, value = wire.receive(self._running.line)
                error = None if good else named(*value)
            except (wire.WireError, ValueError, TypeError) as strange:
                self._running.close(0.0)
                message = f"{self._what}: the process sent something that is no answer"
                raise OptimizationError(message) from strange
        if error is not None:
            raise error
        return value

    @contextlib.contextmanager
    def _leash(self) -> Iterator[None]:
        """Stop the process when what is said within the context takes too long; turn its end into an error."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._running.stop()

        timer = threading.Timer(self._seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            if late.is_set():
                message = f"{self._what}: no end after {self._seconds / _MINUTE:.0f} minutes; it was stopped"
                raise DeadlineError(message) from None
            raise self._death() from None
        finally:
            timer.cancel()

    def _death(self) -> OptimizationError:
        return death(self._what, self._running.exit_code())

    @property
    def alive(self) -> bool:
        return self._running.alive

    def close(self, *, patience: float) -> None:
        self._running.close(patience)


def _entry(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def call(
    what: str, function: Callable[..., T], *arguments: Any, place: Place = HERE, seconds: float = STEP_SECONDS
) -> T:
    """Run a function in a fresh process and return what it returns.

    Args:
        what: Begins the message when the process dies.
        function: A function of a module, which the process imports.
        arguments: Its arguments; see `skerry.optimizer.wire` for what can cross.
        place: Where the process is started.
        seconds: After how long it is stopped.

    Raises:
        OptimizationError: What the function raised, or how the process died.
    """
    child = _Child(what, place, _entry(function), seconds)
    patience = 0.0
    try:
        child.send(arguments)
        result: T = child.receive()
        patience = JOIN_SECONDS
    finally:
        child.close(patience=patience)
    return result


class Remote(Generic[T]):
    """An object that lives in a process of its own; a context manager that ends the process."""

    def __init__(
        self,
        what: str,
        factory: Callable[..., T],
        *arguments: Any,
        place: Place = HERE,
        seconds: float = STEP_SECONDS,
    ) -> None:
        self._child = _Child(what, place, _entry(factory), seconds)
        try:
            self._child.send(arguments)
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


class Standing(Generic[T]):
    """An object in a process of its own that is started anew when that process died; a context manager.

    A candidate that exhausts the memory of a container takes every process in it along.
    """

    def __init__(self, start: Callable[[], Remote[T]]) -> None:
        """Start it."""
        self._start = start
        self.remote = start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remote.close()

    def renew(self) -> bool:
        """Start it anew if its process died; return whether it did.

        Raises:
            OptimizationError: It cannot be started.
        """
        if self.remote.alive:
            return False
        self.remote.close()
        self.remote = self._start()
        return True


def prepare_environment(work: Path, threads: int) -> None:
    """Set what child processes inherit: no telemetry, temporary files in the work folder, a number of threads."""
    scratch = work / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(scratch)
    os.environ["CI"] = "true"  # openvino-telemetry sends nothing then, and progress bars stay still
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
