"""The command line of the Edge TPU's compiler, which a stand-in takes."""

from pathlib import Path

import pytest

from skerry.optimizer.backends import edgetpu_compiler as compiler
from skerry.optimizer.errors import BadModelError

WORKS = 'cp "$5" "$4/m_edgetpu.tflite"; touch "$4/m_edgetpu.log"; '
MAPPED = (
    'echo "Number of operations that will run on Edge TPU: 31"; echo "Number of operations that will run on CPU: 2"'
)
OPTIONS = {"minimumRuntime": "12"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"model")
    return path


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / compiler.PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_the_command_line() -> None:
    model, folder = Path("/a/m.tflite"), Path("/b")
    assert compiler.command(model, folder, {}) == ["edgetpu_compiler", "--out_dir", "/b", "/a/m.tflite"]
    assert compiler.command(model, folder, OPTIONS) == [
        *("edgetpu_compiler", "--min_runtime_version", "12", "--out_dir", "/b", "/a/m.tflite")
    ]


def test_what_it_makes_and_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    stand_in(tmp_path, monkeypatch, WORKS + MAPPED)
    out = tmp_path / "out"
    out.mkdir()
    assert compiler.compiled(model, out, OPTIONS) == (
        "m_edgetpu.tflite",
        "the Edge TPU runs 31 of 33 operations, the CPU 2",
    )
    assert [path.name for path in out.iterdir()] == ["m_edgetpu.tflite"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo Invalid model: m.tflite; exit 1", "edgetpu_compiler ended with 1: Invalid model: m.tflite"),
        (WORKS + 'echo "Number of operations that will run on CPU: 3"', "maps nothing of the model to the Edge TPU"),
        (MAPPED, "maps nothing of the model to the Edge TPU"),
        ("sleep 600", r"did not end within 0\.5 seconds"),
    ],
)
def test_what_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, script: str, message: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    monkeypatch.setattr(compiler, "_SECONDS", 0.5)
    with pytest.raises(BadModelError, match=message):
        compiler.compiled(model, tmp_path, OPTIONS)


@pytest.mark.parametrize(
    ("told", "version"), [("Edge TPU Compiler version 16.0.384591198", "16.0.384591198"), ("16", "16")]
)
def test_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, version: str) -> None:
    stand_in(tmp_path, monkeypatch, f"echo {told}")
    assert compiler.version() == version
