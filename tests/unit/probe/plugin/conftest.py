"""A folder as the kubelet's, a kubelet in it, and the device plugins."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skerry.probe.plugin import DevicePlugins
from tests.unit.probe.plugin.kubelet import Kubelet

POLL_SECONDS = 0.01
SECONDS = 30


async def until(predicate: Callable[[], object]) -> None:
    """Wait until something is true, but not for ever."""
    async with asyncio.timeout(SECONDS):
        while not predicate():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(POLL_SECONDS)


def names(folder: Path) -> list[str]:
    """Return what is in a folder, which may not be there."""
    return sorted(path.name for path in folder.glob("*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "device-plugins"
    made.mkdir()
    return made


@pytest.fixture
async def kubelet(folder: Path) -> AsyncIterator[Kubelet]:
    started = Kubelet(folder)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def gave_up() -> list[str]:
    return []


@pytest.fixture
async def plugins(folder: Path, said: list[str], gave_up: list[str]) -> AsyncIterator[DevicePlugins]:
    made = DevicePlugins(folder, poll_seconds=POLL_SECONDS, say=said.append, give_up=lambda: gave_up.append("thread"))
    yield made
    await asyncio.to_thread(made.close)
    assert not gave_up
