"""What the chart lets its pods and accounts do."""

import itertools

import pytest

from skerry.controllers.check import POLICIES
from skerry.controllers.operator import WATCHED
from tests.chart.conftest import EXTERNAL, NAMESPACE, RELEASE, Document, Render, Rendered

# https://kubernetes.io/docs/concepts/security/pod-security-standards/ : the volumes of the restricted standard
RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
}


@pytest.fixture(scope="module", params=["default", "external", "no policies"])
def found(request: pytest.FixtureRequest, render: Render) -> Rendered:
    words = {"default": (), "external": EXTERNAL, "no policies": ("--set", "admissionPolicies.enabled=false")}
    return render(*words[request.param])


def violations(spec: Document) -> list[str]:
    """Return what of the restricted Pod Security Standard a pod does not keep."""
    pod = spec.get("securityContext", {})
    wrong = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    wrong += [kind for volume in spec.get("volumes", []) for kind in set(volume) - {"name"} - RESTRICTED_VOLUMES]
    for container in itertools.chain(spec["containers"], spec.get("initContainers", [])):
        own = container.get("securityContext", {})
        kept = {
            "runAsNonRoot": own.get("runAsNonRoot", pod.get("runAsNonRoot")) is True,
            "runAsUser": own.get("runAsUser", pod.get("runAsUser")) != 0,
            "seccomp": own.get("seccompProfile", pod.get("seccompProfile")) == {"type": "RuntimeDefault"},
            "escalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "root filesystem": own.get("readOnlyRootFilesystem") is True,
            "host ports": not any(port.get("hostPort") for port in container.get("ports", [])),
        }
        wrong += [f"{container['name']}: {name}" for name, holds in kept.items() if not holds]
    return wrong


def test_every_pod_but_the_probe_keeps_the_restricted_standard(found: Rendered) -> None:
    pods = found.pods()

    assert "Deployment/edge-operator" in pods
    # The probe's devices are the node's.
    allowed = {"DaemonSet/edge-probe": ["hostPath"] * 3 + ["probe: runAsNonRoot", "probe: runAsUser"]}
    assert {name: wrong for name, spec in pods.items() if (wrong := violations(spec))} == allowed


def test_the_probe_sees_devices_of_the_node_and_writes_only_its_sockets(found: Rendered) -> None:
    spec = found.pods()["DaemonSet/edge-probe"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: (mount["mountPath"], mount["readOnly"]) for mount in container["volumeMounts"]}

    assert {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume} == {
        "sys": "/sys",
        "dev": "/dev",
        "device-plugins": "/var/lib/kubelet/device-plugins",
    }
    assert mounts == {
        "sys": ("/host/sys", True),
        "dev": ("/host/dev", True),
        "device-plugins": ("/var/lib/kubelet/device-plugins", False),
        "accelerators": ("/etc/skerry/accelerators", True),
    }
    assert container["args"][:4] == ["--root", "/host", "--proc-root", "/"]


def test_every_container_has_limits_of_memory(found: Rendered) -> None:
    for name, spec in found.pods().items():
        for container in spec["containers"]:
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name


def test_only_those_who_talk_to_the_api_server_get_a_token(found: Rendered) -> None:
    own = {f"{RELEASE}-operator", f"{RELEASE}-probe", f"{RELEASE}-test"}

    for name, spec in found.pods().items():
        account = spec.get("serviceAccountName")
        assert account in own or (account is None and spec["automountServiceAccountToken"] is False), name


def rights(role: Document) -> dict[str, set[str]]:
    """Return the verbs of a role by resource."""
    verbs: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
            verbs.setdefault(f"{resource}.{group}" if group else resource, set()).update(rule["verbs"])
    return verbs


def test_nothing_is_granted_by_a_wildcard(found: Rendered) -> None:
    roles = [*found.of("ClusterRole").values(), *found.of("Role").values()]

    for role in roles:
        for resource, verbs in rights(role).items():
            assert "*" not in resource
            assert verbs.isdisjoint({"*", "deletecollection", "impersonate", "escalate", "bind"})


