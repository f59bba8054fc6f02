"""The installation on the real cluster: what its accounts may do, its registry, its probes."""

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from devcluster import Cluster
from skerry.version import VERSION
from tests.support.installation import ROOT, SYSTEM, eventually

pytestmark = pytest.mark.cluster

APPLY = {"Content-Type": "application/apply-patch+yaml"}
QUERY = {"fieldManager": "test", "force": "true", "dryRun": "All"}
PROFILES = "/apis/skerry.dev/v1alpha1/nodeprofiles"
RSS_LIMIT = 30 * 2**20
Document = dict[str, Any]
As = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def act_as(skerry: Cluster) -> Iterator[As]:
    """Return clients that have nothing but a token of one of the release's accounts."""
    config = yaml.safe_load(skerry.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(config["certificate-authority-data"]).decode())
    clients: list[httpx.Client] = []

    def client(account: str, *bound: str) -> httpx.Client:
        token = skerry.kubectl("create", "token", account, "--namespace", SYSTEM, *bound).strip()
        headers = {"Authorization": f"Bearer {token}"}
        clients.append(httpx.Client(base_url=config["server"], headers=headers, verify=context, trust_env=False))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


@pytest.fixture(scope="module")
def probes(skerry: Cluster) -> dict[str, str]:
    """Return the probe's pod by node."""
    pods = skerry.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/component=probe")
    return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"}


def profile(node: str, **more: Any) -> Document:
    return {"apiVersion": "skerry.dev/v1alpha1", "kind": "NodeProfile", "metadata": {"name": node}, **more}


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json().get("message", ""))


def test_the_charts_own_tests_pass(skerry: Cluster) -> None:
    output = skerry.helm("test", "skerry", "--namespace", SYSTEM, "--logs", "--timeout", "300s")

    for what in (
        "a probe may not write the NodeProfile of another node",
        "the operator may not write Secrets that are not its own",
        "the operator may not write anything else of Nodes",
        "the operator may not delete pods of others",
        f"registry-nodes.{SYSTEM}.svc:5000 refuses DELETE",
        "this node pulls from the embedded registry without any configuration",
    ):
        assert f"ok: {what}" in output
    node = skerry.get("pod", "skerry-test-volume", "--namespace", SYSTEM)[0]["spec"]["nodeName"]
    registry = skerry.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/component=registry")
    assert node not in {pod["spec"]["nodeName"] for pod in registry}


def test_every_node_tells_what_it_has(skerry: Cluster, probes: dict[str, str]) -> None:
    def all_told() -> dict[str, Document] | None:
        found = {each["metadata"]["name"]: each.get("status", {}) for each in skerry.get("nodeprofiles")}
        current = {name for name, status in found.items() if status.get("probeVersion") == VERSION}
        return found if current >= set(skerry.nodes) else None

    assert set(probes) == set(skerry.nodes)
    for node, status in eventually(all_told, "a NodeProfile of this version from every node").items():
        capacity = skerry.get("node", node)[0]["status"]["capacity"]
        assert status["conditions"][0]["type"] == "Ready"
        assert status["cpu"]["cores"] == int(capacity["cpu"])
        assert status["memoryBytes"] == int(capacity["memory"].removesuffix("Ki")) * 1024
        assert status["acceleratorSummary"].startswith("cpu:1")


def test_a_profile_goes_with_its_node(skerry: Cluster) -> None:
    for each in skerry.get("nodeprofiles"):
        (owner,) = each["metadata"]["ownerReferences"]
        node = skerry.get("node", each["metadata"]["name"])[0]
        assert (owner["kind"], owner["uid"]) == ("Node", node["metadata"]["uid"])


def test_a_probe_is_small(skerry: Cluster, probes: dict[str, str]) -> None:
    for pod in probes.values():
        status = skerry.kubectl(
            *("exec", "--namespace", SYSTEM, pod, "--"),
            *("/usr/bin/python3", "-c", "print(open('/proc/1/status').read())"),
        )
        resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
        assert resident <= RSS_LIMIT


