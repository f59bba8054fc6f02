"""Digests of files and folders, and unpacking what a stranger packed."""

import errno
import hashlib
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, Self

from skerry.store.errors import BadInputError, NotFoundError, TooLargeError, UnsafeArchiveError

CHUNK: Final = 1 << 20
MAX_ENTRIES: Final = 20_000
MAX_RATIO: Final = 200
"""Most bytes that one packed byte may stand for: weights hardly compress, bombs do a thousandfold."""
RATIO_FREE_BYTES: Final = 64 << 20
"""Below this the ratio is not looked at: sparse test files may well compress that much."""
MAX_NAME: Final = 255
MAX_HEADER: Final = 1 << 20
"""Most bytes of one extended tar header: the tar module holds them in memory before anything can be counted."""
_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,  # an encrypted zip; headers nested without end
)
"""What the archive modules raise for bytes that are not what they should be."""
_BAD_NAME: Final = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
_SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_sha256(root: Path) -> str:
    """Return the SHA-256 of a folder's sorted listing.

    The listing has one line `<sha256>  <path>` for each regular file, with the path relative to the folder and `/`
    between its parts, in the order of the paths' bytes: what `find -type f | LC_ALL=C sort | xargs sha256sum` prints
    inside it, without the `./`.

    Raises:
        BadInputError: There is no file, or one whose name would make the listing ambiguous.
    """
    files = {os.fsencode(path.relative_to(root).as_posix()): path for path in root.rglob("*") if path.is_file()}
    if not files:
        message = f"{root} holds no files"
        raise BadInputError(message)
    listing = hashlib.sha256()
    for name in sorted(files):
        if b"\n" in name:
            message = f"{root} has a file whose name holds a newline: {os.fsdecode(name)!r}"
            raise BadInputError(message)
        listing.update(f"{file_sha256(files[name])}  ".encode() + name + b"\n")
    return listing.hexdigest()


def sha256(path: Path) -> str:
    """Return the digest of a file or of a folder's listing.

    Raises:
        NotFoundError: There is neither.
        BadInputError: The folder holds no files.
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
    odd = "\\" in name or ":" in name or any(character < " " or character == "\x7f" for character in name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or odd:
        message = f"the entry {name!r} would be written outside its folder, or has a name that is not portable"
        raise UnsafeArchiveError(message)
    return folder.joinpath(*pure.parts)


def safe_targets(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return where each of several files goes that a server lists.

    Raises:
        BadInputError: One cannot be a file in the folder, or two of them cannot be beside each other.
    """
    try:
        paths = {name: safe_target(folder, name) for name in names}
    except UnsafeArchiveError as error:
        message = str(error).removeprefix("the entry ")
        raise BadInputError(message) from error
    folders = {parent for path in paths.values() for parent in path.parents}
    known: set[Path] = set()
    for name, path in paths.items():
        if path in folders or path in known:
            message = f"{name!r} cannot be a file beside the others"
            raise BadInputError(message)
        if any(len(os.fsencode(part)) > MAX_NAME for part in path.parts):
            message = f"{name!r} is longer than the {MAX_NAME} bytes that a file's name may have"
            raise BadInputError(message)
        known.add(path)
    return paths


class _Header(tarfile.TarInfo):
    """A tar header that refuses extensions too large to be real."""

    _EXTENSIONS: Final = (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in cls._EXTENSIONS and header.size > MAX_HEADER:
            message = f"the archive has a header of {header.size} bytes; at most {MAX_HEADER} are read"
            raise UnsafeArchiveError(message)
        return header


@contextmanager
def _understood() -> Iterator[None]:
    """Turn what the archive modules and odd names raise into our error; a full disk stays what it is."""
    try:
        yield
    except _DAMAGED as error:
        message = f"the archive is damaged or of an unknown kind: {error}"
        raise UnsafeArchiveError(message) from error
    except OSError as error:
        if error.errno is not None and error.errno not in _BAD_NAME:
            raise
        message = f"the archive cannot be unpacked: {error.strerror or error}"
        raise UnsafeArchiveError(message) from error


def _write(source: IO[bytes], target: Path, budget: _Budget) -> None:
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
    with _understood(), tarfile.open(archive, "r|*", tarinfo=_Header) as packed:
        for member in packed:
            budget.entry()
            if member.isdir():
                if PurePosixPath(member.name).parts:
                    safe_target(folder, member.name).mkdir(parents=True, exist_ok=True)
                continue
            target = safe_target(folder, member.name)
            stream = packed.extractfile(member) if member.isreg() else None
            if stream is None:
                raise _not_a_file(member.name)
            _write(stream, target, budget)


def unpack_zip(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a zip archive; the same rules as for tar."""
    budget = _Budget(archive.stat().st_size, max_bytes)
    with _understood(), zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            budget.entry()
            if info.is_dir():
                safe_target(folder, info.filename).mkdir(parents=True, exist_ok=True)
                continue
            if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
                raise _not_a_file(info.filename)
            target = safe_target(folder, info.filename)
            with packed.open(info) as stream:
                _write(stream, target, budget)


def _not_a_file(name: str) -> UnsafeArchiveError:
    return UnsafeArchiveError(f"the archive's entry {name!r} is a link or a device; only files may be in it")


def is_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive that is unpacked after fetching."""
    return name.endswith(_SUFFIXES)


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack an archive into an existing folder, by the kind that its name tells."""
    (unpack_zip if archive.name.endswith(".zip") else unpack_tar)(archive, folder, max_bytes=max_bytes)
