"""The project's images, built when they have changed, and workers in them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster import images
from devcluster.engine import Engine, engine
from skerry.optimizer.worker import InWorker
from tests.measuring import measure_little, own_environment

ROOT = Path(__file__).parents[2]
TINY = ROOT / "examples" / "tiny-llm" / "train.py"


@dataclass(frozen=True)
class LanguageModel:
    """The example's language model, and what training found out about it."""

    folder: Path
    test: Path
    calibration: Path
    figures: dict[str, Any]


@dataclass(frozen=True)
class Worker:
    """A worker in a container without a network, and the folder that it shares with the tests."""

    place: InWorker
    folder: Path
    engine: Engine
    container: str

    def made_by(self, script: Path) -> Path:
        """Run a script in the container, in a folder of its own which is returned."""
        folder = self.folder / script.stem
        folder.mkdir()
        shutil.copy(script, folder)
        self.engine.run("exec", "--workdir", str(folder), self.container, "python", script.name)
        return folder

    def programs(self) -> list[str]:
        """Return the names of the programs that run in the container, without those that ended unnoticed."""
        look = "grep -L '^State:.Z' /proc/[0-9]*/status 2>/dev/null | xargs sed -n 's/^Name:.//p' 2>/dev/null || true"
        return self.engine.run("exec", self.container, "sh", "-c", look).split()


@pytest.fixture(scope="module")
def open_files() -> Iterator[None]:
    """Let the worker, which is another user, write into folders that are made here: in a pod both are one."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment only: what is tested is not how fast models are."""
    measure_little(monkeypatch)
    own_environment(monkeypatch)


@pytest.fixture(scope="session")
def language_model() -> LanguageModel:
    """The tiny language model, trained unless that is done since the script changed."""
    folder = ROOT / ".work" / "tiny-llm"
    done = folder / "figures.json"
    if not done.exists() or done.stat().st_mtime < TINY.stat().st_mtime:
        subprocess.run([sys.executable, TINY, folder], check=True)
    figures = json.loads(done.read_text())
    return LanguageModel(folder / "model", folder / "test.txt", folder / "calibration.txt", figures)


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Worker]]:
    """Start the worker of a group, once."""
    started: dict[str, Worker] = {}

    def start(group: str) -> Worker:
        if group not in started:
            started[group] = _start(group, tmp_path_factory.mktemp(group))
        return started[group]

    yield start
    for worker in started.values():
        worker.engine.succeeds("rm", "--force", "--time", "0", worker.container)


def _start(group: str, folder: Path) -> Worker:
    """Start a worker as pods do: another user, no network, its own root read-only, a work folder that it shares."""
    folder.chmod(0o777)
    here = engine()
    name = f"optimizer-{group}"
    container = here.run(
        *("run", "--detach", "--network", "none", "--read-only", "--tmpfs", "/tmp"),  # noqa: S108 - inside the container
        *("--volume", f"{folder}:{folder}"),
        images.build(here, [name])[name],
        *("--folder", folder / "sockets", "--group", group, "--work", folder / "work"),
    ).strip()
    socket = folder / "sockets" / f"{group}.sock"
    deadline = time.monotonic() + 120
    while not socket.exists():
        assert time.monotonic() < deadline, here.run("logs", container)
        time.sleep(0.1)
    return Worker(InWorker(folder / "sockets", group), folder, here, container)
