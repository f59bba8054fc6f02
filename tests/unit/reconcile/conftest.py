"""A context over the fake gateway, and the objects that tests begin with."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skerry.manifests.settings import InstallationSettings, RegistrySettings
from skerry.reconcile.base import Context
from tests.support.gateway import FakeGateway

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway() -> FakeGateway:
    fake = FakeGateway()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry-push", "namespace": "skerry-system"},
        "data": {".dockerconfigjson": "e30="},
    }
    fake.put(secret)
    return fake


@pytest.fixture
def context(gateway: FakeGateway, clock: Clock) -> Context:
    registry = RegistrySettings(
        push="registry.skerry-system.svc:5000", pull="localhost:30500", credentials_secret="registry-push"
    )
    settings = InstallationSettings(optimizer_image="optimizer:1", server_image="server:1", registry=registry)
    return Context(gateway, settings, "skerry-system", image_volumes=True, now=clock)


def skerry_object(kind: str, name: str, spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "vision"},
        **more,
    }
    if spec is not None:
        made["spec"] = spec
    return made


def node(name: str, **allocatable: str) -> dict[str, Any]:
    """Return a Node that is ready."""
    found = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110", **allocatable}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64"}},
        "status": {"allocatable": found, "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.fixture
def profile(gateway: FakeGateway) -> dict[str, Any]:
    document = {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "NodeProfile",
        "metadata": {"name": "node-1"},
        "status": {
            "probeVersion": "1",
            "observedAt": "2026-11-21T00:00:00Z",
            "machine": {"architecture": "amd64"},
            "cpu": {"cores": 4, "features": ["avx2", "avx512_vnni"]},
            "memoryBytes": 16 << 30,
            "accelerators": [{"name": "cpu", "count": 1}],
        },
    }
    gateway.put(node("node-1"))
    return gateway.put(document)
