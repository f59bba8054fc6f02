"""Running the programs of a tool, with errors that say what they said."""

import collections
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skerry.optimizer.errors import OptimizationError, death

_TAIL_LINES: Final = 12
_TAIL_CHARACTERS: Final = 1200


class ProgramError(OptimizationError):
    """A program ended badly.

    Attributes:
        output: All that it wrote.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def leash() -> tuple[str, ...]:
    """Return the words before a command that end it when this process is killed, where the machine has them."""
    return ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


def tail(output: str) -> str:
    """Return the last lines of what a program wrote, as one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " | ".join(collections.deque(lines, _TAIL_LINES))[-_TAIL_CHARACTERS:]


def run(
    what: str, *command: str | Path, seconds: float | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program to its end and return what it wrote: all of stdout, then all of stderr.

    Args:
        what: Begins the message when it fails.
        command: Program and arguments.
        seconds: After how long it is ended; None leaves that to whoever ends this process.
        environment: Variables for it beside this process's own.

    Raises:
        ProgramError: It ended badly.
        OptimizationError: It was killed.
    """
    words = [*leash(), *(os.fspath(word) for word in command)]
    if shutil.which(words[len(leash())]) is None:
        message = f"{what}: {command[0]} is not here"
        raise ProgramError(message)
    done = subprocess.run(  # noqa: S603 - our own words
        words,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=seconds,
        env={**os.environ, **(environment or {})},
    )
    output = b"\n".join((done.stdout, done.stderr)).decode("utf-8", "replace")
    if done.returncode < 0:
        raise death(what, done.returncode)
    if done.returncode:
        message = f"{what}: {Path(command[0]).name} ended with {done.returncode}: {tail(output)}"
        raise ProgramError(message, output)
    return output
