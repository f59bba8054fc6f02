"""When the probe publishes, and the process itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skerry
from skerry.accelerators.catalogue import catalogue, dump
from skerry.probe.__main__ import LONGEST_PAUSE, REASSURE_SECONDS, watch
from skerry.probe.publish import PublishError
from tests.support.boards import BOARDS, build
from tests.unit.probe.apiserver import ApiServer

CODE = str(Path(skerry.__file__).parents[1])
SECONDS = 30
RSS_LIMIT = 30 * 2**20


class EndOfTestError(Exception):
    """The world's clock has reached the end."""


class World:
    """A clock that moves when someone sleeps, and an API server that may be away."""

    def __init__(self, end: float) -> None:
        self.time, self.end = 0.0, end
        self.memory = 1
        self.away: Callable[[float], bool] = lambda _: False
        self.changes: dict[float, int] = {}
        self.looks: list[float] = []
        self.attempts: list[float] = []
        self.published: list[tuple[float, int]] = []

    def look(self) -> dict[str, Any]:
        self.looks.append(self.time)
        for moment, memory in self.changes.items():
            if self.time >= moment:
                self.memory = memory
        return {"memoryBytes": self.memory}

    def publish(self, found: dict[str, Any]) -> None:
        self.attempts.append(self.time)
        if self.away(self.time):
            message = "away"
            raise PublishError(message)
        self.published.append((self.time, found["memoryBytes"]))

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.time > self.end:
            raise EndOfTestError

    def run(self, interval: float = 10, jitter: float = 0.5) -> None:
        with pytest.raises(EndOfTestError):
            watch(self.look, self.publish, interval, sleep=self.sleep, now=lambda: self.time, jitter=lambda: jitter)


def test_a_node_is_told_at_once_and_then_only_what_is_new() -> None:
    world = World(end=100)
    world.changes = {35: 2, 55: 1}

    world.run()

    assert world.published == [(0, 1), (40, 2), (60, 1)]


def test_a_profile_that_was_deleted_comes_back() -> None:
    world = World(end=REASSURE_SECONDS * 2 + 1)

    world.run()

    assert [moment for moment, _ in world.published] == [0, REASSURE_SECONDS, REASSURE_SECONDS * 2]


def test_an_api_server_that_is_away_is_asked_less_and_less_and_then_told_everything() -> None:
    world = World(end=20_000)
    world.away = lambda moment: moment < 10_000
    world.changes = {5000: 2}

    world.run()

    pauses = [after - before for before, after in zip(world.attempts, world.attempts[1:], strict=False)]
    pauses = pauses[: sum(moment < 10_000 for moment in world.attempts)]
    assert pauses[:5] == [10, 20, 40, 80, 160]
    assert max(pauses) == LONGEST_PAUSE
    first, memory = world.published[0]
    assert first <= 10_000 + LONGEST_PAUSE
    assert memory == 2


def test_devices_are_looked_at_while_the_api_server_is_away() -> None:
    world = World(end=1000)
    world.away = lambda _: True

    world.run()

    assert world.looks == [10 * number for number in range(101)]
    assert len(world.attempts) < 10


def test_a_long_interval_is_not_shortened_by_failures() -> None:
    world = World(end=5000)
    world.away = lambda _: True

    world.run(interval=1000)

    assert world.attempts == [0, 1000, 2000, 3000, 4000, 5000]


@pytest.mark.parametrize(("jitter", "second"), [(0.0, 8.0), (1.0, 12.0)])
def test_probes_do_not_march_in_step(jitter: float, second: float) -> None:
    world = World(end=13)
    world.changes = {1: 2}

    world.run(jitter=jitter)

    assert world.published[1][0] == pytest.approx(second)


