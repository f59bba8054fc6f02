"""Digests of files and folders, and unpacking what a stranger packed."""

import hashlib
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from skerry.store.errors import NotFoundError, TooLargeError, UnsafeArchiveError

CHUNK: Final = 1 << 20
MAX_ENTRIES: Final = 20_000
MAX_RATIO: Final = 200
"""Most bytes that one packed byte may stand for: weights hardly compress, bombs do a thousandfold."""
RATIO_FREE_BYTES: Final = 64 << 20
"""Below this the ratio is not looked at: sparse test files may well compress that much."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_sha256(root: Path) -> str:
    """Return the SHA-256 of a folder's sorted listing.

    The listing has one line `<sha256>  <path>` for each regular file, with the path relative to the folder and `/`
    between its parts, in the order of the paths' bytes: what `find -type f | LC_ALL=C sort | xargs sha256sum` prints
    inside it, without the `./`.
    """
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    listing = "".join(f"{file_sha256(files[name])}  {name}\n" for name in sorted(files, key=str.encode))
    return hashlib.sha256(listing.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the digest of a file or of a folder's listing.

    Raises:
        NotFoundError: There is neither.
    """
    if path.is_dir():
        return tree_sha256(path)
    if path.is_file():
        return file_sha256(path)
    message = f"{path} is neither a file nor a folder"
    raise NotFoundError(message)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class _Budget:
    """Counts entries and bytes that an archive yields, and stops a bomb."""

    def __init__(self, packed: int, max_bytes: int) -> None:
        self._packed = packed
        self._max_bytes = max_bytes
        self._entries = 0
        self._bytes = 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            message = f"the archive has more than {MAX_ENTRIES} entries"
            raise UnsafeArchiveError(message)

    def take(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._max_bytes:
            message = f"unpacked, the archive is larger than the limit of {self._max_bytes} bytes"
            raise TooLargeError(message)
        if self._bytes > RATIO_FREE_BYTES and self._bytes > MAX_RATIO * max(self._packed, 1):
            message = f"the archive unpacks to more than {MAX_RATIO} times its size: it looks like a zip bomb"
            raise UnsafeArchiveError(message)


def safe_target(folder: Path, name: str) -> Path:
    """Return where an archive's entry goes.

    Raises:
        UnsafeArchiveError: That is outside the folder, or not a portable name.
    """
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name:
        message = f"the archive has an entry named {name!r}, which would be written outside its folder"
        raise UnsafeArchiveError(message)
    return folder.joinpath(*pure.parts)


def _write(source: BinaryIO, target: Path, budget: _Budget) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = target.open("xb")
    except FileExistsError as error:
        message = f"the archive has two entries named {target.name!r}"
        raise UnsafeArchiveError(message) from error
    with stream:
        while chunk := source.read(CHUNK):
            budget.take(len(chunk))
            stream.write(chunk)


def unpack_tar(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a tar archive, compressed or not; only regular files and folders may be in it.

    Raises:
        UnsafeArchiveError: It has links, devices, names that leave the folder, too many entries, or cannot be read.
        TooLargeError: It is larger than `max_bytes` when unpacked.
    """
    budget = _Budget(archive.stat().st_size, max_bytes)
    try:
        with tarfile.open(archive, "r|*") as packed:
            for member in packed:
                budget.entry()
                if member.isdir():
                    if PurePosixPath(member.name).parts:
                        safe_target(folder, member.name).mkdir(parents=True, exist_ok=True)
                    continue
                target = safe_target(folder, member.name)
                stream = packed.extractfile(member) if member.isreg() else None
                if stream is None:
                    message = f"the archive's entry {member.name!r} is a link or a device; only files may be in it"
                    raise UnsafeArchiveError(message)
                _write(stream, target, budget)  # type: ignore[arg-type]
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError) or not isinstance(
            error, OSError
        ):
            message = f"the archive cannot be unpacked: {error}"
            raise UnsafeArchiveError(message) from error
        raise


def unpack_zip(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a zip archive; the same rules as for tar."""
    budget = _Budget(archive.stat().st_size, max_bytes)
    try:
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                budget.entry()
                if info.is_dir():
                    safe_target(folder, info.filename).mkdir(parents=True, exist_ok=True)
                    continue
                if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
                    message = f"the archive's entry {info.filename!r} is a link or a device; only files may be in it"
                    raise UnsafeArchiveError(message)
                with packed.open(info) as stream:
                    _write(stream, safe_target(folder, info.filename), budget)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        message = f"the archive cannot be unpacked: {error}"
        raise UnsafeArchiveError(message) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        message = f"the archive cannot be unpacked: {error}"
        raise UnsafeArchiveError(message) from error


def is_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive that is unpacked after fetching."""
    return name.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def unpack(archive: Path, folder: Path, *, name: str, max_bytes: int) -> None:
    """Unpack an archive into an existing folder, by the kind that its name tells."""
    (unpack_zip if name.endswith(".zip") else unpack_tar)(archive, folder, max_bytes=max_bytes)
