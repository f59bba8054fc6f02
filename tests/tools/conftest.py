"""Workers with the tools of a group: a virtual environment each, made once and kept in the user's cache folder."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import skerry
from devcluster import cache
from devcluster.hosts import cache_folder
from devcluster.process import step
from skerry.optimizer.toolshed import Toolshed, toolshed
from skerry.optimizer.worker import InWorker
from tests.measuring import measure_little, own_environment
from tests.unit.optimizer import models

ROOT = Path(__file__).parents[2]
CODE = Path(skerry.__file__).parents[1]
OLDEST = {"litert": (3, 12)}
SECONDS = 30.0
DONE = "installed"

Workers = Callable[[str], Path]


def pythons() -> Iterator[str]:
    """Yield the Pythons of this machine: this one, those on the PATH, pyenv's, uv's."""
    yield sys.executable
    yield from filter(None, map(shutil.which, ("python3.13", "python3.12")))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/3.1[23].*/bin/python"), reverse=True))
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    yield from map(str, sorted(uv.glob("cpython-3.1[23].*/bin/python3"), reverse=True))


def python_for(group: str) -> str:
    """Return a Python that the group's packages can be had for."""
    oldest = OLDEST.get(group, (3, 11))
    check = f"import sys, venv; sys.exit(sys.version_info < {oldest})"
    for program in pythons():
        if subprocess.run([program, "-c", check], capture_output=True, check=False).returncode == 0:
            return program
    version = ".".join(map(str, oldest))
    pytest.fail(f"the tools of {group} need Python {version} or newer: install one, as with `uv python install 3.13`")


def environment(group: str) -> Path:
    """Return the Python of an environment with the packages of a group, made when its requirements have changed."""
    requirements = ROOT / "requirements" / f"optimizer-{group}.txt"
    python = python_for(group)
    version = subprocess.run([python, "--version"], capture_output=True, check=True).stdout
    store, key = cache_folder() / "tools", cache.digest(requirements, version)
    folder = store / f"{group}-{key}"
    with cache.lock(store, group):
        if not (folder / DONE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with step(f"installing the tools of {group} into {folder}"):
                subprocess.run([python, "-m", "venv", folder], check=True)
                words = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
                words += ["--quiet", "--require-hashes", "--requirement", str(requirements)]
                subprocess.run(words, check=True)
            (folder / DONE).touch()
        for old in cache.older(store, group, key):
            shutil.rmtree(old, ignore_errors=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A folder with a short path, as sockets need one."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for programs that workers shall find."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session")
def worker(sockets: Path, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Start the worker of a group, once, and return the folder of the workers' sockets."""
    started: dict[str, subprocess.Popen[bytes]] = {}

    def begin(group: str) -> Path:
        if group not in started:
            words = [str(environment(group)), "-m", "skerry.optimizer.worker", "--folder", str(sockets)]
            words += ["--group", group, "--work", str(tmp_path_factory.mktemp("work"))]
            variables = {**os.environ, "PYTHONPATH": str(CODE), "PATH": f"{programs}:{os.environ['PATH']}"}
            started[group] = subprocess.Popen(words, env=variables)
        return sockets

    yield begin
    for process in started.values():
        process.terminate()
    for process in started.values():
        process.wait(SECONDS)


@pytest.fixture(scope="session")
def qnn(worker: Workers) -> InWorker:
    """Where QNN is."""
    return InWorker(worker("qnn"), "qnn", SECONDS)


@pytest.fixture(scope="session")
def litert(worker: Workers) -> InWorker:
    """Where LiteRT is."""
    return InWorker(worker("litert"), "litert", SECONDS)


@pytest.fixture(scope="session")
def all_tools(qnn: InWorker, litert: InWorker, worker: Workers) -> Toolshed:
    """Tools here and in both workers."""
    del qnn, litert
    return toolshed(worker("qnn"), ["qnn", "litert"])


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with a small convolutional classifier."""
    return models.save(tmp_path_factory.mktemp("model") / "digits.onnx", models.classifier())


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Npz file with 200 labelled samples for the classifier."""
    images, labels = models.digits()
    return models.save_data(tmp_path_factory.mktemp("data") / "test.npz", image=images, labels=labels)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure little, and take back what an optimization sets for its child processes."""
    measure_little(monkeypatch)
    own_environment(monkeypatch)