def test_a_probe_writes_its_own_profile_only(skerry: Cluster, act_as: As, probes: dict[str, str]) -> None:
    mine, other, *_ = skerry.nodes
    client = act_as("skerry-probe", "--bound-object-kind", "Pod", "--bound-object-name", probes[mine])
    refusal = f"the probe of node {mine} must not write the NodeProfile of "

    def apply(path: str, document: Document) -> tuple[int, str]:
        return told(client.patch(f"{PROFILES}/{path}", params=QUERY, headers=APPLY, json=document))

    assert apply(mine, profile(mine))[0] == 200
    status = next(each for each in skerry.get("nodeprofiles") if each["metadata"]["name"] == mine)["status"]
    assert apply(f"{mine}/status", profile(mine, status=status))[0] == 200
    for path, document in (
        (other, profile(other)),
        (f"{other}/status", profile(other, status=status)),
        ("no-such-node", profile("no-such-node")),
    ):
        code, message = apply(path, document)
        assert code == 403
        assert refusal + document["metadata"]["name"] in message
    unnamed = {**profile(""), "metadata": {"generateName": f"{mine}-"}}
    assert told(client.post(PROFILES, params={"dryRun": "All"}, json=unnamed))[0] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PROFILES),
        ("DELETE", f"{PROFILES}/{{node}}"),
        ("DELETE", PROFILES),
        ("GET", "/api/v1/nodes"),
        ("PATCH", "/api/v1/nodes/{node}"),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/registry-push"),
        ("GET", "/apis/skerry.dev/v1alpha1/edgemodels"),
        ("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/skerry-operator/token"),
    ],
)
def test_a_probe_may_nothing_else(skerry: Cluster, act_as: As, probes: dict[str, str], method: str, path: str) -> None:
    node = skerry.nodes[0]
    client = act_as("skerry-probe", "--bound-object-kind", "Pod", "--bound-object-name", probes[node])

    document: Document = {} if method in {"PATCH", "POST"} else {"dryRun": ["All"]}
    kind = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    answer = client.request(method, path.format(node=node), params={"dryRun": "All"}, json=document, headers=kind)

    assert answer.status_code == 403, answer.text


def test_a_token_of_no_node_writes_no_profile(skerry: Cluster, act_as: As) -> None:
    node = skerry.nodes[0]

    answer = act_as("skerry-probe").patch(f"{PROFILES}/{node}", params=QUERY, headers=APPLY, json=profile(node))

    code, message = told(answer)
    assert code == 403
    assert "the probe's token is not bound to a node" in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/registry-htpasswd"),
        ("GET", "/api/v1/namespaces/kube-system/secrets/any"),
        ("DELETE", f"/api/v1/namespaces/{SYSTEM}/secrets/registry-push"),
        ("DELETE", "/apis/skerry.dev/v1alpha1/namespaces/default/edgemodels/any"),
        ("POST", "/api/v1/namespaces/default/pods"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        ("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/skerry-probe/token"),
    ],
)
def test_the_operator_may_not(act_as: As, method: str, path: str) -> None:
    answer = act_as("skerry-operator").request(method, path, params={"dryRun": "All"}, json={})

    assert answer.status_code == 403, answer.text