@pytest.mark.parametrize(("jitter", "second"), [(0.0, 240.0), (1.0, 360.0)])
def test_probes_do_not_come_back_in_step_after_an_outage(jitter: float, second: float) -> None:
    world = World(end=3000)
    world.away = lambda _: True

    world.run(interval=2, jitter=jitter)

    assert world.attempts[-1] - world.attempts[-2] == pytest.approx(second, abs=3)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(server: ApiServer, tmp_path: Path) -> Iterator[Start]:
    """Start probes of a board with the API server, as in a pod; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def launch(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "skerry.probe", "--root", str(build(tmp_path, "xeon"))]
        process = subprocess.Popen(
            [*command, "--service-account", str(server.account), *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PYTHONPATH": CODE,
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(server.port),
                "NODE_NAME": "worker",
                **environment,
            },
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_process_publishes_stays_small_and_ends_on_sigterm(server: ApiServer, start: Start) -> None:
    process = start("--interval", "3600")
    until(lambda: "status" in server.objects.get("worker", {}))

    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    process.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 0
    assert resident <= RSS_LIMIT


def test_once_publishes_and_ends(server: ApiServer, start: Start) -> None:
    process = start("--once")

    assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 0
    assert server.objects["worker"]["status"]["memoryBytes"] == 65536000 * 1024


def test_once_tells_what_went_wrong(server: ApiServer, start: Start) -> None:
    server.refusal = (403, "no")
    process = start("--once")

    _, errors = process.communicate(timeout=SECONDS)

    assert errors.startswith("the API server answered 403 to /apis/skerry.dev/v1alpha1/nodeprofiles/worker")
    assert process.returncode == os.EX_UNAVAILABLE


def test_a_probe_without_node_name_says_so(start: Start) -> None:
    process = start(NODE_NAME="")

    assert process.communicate(timeout=SECONDS)[1] == "NODE_NAME must name the node (from the downward API)\n"
    assert process.returncode == os.EX_CONFIG


def write_catalogue(folder: Path) -> Path:
    file = folder / "catalogue.json"
    file.write_text(dump(catalogue()), encoding="utf-8")
    return file


def test_a_device_that_comes_and_goes_is_told(server: ApiServer, start: Start, tmp_path: Path) -> None:
    def accelerators() -> list[str]:
        return [each["name"] for each in server.objects.get("worker", {}).get("status", {}).get("accelerators", [])]

    start("--interval", "0.05", "--catalogue", str(write_catalogue(tmp_path)))
    until(lambda: accelerators() == ["cpu"])

    BOARDS["arc"]().write(tmp_path / "xeon")
    until(lambda: accelerators() == ["cpu", "intel-gpu"])

    (tmp_path / "xeon/sys/bus/pci/devices/0000:03:00.0").unlink()
    until(lambda: accelerators() == ["cpu"])


def test_device_files_are_told_from_plain_ones(start: Start, tmp_path: Path) -> None:
    BOARDS["arc"]().write(tmp_path / "xeon")
    process = start("--print", "--catalogue", str(write_catalogue(tmp_path)))

    _, arc = json.loads(process.communicate(timeout=SECONDS)[0])["accelerators"]

    assert arc["devices"][0]["message"] == "/dev/dri/renderD128 is not a device file"


def test_a_catalogue_that_is_broken_is_told(start: Start, tmp_path: Path) -> None:
    file = write_catalogue(tmp_path)
    file.write_text("[{", encoding="utf-8")
    process = start("--print", "--catalogue", str(file))

    _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == os.EX_CONFIG
    assert str(file) in errors


def test_print_needs_no_cluster(start: Start) -> None:
    process = start("--print", NODE_NAME="")

    assert '"vendor": "Dell Inc."' in process.communicate(timeout=SECONDS)[0]


def test_the_probe_imports_the_standard_library_and_little_of_skerry() -> None:
    script = "import sys, skerry.probe.__main__; print(*{name for name in sys.modules if not name.startswith('_')})"
    # -S: without site-packages, as in the image.
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", script], check=True, capture_output=True, text=True, env={"PYTHONPATH": CODE}
    ).stdout.split()

    ours = {name for name in loaded if name.split(".")[0] == "skerry"}
    assert ours == {
        *("skerry", "skerry.version", "skerry.api", "skerry.api.labels", "skerry.api.machines"),
        *("skerry.accelerators", "skerry.accelerators.cpu", "skerry.accelerators.matching"),
        *(name for name in ours if name.startswith("skerry.probe")),
    }
    assert {name.split(".")[0] for name in loaded} - {"skerry"} <= sys.stdlib_module_names | {"sitecustomize"}
    assert not {"asyncio", "pydantic", "importlib.metadata"} & set(loaded)


@pytest.mark.parametrize("stuck", ["look", "publish"])
def test_a_probe_that_is_stuck_ends_and_says_where(stuck: str) -> None:
    script = f"""
import time, skerry.probe.__main__ as probe
probe.STUCK_SECONDS = 0.05
def forever(*_):
    time.sleep({SECONDS * 10})
probe._guard()
answers = {{"look": dict, "publish": print, {stuck!r}: forever}}
probe.watch(answers["look"], answers["publish"], 0.01, sleep=probe._sleep)
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={"PYTHONPATH": CODE},
    )

    assert process.returncode == 1
    assert "in forever" in process.stderr
