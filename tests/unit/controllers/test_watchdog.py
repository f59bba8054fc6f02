"""The watchdog sees every watcher that is not there, whatever namespaces are watched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kopf
import pytest

from skerry.controllers import watchdog
from skerry.controllers.metrics import Metrics
from skerry.controllers.operator import WATCHED, Operator
from skerry.controllers.settings import Settings
from skerry.manifests.settings import InstallationSettings, RegistrySettings

SOME = {"edgemodels.v1alpha1.skerry.dev": True, "nodes.v1": False}


async def endless() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def running(names: list[str]) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    tasks = {name: asyncio.create_task(endless(), name=f"watcher for {name}") for name in names}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_watcher_is_expected_for_each_namespace_and_one_where_there_are_none() -> None:
    models = "edgemodels.v1alpha1.skerry.dev"
    assert watchdog.expected(SOME, ()) == [f"{models}@None", "nodes.v1@None"]
    assert watchdog.expected(SOME, ("a", "b", "a")) == [f"{models}@a", f"{models}@b", "nodes.v1@None"]


async def test_a_watcher_that_died_in_one_of_several_namespaces_fails_the_probe() -> None:
    registry = RegistrySettings(push="registry:5000", pull="localhost:30500")
    installation = InstallationSettings(optimizer_image="none", server_image="none", registry=registry)
    settings = Settings(installation=installation, namespace="skerry-system", watch=("a", "b"))
    operator = Operator(settings, Metrics())
    names = watchdog.expected(WATCHED, settings.watch)
    async with running(names) as tasks:
        assert await operator._probe() == len(names)  # noqa: SLF001
        await end(tasks["pods.v1@b"])
        with pytest.raises(kopf.PermanentError, match=r"^no watcher for pods\.v1@b$"):
            await operator._probe()  # noqa: SLF001
