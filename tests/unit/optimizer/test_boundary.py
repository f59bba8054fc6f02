"""What a process that an untrusted model took over may leave behind, and what becomes of it."""

from pathlib import Path

import pytest

from skerry.api.types import ModelFormat
from skerry.optimizer import boundary
from skerry.optimizer.backends.base import Source
from skerry.optimizer.errors import BadModelError, OptimizationError
from skerry.optimizer.redaction import public_uri


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("password")
    return path


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "candidate"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "model.bin").write_text("weights")
    return made


def test_files_are_listed_by_their_names(tmp_path: Path) -> None:
    assert list(boundary.regular_files(folder(tmp_path))) == ["deep/model.bin"]


@pytest.mark.parametrize("directory", [False, True])
def test_links_are_not_taken(tmp_path: Path, secret: Path, *, directory: bool) -> None:
    made = folder(tmp_path)
    (made / "extra").symlink_to(secret.parent if directory else secret)
    with pytest.raises(OptimizationError, match="extra is neither a file nor a folder"):
        boundary.regular_files(made)


def test_a_link_that_comes_later_is_not_followed(tmp_path: Path, secret: Path) -> None:
    link = folder(tmp_path) / "extra"
    link.symlink_to(secret)
    with pytest.raises(OptimizationError, match="extra cannot be copied"):
        boundary.copy(link, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../up", ""])
def test_names_do_not_leave_the_folder(tmp_path: Path, secret: Path, name: str) -> None:
    with pytest.raises(BadModelError):
        boundary.targets(tmp_path, {name: secret})


def test_a_source_s_files_are_its_own(tmp_path: Path, secret: Path) -> None:
    made = folder(tmp_path)
    model = made / "deep" / "model.bin"
    boundary.check_source(Source(model, ModelFormat.ONNX, {"model.bin": model}), [made])
    with pytest.raises(BadModelError, match="stolen of the model is not one of its files"):
        boundary.check_source(Source(model, ModelFormat.ONNX, {"model.bin": model, "stolen": secret}), [made])
    (made / "link").symlink_to(secret)
    with pytest.raises(BadModelError, match="link of the model is not one of its files"):
        boundary.check_source(Source(made / "link", ModelFormat.ONNX, {"link": made / "link"}), [made])


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("oci://r/m:1", "oci://r/m:1"),
        ("https://h/m.onnx", "https://h/m.onnx"),
        ("https://me:secret@h/m.onnx", "https://h/m.onnx"),
        ("https://h/m.onnx?X-Amz-Signature=abc", "https://h/m.onnx?hidden"),
    ],
)
def test_what_is_secret_in_a_uri_is_not_shown(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown
