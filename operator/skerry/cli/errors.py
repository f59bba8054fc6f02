"""How commands end: sysexits codes, and the one error that carries its code itself.

0 done · 64 the command line is wrong · 65 the file, URI or artifact is wrong · 69 a server does not answer ·
73 the output cannot be written there · 74 reading or writing a file failed · 78 credentials, certificates or settings
are missing or wrong · 130 interrupted; anything else is a defect of Skerry.
"""

import os
from collections.abc import Iterable
from importlib.util import find_spec

from skerry.store.errors import BadInputError, StoreError, UnreachableError

INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot be carried out; the message is one sentence for the user."""

    def __init__(self, message: str, code: int = os.EX_DATAERR) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: CommandError | StoreError | OSError) -> int:
    """Return the exit code of an error that a user can do something about."""
    match error:
        case CommandError():
            return error.code
        case BadInputError():
            return os.EX_DATAERR
        case UnreachableError():
            return os.EX_UNAVAILABLE
        case StoreError():
            return os.EX_CONFIG
        case OSError():
            return os.EX_IOERR


def need(what: str, packages: Iterable[str], part: str) -> None:
    """Refuse to begin when packages are missing.

    Args:
        what: What needs them; begins the message.
        packages: Their names as they are imported.
        part: The part of Skerry that brings them, and how to install it.

    Raises:
        CommandError: Some are missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        message = f"{what} needs {', '.join(missing)}: install Skerry with {part}"
        raise CommandError(message, os.EX_CONFIG)
