"""A cache by content: what was built from the same inputs is not built again, and what is half built is not there."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


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
    Older folders of the same name are removed.
    """
    final = store / f"{name}-{key}"
    if final.is_dir():
        return final
    store.mkdir(parents=True, exist_ok=True)
    for leftover in store.glob(f".{name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=store))
    try:
        make(work)
        work.chmod(0o755)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for old in store.glob(f"{name}-*"):
        if old != final and len(old.name) == len(final.name):
            shutil.rmtree(old, ignore_errors=True)
    return final


@contextmanager
def lock(store: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends."""
    store.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(store / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
