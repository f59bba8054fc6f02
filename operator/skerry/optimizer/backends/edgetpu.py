"""Google's compiler for the Edge TPU: from a full integer model to one with the Edge TPU's own operator in it.

The compiler is a program of Google's for x86-64 that nobody may pass on: it is used where somebody has installed it.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ai_edge_quantizer import recipe

from skerry.optimizer.backends import tflite_file
from skerry.optimizer.backends.base import Made, Session, Work
from skerry.optimizer.backends.litert import INTEGER_INTERFACE, float_model, full_integer, tools
from skerry.optimizer.errors import BadModelError, ConfigurationError

COMPILER: Final = "edgetpu_compiler"
_SUFFIX: Final = "_edgetpu.tflite"
_STEM: Final = "model"
_SECONDS: Final = 900
_MESSAGE_LIMIT: Final = 500
_MAPPED: Final = re.compile(r"Number of operations that will run on (Edge TPU|CPU): (\d+)")
_VERSION: Final = re.compile(r"version ([\w.]+)")


class Tool:
    """Quantization and compilation."""

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        with tempfile.TemporaryDirectory(dir=work.folder.parent, prefix="edgetpu-") as scratch:
            fixed, integers = (Path(scratch) / name for name in ("fixed.tflite", f"{_STEM}.tflite"))
            model = tflite_file.read(float_model(work, Path(scratch)))
            tflite_file.fix_batch(model)  # the Edge TPU has no free dimensions
            tflite_file.write(model, fixed)
            full_integer(fixed, recipe.static_wi8_ai8(), work, integers)
            remark = compiled(integers, work.folder, work.request.options)
        versions = {**tools(work.source.format), COMPILER: compiler_version()}
        return Made(_STEM + _SUFFIX, dict(INTEGER_INTERFACE), "INT8", versions, remark, one_by_one=True)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load nothing: models are run by LiteRT.

        Raises:
            ConfigurationError: Always.
        """
        del settings, threads, device
        message = f"the Edge TPU's compiler does not run models: {model.name}"
        raise ConfigurationError(message)


def command(model: Path, folder: Path, options: Mapping[str, str]) -> list[str]:
    """Return how the compiler is called."""
    oldest = options.get("minimumRuntime")
    return [COMPILER, *(["--min_runtime_version", oldest] if oldest else []), "--out_dir", str(folder), str(model)]


def compiled(model: Path, folder: Path, options: Mapping[str, str]) -> str:
    """Write the compiled model into a folder, and return how much of it the Edge TPU runs.

    Raises:
        BadModelError: The compiler refuses the model, or maps nothing of it to the Edge TPU.
    """
    told = _run(command(model, folder, options))
    target = folder / f"{model.stem}{_SUFFIX}"
    mapped = {where: int(count) for where, count in _MAPPED.findall(told)}
    if not target.is_file() or not mapped.get("Edge TPU"):
        message = f"{COMPILER} maps nothing of the model to the Edge TPU: {_last(told)}"
        raise BadModelError(message)
    (folder / f"{model.stem}_edgetpu.log").unlink(missing_ok=True)
    rest = mapped.get("CPU", 0)
    return f"the Edge TPU runs {mapped['Edge TPU']} of {mapped['Edge TPU'] + rest} operations, the CPU {rest}"


def compiler_version() -> str:
    """Return the compiler's version."""
    told = _run([COMPILER, "--version"])
    found = _VERSION.search(told)
    return found.group(1) if found else _last(told)


def _run(words: list[str]) -> str:
    """Return what the compiler says.

    Raises:
        BadModelError: It ends with an error, or not at all.
    """
    try:
        done: Any = subprocess.run(  # noqa: S603 - fixed words and our own paths
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"{COMPILER} did not end within {_SECONDS} seconds"
        raise BadModelError(message) from error
    if done.returncode:
        message = f"{COMPILER} ended with {done.returncode}: {_last(done.stdout)}"
        raise BadModelError(message)
    return str(done.stdout)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[-_MESSAGE_LIMIT:] or "it says nothing"
