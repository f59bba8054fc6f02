"""What comes from processes that touched an untrusted model is looked at before it is copied or published.

Such a process writes files into folders that it shares with the search, and names files. A link could point to what
only the search may read, a name could leave the folder.
"""

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.optimizer.backends.base import Source
from skerry.optimizer.errors import BadModelError, OptimizationError
from skerry.store import trees
from skerry.store.errors import BadInputError


def regular_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their relative names.

    Raises:
        OptimizationError: There is something that is neither a file nor a folder, such as a link.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[path.relative_to(folder).as_posix()] = path
        elif not stat.S_ISDIR(mode):
            message = f"{path.name} is neither a file nor a folder; links are not taken"
            raise OptimizationError(message)
    return found


def check_source(source: Source, roots: Sequence[Path]) -> None:
    """Refuse a source whose files are not where the source, or what was made of it, is.

    Raises:
        BadModelError: A file lies elsewhere, or its name would leave a folder.
    """
    within = [root.resolve() for root in roots]
    files = {**source.files, source.path.name: source.path}
    for name, path in files.items():
        if not any(path.resolve().is_relative_to(root) for root in within):
            message = f"{name} of the model is not one of its files"
            raise BadModelError(message)
    targets(Path("/nowhere"), source.files)


def targets(folder: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """Return where files of such names go below a folder.

    Raises:
        BadModelError: A name would leave it.
    """
    try:
        return trees.safe_targets(folder, files)
    except BadInputError as error:
        raise BadModelError(str(error)) from error


def copy(path: Path, target: Path) -> None:
    """Copy a file's bytes.

    Raises:
        OptimizationError: It is a link by now.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        message = f"{path.name} cannot be copied: {error.strerror}"
        raise OptimizationError(message) from error
    with os.fdopen(descriptor, "rb") as source, target.open("wb") as made:
        shutil.copyfileobj(source, made)
