"""Running programs, saying what goes on."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from devcluster.errors import CommandError

HEARTBEAT_SECONDS = 30
# The codes with which a shell and `timeout` say the same.
NOT_FOUND = 127
TIMED_OUT = 124


def say(text: str) -> None:
    """Print a line for people on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins and how long it took, with a sign of life every half minute."""
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"   … {text} ({time.monotonic() - started:.0f} s)")

    say(f"== {text}")
    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    say(f"   {text}: {time.monotonic() - started:.1f} s")


@cache
def _leash() -> tuple[str, ...]:
    """Return the words before a command that end it when this process is killed, where the machine has them.

    A build or a half-made cluster that goes on alone would get in the way of the next run, which cleans up after this.
    """
    return ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    text: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and return its stdout.

    Args:
        command: The program and its arguments.
        env: Variables added to the environment.
        cwd: The folder to run in.
        text: What the program reads from stdin.
        timeout: Seconds after which the program is ended.

    Raises:
        CommandError: The program ended with an error, could not be started, or did not end in time.
    """
    words = [str(word) for word in command]
    if not shutil.which(words[0]):
        raise CommandError(words, NOT_FOUND, f"{words[0]}: no such program")
    try:
        done = subprocess.run(
            [*_leash(), *words],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(words, TIMED_OUT, f"not done after {timeout} s") from error
    if done.returncode != 0:
        raise CommandError(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def succeeds(*command: str | Path, env: Mapping[str, str] | None = None, timeout: float | None = 60) -> bool:
    """Tell whether a program ends well."""
    try:
        run(*command, env=env, timeout=timeout)
    except CommandError:
        return False
    return True
