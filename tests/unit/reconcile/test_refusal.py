"""What the API server refuses is told where people look."""

from skerry.kube.errors import error_for
from skerry.kube.resources import EDGE_DEPLOYMENTS, OPTIMIZATION_JOBS
from skerry.reconcile import refusal
from skerry.reconcile.base import Context, Key
from tests.support.gateway import FakeGateway
from tests.unit.reconcile.conftest import skerry_object

ERROR = error_for(422, 'PATCH /apis/apps/v1/x: 422 Deployment.apps "front-cpu" is invalid: requests: Invalid value')


async def test_a_refused_child_is_told_in_the_ready_condition(gateway: FakeGateway, context: Context) -> None:
    status = {"readyReplicas": 2, "conditions": [], "url": "http://front"}
    gateway.put(skerry_object("EdgeDeployment", "front", {"modelName": "m"}, status=status))

    for _ in range(2):
        await refusal.tell(context, Key("EdgeDeployment", "vision", "front"), ERROR)

    found = gateway.one(EDGE_DEPLOYMENTS, "vision", "front")["status"]
    (ready,) = found["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Refused")
    assert ready["message"] == (
        'the API server refuses what this EdgeDeployment needs: 422 Deployment.apps "front-cpu" is invalid: '
        "requests: Invalid value; what was rolled out before goes on serving"
    )
    assert (found["observedGeneration"], found["url"]) == (1, "http://front")
    assert gateway.events == [("EdgeDeployment/front", "Warning Refused")], "once"


async def test_a_refused_job_is_not_complete(gateway: FakeGateway, context: Context) -> None:
    gateway.put(skerry_object("OptimizationJob", "j", {"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu"}))
    await refusal.tell(context, Key("OptimizationJob", "vision", "j"), ERROR)
    found = gateway.one(OPTIMIZATION_JOBS, "vision", "j")["status"]
    assert [(item["type"], item["reason"]) for item in found["conditions"]] == [("Complete", "Refused")]
    assert "completionTime" not in found


async def test_what_is_gone_is_not_told_of(gateway: FakeGateway, context: Context) -> None:
    await refusal.tell(context, Key("EdgeModel", "vision", "m"), ERROR)
    await refusal.tell(context, Key("NodeProfile", None, "n"), ERROR)
    assert gateway.writes == []
