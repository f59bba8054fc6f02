"""The command line of Google's compiler for the Edge TPU.

The compiler is a program of Google's for x86-64 that nobody may pass on: it is used where somebody has installed it.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skerry.optimizer.errors import BadModelError
from skerry.optimizer.programs import leash

PROGRAM: Final = "edgetpu_compiler"
SUFFIX: Final = "_edgetpu.tflite"
_SECONDS: Final = 900.0
_MESSAGE_LIMIT: Final = 500
_MAPPED: Final = re.compile(r"Number of operations that will run on (Edge TPU|CPU): (\d+)")
_VERSION: Final = re.compile(r"version ([\w.]+)")


def command(model: Path, folder: Path, options: Mapping[str, str]) -> list[str]:
    """Return how the compiler is called."""
    oldest = options.get("minimumRuntime")
    return [PROGRAM, *(["--min_runtime_version", oldest] if oldest else []), "--out_dir", str(folder), str(model)]


def compiled(model: Path, folder: Path, options: Mapping[str, str]) -> tuple[str, str]:
    """Write the compiled model into a folder; return its file's name, and how much of it the Edge TPU runs.

    Raises:
        BadModelError: The compiler refuses the model, or maps nothing of it to the Edge TPU.
    """
    told = _run(command(model, folder, options), _SECONDS)
    target = folder / f"{model.stem}{SUFFIX}"
    mapped = {where: int(count) for where, count in _MAPPED.findall(told)}
    if not target.is_file() or not mapped.get("Edge TPU"):
        message = f"{PROGRAM} maps nothing of the model to the Edge TPU: {_last(told)}"
        raise BadModelError(message)
    target.with_suffix(".log").unlink(missing_ok=True)
    rest = mapped.get("CPU", 0)
    total = mapped["Edge TPU"] + rest
    return target.name, f"the Edge TPU runs {mapped['Edge TPU']} of {total} operations, the CPU {rest}"


def version() -> str:
    """Return the compiler's version."""
    told = _run([PROGRAM, "--version"], _SECONDS)
    found = _VERSION.search(told)
    return found.group(1) if found else _last(told)


def _run(words: list[str], seconds: float) -> str:
    """Return what the compiler says.

    Raises:
        BadModelError: It ends with an error, or not at all.
    """
    try:
        done = subprocess.run(  # noqa: S603 - fixed words and our own paths
            [*leash(), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{PROGRAM} did not end within {seconds:g} seconds"
        raise BadModelError(message) from error
    if done.returncode:
        message = f"{PROGRAM} ended with {done.returncode}: {_last(done.stdout)}"
        raise BadModelError(message)
    return done.stdout


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[-_MESSAGE_LIMIT:] or "it says nothing"