def test_the_operator_may_do_what_its_work_needs_and_no_more(default: Rendered) -> None:
    read = {"get", "list", "watch"}
    assert rights(default.of("ClusterRole")["edge-operator"]) == {
        "edgemodels.skerry.dev": read,
        "edgedeployments.skerry.dev": read,
        "nodeprofiles.skerry.dev": read,
        "optimizationjobs.skerry.dev": {*read, "create", "patch", "delete"},
        "edgemodels/status.skerry.dev": {"update"},
        "edgedeployments/status.skerry.dev": {"update"},
        "optimizationjobs/status.skerry.dev": {"update"},
        "edgemodels/finalizers.skerry.dev": {"update"},
        "edgedeployments/finalizers.skerry.dev": {"update"},
        "optimizationjobs/finalizers.skerry.dev": {"update"},
        "jobs.batch": {*read, "create", "patch", "delete"},
        "deployments.apps": {*read, "create", "patch", "delete"},
        "daemonsets.apps": {*read, "create", "patch", "delete"},
        "services": {*read, "create", "patch"},
        "poddisruptionbudgets.policy": {*read, "create", "patch", "delete"},
        "deviceclasses.resource.k8s.io": {"list"},
        "resourceslices.resource.k8s.io": {"list"},
        "resourceclaims.resource.k8s.io": {"list"},
        "resourceclaimtemplates.resource.k8s.io": {"get", "create", "patch"},
        "pods": {*read, "patch", "delete"},
        "pods/log": {"get"},
        "pods/proxy": {"get"},
        "secrets": {"create", "patch"},
        "nodes": {*read, "patch"},
        "events.events.k8s.io": {"create"},
    }


def test_the_operator_may_watch_what_it_watches(default: Rendered) -> None:
    granted = rights(default.of("ClusterRole")["edge-operator"])

    for watched in WATCHED:
        plural, _, rest = watched.partition(".")
        group = rest.partition(".")[2]
        assert {"list", "watch"} <= granted[f"{plural}.{group}" if group else plural], watched


def test_the_operator_reads_one_secret_only(default: Rendered, external: Rendered) -> None:
    for rendered, secret in ((default, "registry-push"), (external, "my-login")):
        role = rendered.of("Role")["edge-operator"]
        assert role["metadata"]["namespace"] == NAMESPACE
        assert role["rules"] == [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["get"]}
        ]


def test_the_probe_writes_profiles_and_reads_nothing(default: Rendered) -> None:
    assert rights(default.of("ClusterRole")["edge-probe"]) == {
        "nodeprofiles.skerry.dev": {"create", "patch"},
        "nodeprofiles/status.skerry.dev": {"create", "patch"},
    }


def test_what_tests_may_do_goes_with_them(default: Rendered) -> None:
    role = default.of("ClusterRole")["edge-test"]

    assert role["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "hook-succeeded" in role["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert set().union(*rights(role).values()) <= {"get", "list"}


def test_each_policy_denies_and_is_about_an_account_of_the_release(default: Rendered) -> None:
    policies = default.of("ValidatingAdmissionPolicy")
    bindings = default.of("ValidatingAdmissionPolicyBinding")

    assert policies.keys() == bindings.keys() == {f"{RELEASE}-{name}" for name in POLICIES}
    for name, policy in policies.items():
        account = name.split("-")[1]
        (condition,) = policy["spec"]["matchConditions"]
        assert (
            condition["expression"]
            == f"request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:{RELEASE}-{account}'"
        )
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert bindings[name]["spec"] == {"policyName": name, "validationActions": ["Deny"]}


def test_every_binding_is_of_an_account_and_a_role_of_the_chart(found: Rendered) -> None:
    accounts = found.of("ServiceAccount")
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        for name, binding in found.of(kind).items():
            assert binding["roleRef"]["name"] in found.of(binding["roleRef"]["kind"]), name
            for subject in binding["subjects"]:
                assert subject["name"] in accounts, name
                assert subject["namespace"] == NAMESPACE, name
