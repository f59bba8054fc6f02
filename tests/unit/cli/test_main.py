"""The command line without a network."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.cli.main import run

HEAVY = (
    "httpx",
    "pydantic",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "kubernetes",
    "kopf",
    "skerry.optimizer",
)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from skerry.cli.main import run\n"
        "code = run(['--help'])\n"
        f"print('imported:', [name for name in {HEAVY!r} if name in sys.modules])\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout
    for command in ("push", "pull", "digest", "optimize", "report", "version"):
        assert command in done.stdout


@pytest.mark.parametrize("words", ["version", "--version"])
def test_version(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([words]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_digest_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    assert run(["digest", str(path)]) == 0
    assert capsys.readouterr().out == hashlib.sha256(b"model").hexdigest() + "\n"


def test_digest_of_a_folder_is_what_coreutils_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/x.bin", "b.xml", "ä.txt", "Z"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    command = "find -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sed 's#  ./#  #' | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S602
    assert run(["digest", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == expected.stdout.split()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["frobnicate"], os.EX_USAGE, "No such command 'frobnicate'"),
        (["push"], os.EX_USAGE, "Missing argument"),
        (["push", "{file}", "registry/a:1"], os.EX_USAGE, "does not begin with oci://"),
        (["push", "{file}", "oci://registry/a"], os.EX_DATAERR, "names neither a tag nor a digest"),
        (["push", "{file}", "oci://registry/A:1"], os.EX_DATAERR, "is not a reference of the form"),
        (["push", "{file}", "oci://registry/a@sha256:" + "0" * 64], os.EX_USAGE, "a push needs a tag"),
        (["push", "{file}/missing", "oci://registry/a:1"], os.EX_NOINPUT, "neither a file nor a folder with files"),
        (["push", "{file}", "oci://registry/a:1", "--username", "u"], os.EX_USAGE, "belong together"),
        (["push", "{file}", "oci://registry/a:1", "--password-stdin"], os.EX_USAGE, "belong together"),
        (["push", "{file}", "oci://registry/a:1", "--credentials", "{file}"], os.EX_CONFIG, "not a Docker configur"),
        (["push", "{file}", "oci://registry/a:1", "--credentials", "/missing"], os.EX_IOERR, "No such file"),
        (["push", "{file}", "oci://registry/a:1", "--ca-file", "{file}"], os.EX_CONFIG, "certificate authorities"),
        (["pull", "oci://registry/a:1", "{folder}"], os.EX_CANTCREAT, "is not an empty folder"),
        (["digest", "{file}/missing"], os.EX_DATAERR, "neither a file nor a folder"),
    ],
)
def test_errors_are_one_clear_message_and_a_code(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    file = tmp_path / "file"
    file.write_text("content", encoding="utf-8")
    filled = [argument.format(file=file, folder=tmp_path) for argument in arguments]
    assert run(filled) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert sentence in " ".join(output.err.replace("│", " ").split())