NOT_LABELS = "the operator may change only labels of Nodes"
NOT_OURS = "the operator may change only labels that begin with skerry.dev/"
NOBODY = {"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "0"}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"metadata": {"labels": {"kubernetes.io/hostname": None}}}, NOT_OURS),
        ({"metadata": {"labels": {"kubernetes.io/hostname": "other"}}}, NOT_OURS),
        ({"metadata": {"annotations": {"skerry.dev/note": "x"}}}, NOT_LABELS),
        ({"metadata": {"finalizers": ["skerry.dev/stay"]}}, NOT_LABELS),
        ({"metadata": {"ownerReferences": [NOBODY]}}, NOT_LABELS),
        ({"spec": {"taints": [{"key": "skerry.dev/x", "effect": "NoExecute"}]}}, NOT_LABELS),
    ],
)
def test_the_operator_changes_nothing_of_a_node_but_its_own_labels(
    skerry: Cluster, act_as: As, patch: Document, message: str
) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    path = f"/api/v1/nodes/{skerry.nodes[0]}"

    answer = act_as("skerry-operator").patch(path, params={"dryRun": "All"}, json=patch, headers=headers)

    code, said = told(answer)
    assert code == 403, answer.text
    assert message in said


def test_the_operator_takes_no_secret_over(skerry: Cluster, act_as: As) -> None:
    """One that someone else made, under a name like its own."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "someones-push", "namespace": SYSTEM}}
    skerry.kubectl("apply", "--server-side", "--filename", "-", text=json.dumps(secret))
    try:
        labels = {"app.kubernetes.io/managed-by": "skerry"}
        document = {**secret, "metadata": {"name": "someones-push", "labels": labels}}
        path = f"/api/v1/namespaces/{SYSTEM}/secrets/someones-push"
        code, message = told(act_as("skerry-operator").patch(path, params=QUERY, headers=APPLY, json=document))
    finally:
        skerry.kubectl("delete", "secret", "someones-push", "--namespace", SYSTEM)

    assert code == 403
    assert "the operator may write only the Secrets with credentials that it makes for its Jobs and pods" in message


OWNER = {"apiVersion": "skerry.dev/v1alpha1", "kind": "OptimizationJob", "name": "j", "uid": "0-1", "controller": True}
POD: Document = {
    "automountServiceAccountToken": False,
    "restartPolicy": "Never",
    "containers": [{"name": "a", "image": "a", "securityContext": {"allowPrivilegeEscalation": False}}],
}


@pytest.mark.parametrize(
    ("change", "more", "refused"),
    [
        ({}, {}, ""),
        ({"ownerReferences": []}, {}, "may change only workloads that belong to an object of Skerry's"),
        ({"labels": {}}, {}, "is labelled app.kubernetes.io/managed-by=skerry"),
        ({}, {"serviceAccountName": "skerry-operator"}, "has no service account's token"),
        ({}, {"automountServiceAccountToken": True}, "has no service account's token"),
        ({}, {"hostNetwork": True}, "no namespace of the host's"),
        ({}, {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "mounts no folder of the node"),
        ({}, {"containers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]}, "no privileges"),
    ],
)
def test_the_operator_runs_nothing_that_would_give_it_more_rights(
    act_as: As, change: Document, more: Document, refused: str
) -> None:
    labels = {"app.kubernetes.io/managed-by": "skerry"}
    metadata = {"name": "tried", "labels": labels, "ownerReferences": [OWNER], **change}
    spec = {"template": {"spec": {**POD, **more}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    path = "/apis/batch/v1/namespaces/default/jobs/tried"
    code, message = told(act_as("skerry-operator").patch(path, params=QUERY, headers=APPLY, json=job))
    assert (code, refused in message) == (403 if refused else 201, True), message


def test_the_operator_is_allowed_all_that_it_tries(skerry: Cluster) -> None:
    log = skerry.kubectl("logs", "deployment/skerry-operator", "--namespace", SYSTEM)

    assert [line for line in log.splitlines() if " 403 " in line or "orbidden" in line] == []


def test_an_upgrade_keeps_the_registrys_password(skerry: Cluster) -> None:
    def secrets() -> list[Document]:
        return [skerry.get("secret", name, "--namespace", SYSTEM)[0]["data"] for name in names]

    names = ("registry-push", "registry-htpasswd")
    before = secrets()
    skerry.helm("upgrade", "skerry", ROOT / "charts" / "skerry", "--namespace", SYSTEM, "--reuse-values", "--wait")

    assert secrets() == before
