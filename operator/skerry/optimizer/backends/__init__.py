"""One module a tool, with the class `Tool` in it; see `skerry.accelerators.recipes` for what each can make.

A module is imported only when it is used, in a child process: it imports its framework.
"""

import contextlib
import hashlib
import importlib
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from skerry.accelerators.recipes import book
from skerry.api.types import Framework
from skerry.optimizer.backends.base import Backend, LanguageBackend, Made, Source, Work
from skerry.optimizer.errors import ConfigurationError


def maker(tool: str) -> Backend:
    """Return the backend of a tool."""
    module = importlib.import_module(f"{__name__}.{tool}")
    found: Backend = module.Tool()
    return found


def runner(framework: Framework) -> Backend:
    """Return the backend that loads models in a framework.

    Raises:
        ConfigurationError: There is none.
    """
    tool = book().runner(framework)
    if tool is None:
        message = f"no tool of this version runs models in {framework}"
        raise ConfigurationError(message)
    return maker(tool.tool)


def language_runner(framework: Framework) -> LanguageBackend:
    """Return the backend that loads language models in a framework."""
    found: Any = runner(framework)
    if not isinstance(found, LanguageBackend):
        message = f"{framework} runs no language models"
        raise ConfigurationError(message)
    return found


def prepare(framework: Framework, source: Source, folder: Path) -> Source:
    """Return a language model in a form that a framework loads, without any loss."""
    return language_runner(framework).prepare(source, folder)


def make(tool: str, work: Work) -> Made:
    """Make a candidate."""
    return maker(tool).make(work)


def versions(tool: str) -> dict[str, str]:
    """Return what a tool consists of here: the versions of its packages, the SHA-256 of its programs."""
    found: dict[str, str] = {}
    for package in book().tools[tool].packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    for program in book().tools[tool].programs:
        if (path := shutil.which(program)) is not None:
            found[program] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found
