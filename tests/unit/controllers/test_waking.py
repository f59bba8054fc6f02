"""Which watch events wake which reconcilers."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from skerry.controllers.metrics import Metrics
from skerry.controllers.operator import Operator
from skerry.controllers.settings import Settings
from skerry.manifests.settings import InstallationSettings, RegistrySettings
from skerry.reconcile.base import Key

MODEL = Key("EdgeModel", "a", "digits")
PROFILE: dict[str, Any] = {
    "metadata": {"name": "nuc"},
    "status": {
        "observedAt": "2026-11-21T12:00:00Z",
        "machine": {"architecture": "amd64", "model": "NUC"},
        "cpu": {"cores": 4, "features": ["avx2"]},
        "memoryBytes": 8 << 30,
        "memoryAvailableBytes": 4 << 30,
        "temperatureCelsius": 40,
        "accelerators": [
            {"name": "cpu", "count": 1},
            {"name": "intel-npu", "count": 1, "devices": [{"id": "npu0", "health": "Healthy"}]},
        ],
    },
}
NODE: dict[str, Any] = {
    "metadata": {"name": "nuc", "labels": {"site": "a"}},
    "spec": {},
    "status": {
        "allocatable": {"cpu": "4"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-21T12:00:00Z"}],
        "nodeInfo": {"kubeletVersion": "v1.36.1"},
    },
}


class Watched:
    """An operator that knows one EdgeModel, with an empty queue."""

    def __init__(self) -> None:
        registry = RegistrySettings(push="registry:5000", pull="localhost:30500")
        installation = InstallationSettings(optimizer_image="none", server_image="none", registry=registry)
        self.operator = Operator(Settings(installation=installation, namespace="skerry-system"), Metrics())

    async def own(self, plural: str, document: dict[str, Any], kind: str | None = "MODIFIED") -> None:
        event = {"type": kind, "object": document}
        await self.operator._own(event=event, body=document, resource=SimpleNamespace(plural=plural))  # noqa: SLF001

    async def node(self, document: dict[str, Any], kind: str | None = "MODIFIED") -> None:
        await self.operator._node(event={"type": kind, "object": document})  # noqa: SLF001

    def woken(self) -> set[Key]:
        """Return what waits now, and have nothing wait any more."""
        queue = self.operator.queue
        found = set(queue._waiting)  # noqa: SLF001
        queue._waiting.clear()  # noqa: SLF001
        return found


@pytest.fixture
async def watched() -> Watched:
    made = Watched()
    await made.own("edgemodels", {"metadata": {"name": "digits", "namespace": "a"}}, None)
    assert made.woken() == {MODEL}
    return made


def with_status(profile: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**profile, "status": {**profile["status"], **changed}}


async def test_a_profile_that_only_drifts_wakes_nothing(watched: Watched) -> None:
    await watched.own("nodeprofiles", PROFILE, None)
    assert watched.woken() == {MODEL, Key("NodeProfile", None, "nuc")}

    drifted = {"temperatureCelsius": 70, "memoryAvailableBytes": 1 << 30, "observedAt": "2026-11-21T12:01:00Z"}
    await watched.own("nodeprofiles", with_status(PROFILE, **drifted))
    assert watched.woken() == set()


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu": {"cores": 4, "features": ["avx2", "avx512_vnni"]}},
        {"machine": {"architecture": "arm64"}},
        {"accelerators": [{"name": "cpu", "count": 1}]},
        {
            "accelerators": [
                {"name": "cpu", "count": 1},
                {"name": "intel-npu", "count": 0, "devices": [{"id": "npu0", "health": "Unhealthy"}]},
            ]
        },
    ],
)
async def test_a_profile_in_which_something_changed_that_matters_wakes_all(
    watched: Watched, changed: dict[str, Any]
) -> None:
    await watched.own("nodeprofiles", PROFILE, None)
    watched.woken()
    await watched.own("nodeprofiles", with_status(PROFILE, **changed))
    assert watched.woken() == {MODEL, Key("NodeProfile", None, "nuc")}


async def test_a_profile_that_goes_and_comes_back_wakes_all(watched: Watched) -> None:
    both = {MODEL, Key("NodeProfile", None, "nuc")}
    await watched.own("nodeprofiles", PROFILE, None)
    watched.woken()

    await watched.own("nodeprofiles", PROFILE, "DELETED")
    assert watched.woken() == both
    await watched.own("nodeprofiles", {"metadata": PROFILE["metadata"]}, "ADDED")
    assert watched.woken() == both
    await watched.own("nodeprofiles", PROFILE)
    assert watched.woken() == both


async def test_a_node_wakes_all_only_when_something_changed_that_matters(watched: Watched) -> None:
    both = {MODEL, Key("NodeProfile", None, "nuc")}
    await watched.node(NODE, None)
    assert watched.woken() == both

    beat = copy.deepcopy(NODE)
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-21T12:05:00Z"
    await watched.node(beat)
    assert watched.woken() == set()

    await watched.node({**beat, "spec": {"unschedulable": True}})
    assert watched.woken() == both
    await watched.node(beat, "DELETED")
    assert watched.woken() == both
    await watched.node(beat, "DELETED")
    assert watched.woken() == set()
