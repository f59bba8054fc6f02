"""What the chart makes: definitions, the operator's settings, the probe, tests."""

import pytest
import yaml

from skerry.controllers.check import POLICIES
from skerry.controllers.settings import Settings
from tests.chart.conftest import CHART, EXTERNAL, NAMESPACE, ROOT, Document, Render, Rendered


def test_the_definitions_are_those_of_the_api(default: Rendered) -> None:
    generated = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "crds").glob("*.yaml")}
    rendered = default.of("CustomResourceDefinition")

    assert rendered.keys() == generated.keys()
    for name, definition in generated.items():
        assert rendered[name]["spec"] == definition["spec"]
        assert definition["metadata"].items() <= rendered[name]["metadata"].items()


@pytest.mark.parametrize(("words", "policy"), [((), "keep"), (("--set", "crds.keep=false"), None)])
def test_objects_of_users_survive_an_uninstall_unless_someone_says_so(
    render: Render, words: tuple[str, ...], policy: str | None
) -> None:
    for definition in render(*words).of("CustomResourceDefinition").values():
        assert (definition["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == policy


def environment(found: Rendered) -> dict[str, str]:
    entries = found.pods()["Deployment/edge-operator"]["containers"][0]["env"]
    found_values = {entry["name"]: entry.get("value", NAMESPACE) for entry in entries}
    return {**found_values, "SKERRY_CATALOGUE": str(CHART / "files" / "catalogue.json")}


def test_the_operator_understands_its_settings(default: Rendered) -> None:
    settings = Settings.from_env(environment(default))

    registry = settings.installation.registry
    assert settings.namespace == NAMESPACE
    assert settings.watch == ()
    assert registry.push == f"registry.{NAMESPACE}.svc:5000"
    assert registry.pull == "localhost:30500"
    assert registry.read == f"registry-nodes.{NAMESPACE}.svc:5000"
    assert {registry.push, registry.pull, registry.read, f"registry.{NAMESPACE}:5000"} == set(registry.insecure)
    assert registry.credentials_secret == "registry-push"


def test_a_registry_of_ones_own_has_one_name(external: Rendered) -> None:
    registry = Settings.from_env(environment(external)).installation.registry

    assert registry.push == registry.pull == "registry.example.com"
    assert registry.read == ""
    assert registry.insecure == []
    assert registry.credentials_secret == registry.pull_credentials_secret == "my-login"
    assert "registry-push" not in external.of("Secret")


def test_the_operator_reads_the_secrets_that_it_hands_on_and_no_other(render: Render, external: Rendered) -> None:
    apart = render(*EXTERNAL, "--set", "registry.external.pullCredentialsSecretName=my-reader")

    assert Settings.from_env(environment(apart)).installation.registry.pull_credentials_secret == "my-reader"
    assert apart.of("Role")["edge-operator"]["rules"][0]["resourceNames"] == ["my-login", "my-reader"]
    assert external.of("Role")["edge-operator"]["rules"][0]["resourceNames"] == ["my-login"]


def test_values_reach_the_operator(render: Render) -> None:
    settings = Settings.from_env(
        environment(
            render(
                *("--set", "operator.watchNamespaces={a,b}", "--set", "operator.resyncSeconds=60"),
                *("--set", "operator.workers=2", "--set", "imageVolumes=Never", "--set", "sources.allowHttp=true"),
                *("--set", "sources.huggingFaceEndpoint=https://hub.example.com"),
                *("--set", "registry.prefix=edge/models", "--set", "registry.insecure={plain.example.com:5000}"),
                *("--set", "optimizer.workSize=1Gi", "--set", "optimizer.resources.limits.memory=2Gi"),
                *("--set", "server.resources.limits.memory=256Mi", "--set", "registry.embedded.nodePort=31000"),
            )
        )
    )

    installation = settings.installation
    assert settings.watch == ("a", "b")
    assert (settings.resync_seconds, settings.workers) == (60, 2)
    assert installation.image_volumes == "Never"
    assert installation.allow_http
    assert installation.hugging_face_endpoint == "https://hub.example.com"
    assert installation.registry.prefix == "edge/models"
    assert installation.registry.pull == "localhost:31000"
    assert "plain.example.com:5000" in installation.registry.insecure
    assert installation.work_size == "1Gi"
    assert (installation.optimizer_resources.limits or {})["memory"] == "2Gi"
    assert (installation.server_resources.limits or {})["memory"] == "256Mi"


def test_there_is_one_operator_never_two(default: Rendered) -> None:
    spec = default.of("Deployment")["edge-operator"]["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def ports(spec: Document) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for container in spec["containers"] for port in container["ports"]}


def test_the_ports_of_the_operator_are_those_that_it_is_told(default: Rendered) -> None:
    settings = Settings.from_env(environment(default))

    assert ports(default.pods()["Deployment/edge-operator"]) == {
        "metrics": settings.metrics_port,
        "health": settings.health_port,
    }


def test_a_probe_runs_on_every_node_and_knows_its_name(default: Rendered) -> None:
    spec = default.pods()["DaemonSet/edge-probe"]

    (container,) = spec["containers"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert "nodeSelector" not in spec
    assert {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}} in container["env"]


def test_services_and_workloads_find_their_pods_and_no_others(default: Rendered) -> None:
    labels = {
        f"{each['kind']}/{each['metadata']['name']}": each["spec"]["template"]["metadata"]["labels"]
        for each in default.documents
        if each["kind"] in {"Deployment", "DaemonSet"}
    }
    labels |= {f"Pod/{name}": pod["metadata"]["labels"] for name, pod in default.of("Pod").items()}

    def found(selector: Document) -> list[str]:
        return [name for name, given in labels.items() if selector.items() <= given.items()]

    for kind in ("Deployment", "DaemonSet"):
        for name, each in default.of(kind).items():
            assert found(each["spec"]["selector"]["matchLabels"]) == [f"{kind}/{name}"]
    services = {name: found(each["spec"]["selector"]) for name, each in default.of("Service").items()}
    assert services == {
        "registry": ["Deployment/registry"],
        "registry-nodes": ["Deployment/registry"],
        "edge-operator-metrics": ["Deployment/edge-operator"],
    }


def checks(found: Rendered) -> dict[str, list[str]]:
    return {name: pod["spec"]["containers"][0].get("args", []) for name, pod in found.of("Pod").items()}


def test_the_installation_can_be_tested(default: Rendered) -> None:
    assert checks(default) == {
        "edge-test": [],
        "edge-test-operator": [f"operator,{NAMESPACE}"],
        "edge-test-probe": ["probe"],
        "edge-test-registry": [f"registry,registry.{NAMESPACE}.svc:5000,registry-nodes.{NAMESPACE}.svc:5000"],
        "edge-test-volume": ["volume"],
    }


def test_every_policy_is_looked_at(default: Rendered) -> None:
    expected = {f"edge-{suffix}" for suffix in POLICIES}

    assert default.of("ValidatingAdmissionPolicy").keys() == expected
    assert default.of("ValidatingAdmissionPolicyBinding").keys() == expected


def test_the_volume_is_mounted_after_it_was_pushed(default: Rendered) -> None:
    weights = {
        name: int(pod["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))
        for name, pod in default.of("Pod").items()
    }

    assert weights["edge-test-registry"] < weights["edge-test-volume"]


@pytest.mark.parametrize(
    ("words", "version", "missing"),
    [
        ((), "1.34.9", {"edge-test-volume"}),
        (("--set", "imageVolumes=Never"), "1.36.3", {"edge-test-volume"}),
        (("--set", "probe.enabled=false"), "1.36.3", {"edge-test-probe"}),
        (("--set", "admissionPolicies.enabled=false"), "1.36.3", {"edge-test-probe", "edge-test-operator"}),
        (EXTERNAL, "1.36.3", {"edge-test-registry", "edge-test-volume"}),
    ],
)
def test_only_what_is_installed_is_tested(
    default: Rendered, render: Render, words: tuple[str, ...], version: str, missing: set[str]
) -> None:
    assert checks(default).keys() - checks(render(*words, version=version)).keys() == missing


def test_a_volume_is_tested_on_older_clusters_when_it_is_wanted(render: Render) -> None:
    found = render("--set", "imageVolumes=Always", "--set", "registry.embedded.nodePort=31000", version="1.33.0")

    volumes = found.pods()["Pod/edge-test-volume"]["volumes"]
    image = {"reference": "localhost:31000/skerry-test/volume:1", "pullPolicy": "Always"}
    assert {"name": "volume", "image": image} in volumes
