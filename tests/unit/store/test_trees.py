"""Digests of trees, and archives of strangers."""

import contextlib
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.store import trees
from skerry.store.errors import BadInputError, NotFoundError, StoreError, TooLargeError, UnsafeArchiveError

LIMIT = 1 << 30
Pack = Callable[[Path, dict[str, bytes]], Path]


def pack_zip(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pack_tar(folder: Path, files: dict[str, bytes], suffix: str = ".tar") -> Path:
    path = folder / f"archive{suffix}"
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def pack_tgz(folder: Path, files: dict[str, bytes]) -> Path:
    return pack_tar(folder, files, ".tar.gz")


def tar_with(folder: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "archive.tar"
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


packers = pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_tgz])


@packers
def test_files_come_out_as_they_went_in(pack: Pack, tmp_path: Path, out: Path) -> None:
    files = {"model.xml": b"<net/>", "sub/model.bin": bytes(range(256)) * 100, "empty": b""}
    trees.unpack(pack(tmp_path, files), out, max_bytes=LIMIT)
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


@packers
@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "a/../../escaped", "..", "a\\..\\escaped", "C:escaped", "a\nb", "x" * 300]
)
def test_names_that_leave_the_folder_or_are_odd(pack: Pack, name: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(UnsafeArchiveError):
        trees.unpack(pack(tmp_path, {name: b"x"}), out, max_bytes=LIMIT)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [
        next(tmp_path.glob("archive*")).name,
    ]


@pytest.mark.parametrize(
    "bad",
    [
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "model.xml"),
        member("link", tarfile.LNKTYPE, "/etc/passwd"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=["absolute link", "link", "hard link", "device", "pipe"],
)
def test_tar_with_something_else_than_files(bad: tarfile.TarInfo, tmp_path: Path, out: Path) -> None:
    with pytest.raises(UnsafeArchiveError, match="is a link or a device"):
        trees.unpack(tar_with(tmp_path, bad), out, max_bytes=LIMIT)


def test_zip_with_a_link(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="is a link or a device"):
        trees.unpack(path, out, max_bytes=LIMIT)


def test_two_entries_of_one_name(tmp_path: Path, out: Path) -> None:
    twice = tar_with(tmp_path, member("a", tarfile.REGTYPE), member("a", tarfile.REGTYPE))
    with pytest.raises(UnsafeArchiveError, match="two entries named 'a'"):
        trees.unpack(twice, out, max_bytes=LIMIT)


def test_a_file_that_is_also_a_folder(tmp_path: Path, out: Path) -> None:
    both = tar_with(tmp_path, member("a", tarfile.REGTYPE), member("a/b", tarfile.REGTYPE))
    with pytest.raises(UnsafeArchiveError, match="cannot be unpacked"):
        trees.unpack(both, out, max_bytes=LIMIT)


@packers
def test_more_bytes_than_allowed(pack: Pack, tmp_path: Path, out: Path) -> None:
    archive = pack(tmp_path, {"a": b"x" * 600, "b": b"x" * 600})
    with pytest.raises(TooLargeError, match="larger than the limit of 1000 bytes"):
        trees.unpack(archive, out, max_bytes=1000)


@pytest.mark.parametrize("pack", [pack_zip, pack_tgz])
def test_bomb(pack: Pack, tmp_path: Path, out: Path) -> None:
    archive = pack(tmp_path, {"zeros": bytes(trees.RATIO_FREE_BYTES + 1)})
    with pytest.raises(UnsafeArchiveError, match="looks like a zip bomb"):
        trees.unpack(archive, out, max_bytes=LIMIT)


@packers
def test_too_many_entries(pack: Pack, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_ENTRIES", 3)
    with pytest.raises(UnsafeArchiveError, match="more than 3 entries"):
        trees.unpack(pack(tmp_path, {str(number): b"" for number in range(4)}), out, max_bytes=LIMIT)


def test_a_header_that_would_fill_the_memory(tmp_path: Path, out: Path) -> None:
    header = member("././@PaxHeader", tarfile.XHDTYPE)
    header.size = trees.MAX_HEADER + 1
    with pytest.raises(UnsafeArchiveError, match="the archive has a header of"):
        trees.unpack(tar_with(tmp_path, header), out, max_bytes=LIMIT)


def test_headers_nested_without_end(tmp_path: Path, out: Path) -> None:
    headers = []
    for _ in range(3000):
        header = member("././@PaxHeader", tarfile.XHDTYPE)
        header.size = 1
        headers.append(header)
    with pytest.raises(UnsafeArchiveError, match="damaged"):
        trees.unpack(tar_with(tmp_path, *headers), out, max_bytes=LIMIT)


def test_an_encrypted_zip(tmp_path: Path, out: Path) -> None:
    path = pack_zip(tmp_path, {"a": b"content"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the local header …
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # … and in the directory
    path.write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match="encrypted"):
        trees.unpack(path, out, max_bytes=LIMIT)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@given(data=st.binary(max_size=2000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_bytes_that_are_no_archive(name: str, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(data)
    (folder / "out").mkdir()
    try:
        trees.unpack(folder / name, folder / "out", max_bytes=LIMIT)
    except StoreError:
        return
    assert not any((folder / "out").iterdir())


@packers
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_archive_stays_in_its_folder(
    pack: Pack, changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    archive = pack(folder, {"model.xml": b"<net/>" * 20, "sub/model.bin": bytes(range(256))})
    data = bytearray(archive.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    archive.write_bytes(data)
    out = folder / "box" / "out"
    out.mkdir(parents=True)
    with contextlib.suppress(StoreError):
        trees.unpack(archive, out, max_bytes=1 << 20)
    assert {path.name for path in folder.iterdir()} == {archive.name, "box"}
    assert [path.name for path in (folder / "box").iterdir()] == ["out"]
    assert not any(path.is_symlink() for path in out.rglob("*"))


segments = st.text(alphabet="ab./\\:\0\n ", max_size=12)


@settings(deadline=None)
@given(segments)
def test_targets_are_below_the_folder(name: str) -> None:
    try:
        target = trees.safe_target(Path("/box/out"), name)
    except UnsafeArchiveError:
        return
    assert target.resolve().is_relative_to("/box/out")
    assert target != Path("/box/out")


def test_the_digest_of_a_tree_is_that_of_its_listing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "b.xml").write_bytes(b"2")
    (tmp_path / "Z").write_bytes(b"3")
    lines = [(b"3", "Z"), (b"2", "b.xml"), (b"1", "b/x")]
    listing = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for content, name in lines)
    assert trees.sha256(tmp_path) == hashlib.sha256(listing.encode()).hexdigest()


def test_the_digest_of_a_tree_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / b"\xff.bin".decode(errors="surrogateescape")
    path.write_bytes(b"1")
    listing = hashlib.sha256(b"1").hexdigest().encode() + b"  \xff.bin\n"
    assert trees.sha256(tmp_path) == hashlib.sha256(listing).hexdigest()


def test_no_digest_without_files_or_with_ambiguous_names(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neither a file nor a folder"):
        trees.sha256(tmp_path / "missing")
    with pytest.raises(BadInputError, match="holds no files"):
        trees.sha256(tmp_path)
    (tmp_path / "a\nb").write_bytes(b"")
    with pytest.raises(BadInputError, match="newline"):
        trees.sha256(tmp_path)
