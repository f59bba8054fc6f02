"""EdgeDeployment, step by step, against a fake API server."""

import dataclasses
from typing import Any

import pytest

from skerry.api.types import Framework
from skerry.kube.resources import (
    BUDGETS,
    DEPLOYMENTS,
    EDGE_DEPLOYMENTS,
    EDGE_MODELS,
    PODS,
    SECRETS,
    SERVICES,
)
from skerry.reconcile.base import Context
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.acting import ARTIFACT, Cluster, condition, deploy


async def test_a_published_model_is_served_where_it_can_run(gateway: FakeGateway, served: str) -> None:
    pod = gateway.one(DEPLOYMENTS, "vision", f"{served}-cpu")["spec"]["template"]["spec"]
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)

    assert {
        "name": "model",
        "image": {"reference": ARTIFACT.removeprefix("oci://"), "pullPolicy": "IfNotPresent"},
    } in pod["volumes"]
    assert pod["nodeSelector"]["skerry.dev/cpu.avx512_vnni"] == "true"
    assert gateway.one(SERVICES, "vision", served)["spec"]["ports"][0]["port"] == 8080
    assert gateway.one(BUDGETS, "vision", served)["spec"]["maxUnavailable"] == 1
    assert condition(status, "Ready") == ("True", "Serving")
    assert condition(status, "AccelerationVerified") == ("True", "AccelerationVerified")
    assert status["status"]["devices"] == "CPU:2"


@pytest.mark.parametrize("present", [False, True])
async def test_a_variant_without_an_image_that_serves_it_is_told(
    gateway: FakeGateway, context: Context, served: str, *, present: bool
) -> None:
    model = gateway.one(EDGE_MODELS, "vision", "digits")
    model["status"]["variants"][0]["framework"] = "LlamaCpp"
    gateway.put(model)
    images = {Framework.LLAMA_CPP: "llama:1"} if present else {}
    settings = context.settings.model_copy(update={"server_images": images})

    await deploy(dataclasses.replace(context, settings=settings))

    pod = gateway.one(DEPLOYMENTS, "vision", f"{served}-cpu")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == ("llama:1" if present else "server:1")
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    if not present:
        assert condition(status, "Ready") == ("False", "NoServerImage")
        message = status["status"]["conditions"][0]["message"]
        assert "the variants of 'digits' are for LlamaCpp, and this installation has no image that serves" in message
        assert message.endswith("what was rolled out before goes on serving")


async def test_serving_looked_at_again_writes_nothing(gateway: FakeGateway, context: Context, served: str) -> None:
    del served
    gateway.writes.clear()
    await deploy(context)
    assert gateway.writes == []


async def test_a_silent_fallback_to_another_device_is_a_failure(
    gateway: FakeGateway, context: Context, kubernetes: Cluster, served: str
) -> None:
    kubernetes.serve(f"{served}-cpu", device="GPU")
    await deploy(context)
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    assert condition(status, "Ready") == ("False", "AccelerationNotVerified")
    assert condition(status, "AccelerationVerified")[0] == "False"


async def test_credentials_to_pull_are_put_beside_the_pods(gateway: FakeGateway, context: Context, served: str) -> None:
    registry = context.settings.registry.model_copy(update={"pull_credentials_secret": "reader"})
    private = dataclasses.replace(context, settings=context.settings.model_copy(update={"registry": registry}))

    await deploy(private)
    waiting = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    metadata = {"name": "reader", "namespace": "skerry-system"}
    gateway.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {".dockerconfigjson": "e30="}})
    await deploy(private)

    assert condition(waiting, "Ready") == ("False", "RegistryUnreachable")
    assert "there is no Secret skerry-system/reader" in waiting["status"]["conditions"][0]["message"]
    secret = gateway.one(SECRETS, "vision", f"{served}-pull")
    assert secret["data"] == {".dockerconfigjson": "e30="}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == waiting["metadata"]["uid"]
    pod = gateway.one(DEPLOYMENTS, "vision", f"{served}-cpu")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": f"{served}-pull"}]


async def test_when_the_model_goes_away_what_serves_goes_on(
    gateway: FakeGateway, context: Context, served: str
) -> None:
    await gateway.delete(EDGE_MODELS, gateway.one(EDGE_MODELS, "vision", "digits"))
    await deploy(context)
    status = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    assert condition(status, "Ready") == ("False", "ModelNotFound")
    assert await gateway.get(DEPLOYMENTS, "vision", f"{served}-cpu") is not None
    assert status["status"]["variant"] == "OpenVINO/INT8"


async def test_one_replica_has_no_disruption_budget(gateway: FakeGateway, context: Context, served: str) -> None:
    document = gateway.one(EDGE_DEPLOYMENTS, "vision", served)
    document["spec"]["placement"]["replicas"] = 1
    gateway.put(document)
    await deploy(context)
    assert await gateway.get(BUDGETS, "vision", served) is None


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "front-cpu"), ("Service", "front")])
async def test_a_taken_name_is_told_and_left_alone(
    gateway: FakeGateway, context: Context, served: str, kind: str, name: str
) -> None:
    version, resource = ("apps/v1", DEPLOYMENTS) if kind == "Deployment" else ("v1", SERVICES)
    await gateway.delete(resource, gateway.one(resource, "vision", name))
    gateway.put({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "vision"}, "spec": {}})
    gateway.writes.clear()
    await deploy(context)
    assert condition(gateway.one(EDGE_DEPLOYMENTS, "vision", served), "Ready") == ("False", "NameTaken")
    assert ("apply", resource.plural, name) not in gateway.writes


async def test_a_status_that_someone_wrote_meanwhile_is_not_overwritten(
    gateway: FakeGateway, context: Context, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = gateway.list

    async def meddle(resource: Any, namespace: str | None = None, selector: str = "") -> list[dict[str, Any]]:
        if resource is PODS:
            gateway.put(gateway.one(EDGE_DEPLOYMENTS, "vision", served))
            return []
        return await original(resource, namespace, selector)

    monkeypatch.setattr(gateway, "list", meddle)
    with pytest.raises(Exception, match="front"):
        await deploy(context)
