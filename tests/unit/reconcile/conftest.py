"""A context over the fake gateway, and the objects that tests begin with."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skerry.kube.resources import OPTIMIZATION_JOBS
from skerry.manifests.settings import InstallationSettings, RegistrySettings
from skerry.reconcile import models, optimizations
from skerry.reconcile.base import Context, Key
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.acting import SOURCE, Cluster, deploy, look, result

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


@pytest.fixture
def kubernetes(gateway: FakeGateway) -> Cluster:
    return Cluster(gateway)


@pytest.fixture
async def job_name(gateway: FakeGateway, context: Context, profile: dict[str, Any]) -> str:
    """An EdgeModel whose batch Job was made; the name of the OptimizationJob and of the Job."""
    del profile
    gateway.put(skerry_object("EdgeModel", "digits", {"source": SOURCE}))
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    (name,) = [name for (plural, _, name) in gateway.objects if plural == OPTIMIZATION_JOBS.plural]
    await optimizations.reconcile(context, Key("OptimizationJob", "vision", name))
    return name


@pytest.fixture
async def served(gateway: FakeGateway, context: Context, kubernetes: Cluster, job_name: str) -> str:
    """A deployment of two replicas of a published model, rolled out."""
    kubernetes.pod_of(job_name, 0, result().termination_message())
    kubernetes.end(job_name, "Complete")
    await look(context, job_name)
    await models.reconcile(context, Key("EdgeModel", "vision", "digits"))
    gateway.put(skerry_object("EdgeDeployment", "front", {"modelName": "digits", "placement": {"replicas": 2}}))
    await deploy(context)
    kubernetes.serve("front-cpu")
    context.site.forget()
    await deploy(context)
    return "front"
