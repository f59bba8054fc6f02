"""Kubelets and probes come and go."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import skerry
from skerry.probe.plugin import DevicePlugins, serving
from tests.unit.probe.plugin.conftest import POLL_SECONDS, SECONDS, names, until
from tests.unit.probe.plugin.devices import NPU, TPU, npu, tpu
from tests.unit.probe.plugin.kubelet import Kubelet

CODE = str(Path(skerry.__file__).parents[1])
FIRST = npu(0).id
PROBE = """
import signal, sys, time
from pathlib import Path
from skerry.probe.devices import FoundDevice
from skerry.probe.plugin import DevicePlugins

def end(*_):
    raise SystemExit(0)

signal.signal(signal.SIGTERM, end)
plugins = DevicePlugins(Path(sys.argv[1]), poll_seconds=0.01)
plugins.offer({"intel-npu": [FoundDevice("intel-npu", "0000:00:00.0", healthy=True, files=("/dev/accel/accel0",))]})
try:
    time.sleep(600)
finally:
    plugins.close()
"""

Start = Callable[[], "subprocess.Popen[bytes]"]


def descriptors() -> int:
    """Return how many files this process has open, but for those of objects that nobody holds any more."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def probe(folder: Path) -> Iterator[Start]:
    """Start processes that offer one NPU, as a probe does."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": CODE}
        started.append(subprocess.Popen([sys.executable, "-c", PROBE, str(folder)], env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(SECONDS)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_kubelet_that_restarts_is_told_again(kubelet: Kubelet, plugins: DevicePlugins, *, killed: bool) -> None:
    plugins.offer({"intel-npu": [npu(0)], "coral-pcie": [tpu()]})
    await until(lambda: kubelet.devices[NPU] and kubelet.devices[TPU])

    await kubelet.stop(killed=killed)
    await kubelet.start()

    await until(lambda: kubelet.healthy(NPU) and kubelet.healthy(TPU))
    assert [each.host_path for each in (await kubelet.allocate(NPU, FIRST)).devices] == ["/dev/accel/accel0"]


async def test_a_new_kubelet_is_not_kept_waiting(
    kubelet: Kubelet, plugins: DevicePlugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PATIENCE_POLLS", 10**9)
    monkeypatch.setattr(serving, "LONGEST_PAUSE_POLLS", 10**9)
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU))

    await kubelet.restart()

    await until(lambda: kubelet.healthy(NPU))


async def test_what_changes_while_the_kubelet_is_away_is_told_when_it_is_back(
    kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.devices[NPU])

    await kubelet.stop()
    plugins.offer({"intel-npu": [npu(1)], "coral-pcie": [tpu()]})
    await kubelet.start()

    await until(lambda: kubelet.devices == {NPU: {FIRST: False, npu(1).id: True}, TPU: {tpu().id: True}})


async def test_a_plugin_waits_for_a_kubelet_and_its_folder(tmp_path: Path) -> None:
    plugins = DevicePlugins(tmp_path / "later", poll_seconds=POLL_SECONDS, say=print)
    plugins.offer({"intel-npu": [npu(0)]})
    kubelet = Kubelet(tmp_path / "later")

    await kubelet.start()

    await until(lambda: kubelet.healthy(NPU))
    plugins.close()
    await kubelet.stop()


async def test_a_socket_that_someone_removed_is_made_again(
    folder: Path, kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU))

    (folder / "skerry-intel-npu.sock").unlink()

    await until(lambda: len(kubelet.registered) > 1 and kubelet.healthy(NPU))
    assert (folder / "skerry-intel-npu.sock").is_socket()


async def test_a_list_that_the_kubelet_dropped_is_offered_again(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU))

    kubelet.clients[NPU].channel.close()

    await until(lambda: len(kubelet.registered) > 1 and kubelet.healthy(NPU))


async def test_a_kubelet_that_does_not_follow_is_asked_again(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    kubelet.deaf = True
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: len(kubelet.registered) == 3)

    kubelet.deaf = False

    await until(lambda: kubelet.healthy(NPU))


async def test_a_kubelet_that_refuses_is_asked_again_and_people_are_told_once(
    kubelet: Kubelet, plugins: DevicePlugins, said: list[str]
) -> None:
    kubelet.refusal = "no plugins today"
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: len(kubelet.registered) == 3)

    kubelet.refusal = ""

    await until(lambda: kubelet.healthy(NPU))
    await until(lambda: len(said) == 2)
    assert "cannot be offered to the kubelet" in said[0]
    assert "no plugins today" in said[0]
    assert said[1] == f"{NPU} is registered with the kubelet"


async def test_a_file_in_the_place_of_the_socket_is_told_and_left_alone(
    folder: Path, kubelet: Kubelet, plugins: DevicePlugins, said: list[str]
) -> None:
    (folder / "skerry-intel-npu.sock").write_text("mine", encoding="ascii")
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: said)

    assert "Address already in use" in said[0] or "skerry-intel-npu.sock" in said[0]
    (folder / "skerry-intel-npu.sock").unlink()
    await until(lambda: kubelet.healthy(NPU))


async def test_a_stale_socket_is_replaced(folder: Path, kubelet: Kubelet, plugins: DevicePlugins) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "skerry-intel-npu.sock"))

    plugins.offer({"intel-npu": [npu(0)]})

    await until(lambda: kubelet.healthy(NPU))


async def test_a_probe_that_is_ended_removes_its_sockets(folder: Path, kubelet: Kubelet, probe: Start) -> None:
    process = probe()
    await until(lambda: kubelet.healthy(NPU))

    process.send_signal(signal.SIGTERM)

    assert await asyncio.to_thread(process.wait, SECONDS) == 0
    assert names(folder) == ["kubelet.sock"]
    await until(lambda: not kubelet.devices[NPU])


async def test_a_probe_that_was_killed_is_followed_by_the_next(folder: Path, kubelet: Kubelet, probe: Start) -> None:
    process = probe()
    await until(lambda: kubelet.healthy(NPU))

    process.kill()
    await asyncio.to_thread(process.wait, SECONDS)
    await until(lambda: not kubelet.devices[NPU])
    assert (folder / "skerry-intel-npu.sock").is_socket()
    probe()

    await until(lambda: kubelet.healthy(NPU))


async def test_the_end_leaves_the_next_probes_socket_alone(
    folder: Path, kubelet: Kubelet, plugins: DevicePlugins
) -> None:
    path = folder / "skerry-intel-npu.sock"
    slow = DevicePlugins(folder, poll_seconds=SECONDS)
    slow.offer({"intel-npu": [npu(0)]})
    await until(lambda: kubelet.healthy(NPU))
    path.unlink()
    plugins.offer({"intel-npu": [npu(0)]})
    await until(lambda: len(kubelet.registered) > 1 and kubelet.healthy(NPU))

    await asyncio.to_thread(slow.close)

    assert path.is_socket()


async def test_hundreds_of_changes_leave_nothing_behind(kubelet: Kubelet, plugins: DevicePlugins) -> None:
    plugins.offer({"intel-npu": [npu(0)], "coral-pcie": [tpu()]})
    await until(lambda: kubelet.healthy(NPU) and kubelet.healthy(TPU))
    before, threads = descriptors(), threading.active_count()

    for turn in range(300):
        plugins.offer({"intel-npu": [npu(0, healthy=turn % 2 == 1)], "coral-pcie": [tpu()] if turn % 3 else None})
        if turn % 20 == 0:
            await kubelet.restart()
            await until(lambda: kubelet.devices[NPU])

    await until(lambda: kubelet.healthy(NPU) and kubelet.healthy(TPU))
    await until(lambda: descriptors() == before)
    assert threading.active_count() == threads


async def test_an_end_leaves_nothing_behind(folder: Path, kubelet: Kubelet) -> None:
    before, threads = descriptors(), threading.active_count()

    for _ in range(5):
        plugins = DevicePlugins(folder, poll_seconds=POLL_SECONDS, say=print)
        plugins.offer({"intel-npu": [npu(0)]})
        await until(lambda: kubelet.healthy(NPU))
        plugins.close()
        await until(lambda: not kubelet.clients)
        plugins.close()

    assert threading.active_count() == threads
    await until(lambda: descriptors() == before)


def test_what_is_closed_offers_nothing_more(folder: Path) -> None:
    plugins = DevicePlugins(folder)
    plugins.offer({})
    plugins.close()

    with pytest.raises(RuntimeError, match="are closed"):
        plugins.offer({"intel-npu": [npu(0)]})


async def test_an_error_that_nobody_foresaw_ends_the_probe(
    folder: Path,
    gave_up: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(_: serving.Plugin) -> None:
        message = "nobody foresaw"
        raise LookupError(message)

    monkeypatch.setattr(serving.Plugin, "_look_after", broken)
    plugins = DevicePlugins(folder, say=print, give_up=lambda: gave_up.append("thread"))

    plugins.offer({"intel-npu": [npu(0)]})

    await until(lambda: gave_up)
    assert "LookupError: nobody foresaw" in capsys.readouterr().err
    plugins.close()


def test_nothing_heavy_is_imported_before_there_is_a_device() -> None:
    script = """
import sys
from skerry.probe.plugin import DevicePlugins
plugins = DevicePlugins()
plugins.offer({})
plugins.offer({"nvidia-gpu": None, "hailo-8": []})
plugins.close()
print(*sys.modules)
"""
    # -S: without site-packages there is nothing but the standard library.
    command = [sys.executable, "-S", "-c", script]
    loaded = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PYTHONPATH": CODE}
    ).stdout.split()

    assert not {"asyncio", "grpclib", "google", "google.protobuf", "h2", "ssl"} & set(loaded)
