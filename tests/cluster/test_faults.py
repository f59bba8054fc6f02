"""What goes wrong at a site while Skerry works, done to the real cluster."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from skerry.api.jobcontract import Stage
from tests.support import models
from tests.support.installation import REGISTRY, SYSTEM, Document, condition, eventually, push
from tests.support.workspace import DATA, GOOD, Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-faults"
LONG = 300
SHA = "0" * 64


@pytest.fixture(scope="module")
def space(skerry: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """An empty namespace, and a model in the registry that takes its time."""
    work = tmp_path_factory.mktemp("artifacts")
    files = {
        "models/good:1": models.classifier(work / "good.onnx", hidden=4096),
        "data/good:1": models.samples(work / "data.npz"),
    }
    push(skerry, files, work)
    with workspace(skerry, NAMESPACE) as space:
        yield space


def optimization(name: str, **spec: Any) -> Document:
    """Return an OptimizationJob by hand, with every candidate that there is."""
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "OptimizationJob",
        "metadata": {"name": name},
        "spec": {"model": {"uri": GOOD}, "evaluation": {"uri": DATA}, "accelerator": "cpu", "gates": [], **spec},
    }


def pods(cluster: Cluster, component: str) -> list[Document]:
    return cluster.get("pods", "--namespace", SYSTEM, "-l", f"app.kubernetes.io/component={component}")


def kill(cluster: Cluster, component: str) -> None:
    for pod in pods(cluster, component):
        name = pod["metadata"]["name"]
        cluster.kubectl("delete", "pod", name, "--namespace", SYSTEM, "--grace-period=0", "--force")


def is_ready(cluster: Cluster, component: str) -> bool:
    return any(condition(pod, "Ready")[0] == "True" for pod in pods(cluster, component))


@contextmanager
def registry_down(cluster: Cluster) -> Iterator[None]:
    """Have no registry for a while."""
    scale = ("scale", "deployment/registry", "--namespace", SYSTEM)
    cluster.kubectl(*scale, "--replicas=0")
    try:
        kill(cluster, "registry")
        yield
    finally:
        cluster.kubectl(*scale, "--replicas=1")
        eventually(lambda: is_ready(cluster, "registry"), "the registry is back")


def test_the_operator_can_be_killed_in_every_stage(space: Workspace) -> None:
    space.apply(edge_model("killed", candidates=[]), edge_deployment("killed", "killed"))
    killed: set[str] = set()

    def stage() -> str | None:
        found = space.listed("optimizationjobs", "skerry.dev/model=killed")
        return found[0].get("status", {}).get("stage") if found else None

    def moved() -> str | None:
        return now if (now := stage()) not in {None, *killed} else None

    while Stage.DONE not in killed:
        killed.add(eventually(moved, f"a stage after {killed}", LONG))
        kill(space.cluster, "operator")
        eventually(lambda: is_ready(space.cluster, "operator"), "the operator is back")

    space.until("edgemodel", "killed", "Optimized")
    space.until("edgedeployment", "killed", "Serving")
    (job,) = space.listed("jobs", "skerry.dev/model=killed")
    assert job["status"]["succeeded"] == 1
    assert len(space.listed("pods", f"batch.kubernetes.io/job-name={job['metadata']['name']}")) == 1
    (made,) = space.listed("optimizationjobs", "skerry.dev/model=killed")
    assert "baseline" in {candidate["name"] for candidate in made["status"]["candidates"]}
    assert len(killed) > len({Stage.WAITING, Stage.DONE})


def test_an_optimization_that_is_evicted_goes_on_where_it_was(space: Workspace, tmp_path: Path) -> None:
    space.apply(optimization("evicted"))
    selector = "skerry.dev/optimization-job=evicted"

    def measured() -> set[str]:
        candidates = space.get("optimizationjob", "evicted").get("status", {}).get("candidates", [])
        return {each["name"] for each in candidates if each.get("verdict")} - {"baseline"}

    before = eventually(lambda: found if len(found := measured()) > 1 else None, "two candidates are measured", LONG)
    (pod,) = space.listed("pods", selector)
    name = pod["metadata"]["name"]
    eviction = tmp_path / "eviction.json"
    eviction.write_text(
        json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}})
    )
    space.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction", "-f", str(eviction)
    )

    space.until("optimizationjob", "evicted", "Succeeded", of="Complete", seconds=LONG)
    (again,) = (each for each in space.listed("pods", selector) if each["metadata"]["name"] != name)
    log = space.kubectl("logs", again["metadata"]["name"]).splitlines()
    lines = [json.loads(line) for line in log if line.startswith("{")]
    assert any("going on after an interruption" in line["message"] for line in lines)
    begun = {line["candidate"] for line in lines if line["stage"] == "Measuring" and line.get("result") is None}
    assert not begun & before
    candidates = space.get("optimizationjob", "evicted")["status"]["candidates"]
    assert all(each["metrics"] for each in candidates if each["name"] in before)


def test_a_registry_that_is_down_while_it_should_be_written_loses_nothing(space: Workspace) -> None:
    space.apply(optimization("published"))
    fetched = {Stage.BASELINE, Stage.CONVERTING, Stage.QUANTIZING, Stage.MEASURING}

    def told() -> str:
        return condition(space.get("optimizationjob", "published"), "Complete")[2]

    eventually(
        lambda: space.get("optimizationjob", "published").get("status", {}).get("stage") in fetched, "it was fetched"
    )
    with registry_down(space.cluster):
        eventually(lambda: "trying again" in told(), "the registry is missed")
        assert space.get("optimizationjob", "published")["status"]["stage"] == Stage.PUBLISHING

    done = space.until("optimizationjob", "published", "Succeeded", of="Complete")
    assert done["status"]["artifact"].startswith("oci://localhost:30500/")
    assert len(space.listed("pods", "batch.kubernetes.io/job-name=published")) == 1


def test_a_registry_that_is_down_while_it_should_be_read_is_waited_for(space: Workspace) -> None:
    with registry_down(space.cluster):
        space.apply(optimization("fetched"))

        def told() -> str:
            return condition(space.get("optimizationjob", "fetched"), "Complete")[2]

        eventually(lambda: "trying again" in told(), "the registry is missed")
        assert space.get("optimizationjob", "fetched")["status"]["stage"] == Stage.FETCHING

    space.until("optimizationjob", "fetched", "Succeeded", of="Complete", seconds=LONG)


# The kubelet looks at what pods have written every ten seconds or later: the slow one is still at work then.
SCARCE = {
    "memory": ({"limits": {"memory": "100Mi"}}, "OutOfMemory", "raise spec.optimization.resources.limits.memory"),
    "disk": ({"limits": {"ephemeral-storage": "200Ki", "cpu": "100m"}}, "OutOfDisk", "ephemeral"),
}


@pytest.mark.parametrize("what", SCARCE)
def test_a_job_that_has_not_enough_says_so(space: Workspace, what: str) -> None:
    resources, reason, words = SCARCE[what]
    space.apply(edge_model(f"scarce-{what}", candidates=[], optimization={"resources": resources}))

    found = space.until("edgemodel", f"scarce-{what}", reason, seconds=LONG)

    assert words in condition(found, "Ready")[2]


def test_a_model_that_is_pushed_later_is_found(space: Workspace, tmp_path: Path) -> None:
    name = f"models/pushed:{secrets.token_hex(4)}"  # what an earlier run pushed is still there
    space.apply(edge_model("pushed", f"oci://{REGISTRY}/{name}"))
    found = space.until("edgemodel", "pushed", "SourceNotFound")
    assert "does not exist" in condition(found, "Ready")[2]

    push(space.cluster, {name: models.classifier(tmp_path / "pushed.onnx")}, tmp_path)

    space.until("edgemodel", "pushed", "Optimized", seconds=LONG)


def test_missing_credentials_are_told_and_waited_for(space: Workspace) -> None:
    model = edge_model("late")
    model["spec"]["source"]["credentialsSecretName"] = "login"
    space.apply(model)

    found = space.until("edgemodel", "late", "SourceUnreachable")
    assert "the Secret with the credentials does not exist yet" in condition(found, "Ready")[2]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": '{"auths": {}}'},
    }
    space.apply(secret)
    space.until("edgemodel", "late", "Optimized", seconds=LONG)


def test_a_missing_claim_is_told(space: Workspace) -> None:
    model = edge_model("claim", "pvc://nowhere/model.onnx")
    model["spec"]["source"]["sha256"] = SHA
    space.apply(model)

    eventually(
        lambda: 'persistentvolumeclaim "nowhere" not found' in condition(space.get("edgemodel", "claim"), "Ready")[2],
        "the missing claim is told",
    )
