"""A cache by content: what was built from the same inputs is not built again, and what is half built is not there."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster.process import say


def digest(*parts: str | bytes | Path) -> str:
    """Return twelve hexadecimal digits that stand for the parts; a path stands for the file's content."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()[:12]


def tree_digest(root: Path, files: Iterable[Path]) -> str:
    """Return the digest of files by their names below the root and their contents."""
    parts: list[str | bytes | Path] = []
    for path in sorted(files):
        parts += [path.relative_to(root).as_posix(), path]
    return digest(*parts)


def folder(store: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name-key` of the store; `make` fills it when it is not there.

    It is filled under another name and renamed when it is whole, so that a killed run leaves nothing that looks done.
    Older folders of the same name are removed. Of two runs that want the same one, the second waits.
    """
    final = store / f"{name}-{key}"
    if final.is_dir():
        return final
    with lock(store, name):
        if final.is_dir():
            return final
        for leftover in store.glob(f".{name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=store))
        try:
            make(work)
            work.chmod(0o755)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        for old in older(store, name, key):
            shutil.rmtree(old, ignore_errors=True)
    return final


def older(store: Path, name: str, key: str) -> list[Path]:
    """Return the folders of a name that were made from other inputs than the key stands for."""
    pattern = f"{name}-{'[0-9a-f]' * len(key)}"
    return sorted(path for path in store.glob(pattern) if path.is_dir() and path.name != f"{name}-{key}")


@contextmanager
def scratch(store: Path) -> Iterator[Path]:
    """Give an empty folder that is removed afterwards; those of killed runs are removed first."""
    place = store / "scratch"
    with lock(store, "scratch"):
        place.mkdir(exist_ok=True)
        for leftover in place.iterdir():
            if not Path("/proc", leftover.name.split("-")[0]).exists():
                shutil.rmtree(leftover, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def lock(store: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends; say so when another run has it."""
    store.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(store / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"== waiting for another run that works on {name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
