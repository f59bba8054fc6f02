"""An image is built again when what it is made of changed, and only then."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devcluster import images, loading, parts
from devcluster.errors import CommandError, DevclusterError
from devcluster.loading import Wanted, archive_images, full_name, mark_script, present
from devcluster.process import run, succeeds

ROOT = Path(__file__).parents[3]
OCI_NAME = "org.opencontainers.image.ref.name"


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / "server"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (folder / "inputs.txt").write_text("# what it is made of\ncode/**\nlock.txt\n")
    (tmp_path / "code" / "deep" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "a.py").write_text("1")
    (tmp_path / "code" / "deep" / "b.py").write_text("2")
    (tmp_path / "code" / "deep" / "__pycache__" / "b.pyc").write_text("x")
    (tmp_path / "lock.txt").write_text("pin")
    (tmp_path / "other.txt").write_text("o")
    return tmp_path


def test_inputs_are_the_dockerfile_and_what_the_globs_name(root: Path) -> None:
    found = [path.relative_to(root).as_posix() for path in images.inputs("server", root)]
    assert found == ["code/a.py", "code/deep/b.py", "images/server/Dockerfile", "lock.txt"]


@pytest.mark.parametrize("changed", ["images/server/Dockerfile", "code/deep/b.py", "lock.txt", "code/new.py"])
def test_a_reference_changes_with_each_input(root: Path, changed: str) -> None:
    before = images.reference("server", "base:1", root)
    (root / changed).write_text("changed")
    assert images.reference("server", "base:1", root) != before


def test_a_reference_changes_with_the_base_and_with_nothing_else(root: Path) -> None:
    before = images.reference("server", "base:1", root)
    (root / "other.txt").write_text("changed")
    (root / "code" / "deep" / "__pycache__" / "b.pyc").write_text("changed")
    assert images.reference("server", "base:1", root) == before
    assert images.reference("server", "base:2", root) != before


def test_a_glob_that_matches_nothing_is_an_error_that_names_it(root: Path) -> None:
    (root / "images/server/inputs.txt").write_text("cod/**\n")
    with pytest.raises(DevclusterError, match=r"images/server/inputs\.txt: 'cod/\*\*' matches no file"):
        images.inputs("server", root)


def test_a_missing_list_of_inputs_is_an_error_that_says_what_it_is(root: Path) -> None:
    (root / "images/server/inputs.txt").unlink()
    with pytest.raises(DevclusterError, match=r"images/server/inputs\.txt is missing"):
        images.inputs("server", root)


def test_the_registry_is_one_of_the_images(root: Path) -> None:
    assert images.names(root) == ["server", "registry"]


def test_an_image_on_nvidias_base_is_not_built_here(root: Path) -> None:
    (root / "images/server/Dockerfile").write_text("ARG BASE=nvcr.io/nvidia/tensorrt:25.10-py3\nFROM ${BASE}\n")
    assert images.names(root) == ["registry"]
    assert "optimizer-tensorrt" not in images.names()
    assert images.inputs("optimizer-tensorrt")


def test_an_image_stands_on_the_debian_that_its_dockerfile_names(root: Path) -> None:
    dockerfile = root / "images/server/Dockerfile"
    for wanted in ("sid", "trixie"):
        dockerfile.write_text(f"# c\nARG BASE=docker.io/library/debian:{wanted}-slim\nFROM ${{BASE}}\n")
        assert images.suite("server", root) == wanted


@pytest.mark.parametrize(
    "line", ["ARG BASE", "ARG BASE=docker.io/library/debian:woody-slim", "ARG BASE=docker.io/library/fedora:42"]
)
def test_an_image_on_another_base_is_an_error_that_says_which_line_is_wanted(root: Path, line: str) -> None:
    (root / "images/server/Dockerfile").write_text(f"{line}\nFROM ${{BASE}}\n")
    with pytest.raises(DevclusterError, match=r"images/server/Dockerfile must say .* SUITE is one of .*sid"):
        images.suite("server", root)


def test_every_image_of_the_project_names_its_debian() -> None:
    found = {name: images.suite(name) for name in images.names() if name != images.REGISTRY}
    assert found["operator"] == "trixie"
    assert found["optimizer-llamacpp"] == "sid"


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.example/a/b@sha256:00", "registry.example/a/b@sha256:00"),
    ],
)
def test_names_are_completed_as_engines_do(reference: str, full: str) -> None:
    assert full_name(reference) == full


def archive(path: Path, name: str, document: object) -> Path:
    data = json.dumps(document).encode()
    with tarfile.open(path, "w") as target:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        target.addfile(entry, io.BytesIO(data))
    return path


def test_archives_of_both_kinds_say_what_they_hold(tmp_path: Path) -> None:
    docker = archive(tmp_path / "docker.tar", "manifest.json", [{"RepoTags": ["a:1", "localhost/b:2"]}])
    oci = archive(tmp_path / "oci.tar", "index.json", {"manifests": [{"annotations": {OCI_NAME: "localhost/c:3"}}]})
    assert [image.name for image in archive_images(docker)] == ["docker.io/library/a:1", "localhost/b:2"]
    assert [image.name for image in archive_images(oci)] == ["localhost/c:3"]
    assert archive_images(docker)[0].mark != archive_images(oci)[0].mark


def test_what_is_no_archive_of_named_images_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(DevclusterError, match="is no image archive"):
        archive_images(text)
    with pytest.raises(DevclusterError, match="is no image archive"):
        archive_images(archive(tmp_path / "other.tar", "readme", {}))
    with pytest.raises(DevclusterError, match="have no names"):
        archive_images(archive(tmp_path / "nameless.tar", "manifest.json", [{"RepoTags": None}]))


def test_marks_of_loaded_images_are_read_back() -> None:
    listing = (
        "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
        f"localhost/a:1 application/x sha256:00 1.0 KiB linux/amd64 {loading.MARK}=ab12,managed=yes\n"
        f"localhost/b:1 application/x sha256:01 1.0 KiB linux/amd64 managed=yes,{loading.MARK}=cd34\n"
        "localhost/c:1 application/x sha256:02 1.0 KiB linux/amd64 managed=yes\n"
    )
    assert present(listing) == {Wanted("localhost/a:1", "ab12"), Wanted("localhost/b:1", "cd34")}
    assert f"'localhost/a:1' '{loading.MARK}=ab12'" in mark_script([Wanted("localhost/a:1", "ab12")])


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("kind v0.33.0 go1.26.8 linux/amd64", (0, 33, 0)),
        ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", (1, 32, 4)),
        ("v4.3+g0", (4, 3)),
        ("", ()),
    ],
)
def test_versions_are_read_as_programs_print_them(text: str, version: tuple[int, ...]) -> None:
    assert parts.version_of(text) == version


def test_versions_compare_as_numbers() -> None:
    assert parts.version_of("v1.9.0") < (1, 34) <= parts.version_of("v1.34.0")
    assert parts.version_of("no number") < (0, 1)


def test_every_part_has_its_pins() -> None:
    for part in parts.PARTS.values():
        pins = (part.folder / "go.mod").read_text()
        assert pins.startswith(f"module skerry.dev/devcluster/{part.name}\n")
        assert ("require" in pins) == (part.folder / "go.sum").is_file()
    versions = (parts.PARTS["kubernetes"].folder / "go.mod").read_text()
    assert f"k8s.io/kubernetes {parts.KUBERNETES_VERSION}" in versions
    assert parts.LOCAL_PATH_VERSION in (parts.PARTS["local-path"].folder / "go.mod").read_text()


def test_a_failed_command_says_which_with_what_and_how_it_ended() -> None:
    with pytest.raises(CommandError, match=r"sh -c .* ended with 3:\nno luck") as failed:
        run("sh", "-c", "echo no luck >&2; exit 3")
    assert failed.value.code == 3
    with pytest.raises(CommandError, match="no-such-program: no such program"):
        run("no-such-program")
    with pytest.raises(CommandError, match=r"not done after 0\.1 s"):
        run("sleep", "60", timeout=0.1)
    assert succeeds("true")
    assert not succeeds("false")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is what ties them together")
def test_a_command_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = "from devcluster.process import run; run('sh', '-c', f'echo $$ > {sys.argv[1]}; exec sleep 600')"
    pid_file = tmp_path / "pid"
    started = subprocess.Popen([sys.executable, "-c", f"import sys; {script}", str(pid_file)], cwd=ROOT)
    eventually(lambda: pid_file.is_file() and pid_file.read_text().endswith("\n"))
    child = Path("/proc") / pid_file.read_text().strip()
    assert child.exists()
    started.kill()
    started.wait()
    eventually(lambda: not child.exists() or "State:\tZ" in (child / "status").read_text())
