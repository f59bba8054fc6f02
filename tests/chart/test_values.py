"""Values: what they do, and what a wrong one says."""

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from skerry.version import VERSION
from tests.chart.conftest import CHART, EXTERNAL, NAMESPACE, RELEASE, ROOT, Helm, Render, Rendered

if TYPE_CHECKING:
    import subprocess

VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", [(), EXTERNAL], ids=["default", "external"])
def test_the_chart_has_nothing_that_helm_finds_odd(helm: Helm, words: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", CHART, *words)

    assert done.returncode == 0, done.stdout + done.stderr


def template(helm: Helm, *words: str) -> "subprocess.CompletedProcess[str]":
    return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "operater.workers=2"), "additional properties 'operater' not allowed"),
        (("--set", "probe.hostRoot=/"), "additional properties 'hostRoot' not allowed"),
        (("--set", "operator.workers=0"), "at '/operator/workers': minimum: got 0, want 1"),
        (("--set", "probe.enabled=perhaps"), "at '/probe/enabled': got string, want boolean"),
        (("--set", "imageVolumes=Sometimes"), "at '/imageVolumes': value must be one of 'Auto', 'Always', 'Never'"),
        (("--set", "registry.embedded.nodePort=80"), "at '/registry/embedded/nodePort': minimum: got 80"),
        (("--set", "registry.prefix=Models/"), "at '/registry/prefix': 'Models/' does not match pattern"),
        (
            ("--set", "sources.huggingFaceEndpoint=hub.example.com"),
            "at '/sources/huggingFaceEndpoint': 'hub.example.com'",
        ),
        (
            ("--set", "registry.embedded.enabled=false"),
            "registry.external.host is needed when registry.embedded.enabled is false",
        ),
        (("--kube-version", "1.31.0"), "chart requires kubeVersion: >=1.32.0-0"),
    ],
)
def test_a_wrong_value_is_refused_with_a_reason(helm: Helm, words: tuple[str, ...], message: str) -> None:
    done = template(helm, *words)

    assert done.returncode != 0
    assert message in done.stderr


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what the schema says about each value, by path."""
    found = {path: schema} if path else {}
    for name, inner in schema.get("properties", {}).items():
        found |= leaves(inner, (*path, name))
    return found


def given(values: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the paths of all values that have a default."""
    found: set[tuple[str, ...]] = set()
    for name, inner in values.items():
        found.add((*path, name))
        if isinstance(inner, dict):
            found |= given(inner, (*path, name))
    return found


def test_every_value_has_a_description_and_a_default() -> None:
    known = leaves(SCHEMA)

    assert [path for path, schema in known.items() if not schema.get("description")] == []
    assert {path for path in known if path != ("global",)} - given(VALUES) == set()


def test_no_object_of_values_takes_unknown_names() -> None:
    loose = [
        path
        for path, schema in leaves(SCHEMA).items()
        if "properties" in schema and schema.get("additionalProperties") is not False
    ]

    assert loose == []


@pytest.mark.parametrize(
    ("name", "kind", "where"),
    [
        ("operator", "Deployment", "edge-operator"),
        ("probe", "DaemonSet", "edge-probe"),
        ("registry", "Deployment", "registry"),
    ],
)
def test_each_image_can_be_replaced(render: Render, name: str, kind: str, where: str) -> None:
    spec = render("--set", f"images.{name}=mirror.example.com/{name}@sha256:1").pods()[f"{kind}/{where}"]

    assert {each["image"] for each in spec["containers"]} == {f"mirror.example.com/{name}@sha256:1"}


def test_one_repository_tag_and_policy_serve_all_images(render: Render) -> None:
    found = render(
        *("--set", "images.repository=mirror.example.com/s/skerry", "--set", "images.tag=v9"),
        *("--set", "images.pullPolicy=Never", "--set", "images.pullSecrets={one,two}"),
    )

    settings = installation(found)
    assert settings["optimizerImage"] == "mirror.example.com/s/skerry-optimizer:v9"
    assert settings["serverImage"] == "mirror.example.com/s/skerry-server:v9"
    assert settings["serverImages"] == {"LlamaCpp": "mirror.example.com/s/skerry-server-llamacpp:v9"}
    assert settings["imagePullPolicy"] == "Never"
    for name, spec in found.pods().items():
        assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], name
        for container in spec["containers"]:
            assert container["imagePullPolicy"] == "Never", name
            if not name.endswith("/registry"):
                assert container["image"].startswith("mirror.example.com/s/skerry-"), name


def installation(found: Rendered) -> dict[str, Any]:
    environment = found.pods()["Deployment/edge-operator"]["containers"][0]["env"]
    settings: dict[str, Any] = json.loads(next(e["value"] for e in environment if e["name"] == "SKERRY_INSTALLATION"))
    return settings


@pytest.mark.parametrize(
    ("component", "where"), [("operator", "Deployment/edge-operator"), ("registry.embedded", "Deployment/registry")]
)
def test_pods_go_where_they_are_wanted(render: Render, component: str, where: str) -> None:
    own = render().pods()[where].get("tolerations", [])
    spec = render(
        *("--set", f"{component}.nodeSelector.disk=fast", "--set", f"{component}.tolerations[0].key=edge"),
        *("--set", f"{component}.tolerations[0].operator=Exists"),
    ).pods()[where]

    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [*own, {"key": "edge", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("words", "kind", "name"),
    [
        (("--set", "probe.enabled=false"), "DaemonSet", "edge-probe"),
        (("--set", "registry.embedded.enabled=false", "--set", "registry.external.host=r"), "Deployment", "registry"),
        (("--set", "admissionPolicies.enabled=false"), "ValidatingAdmissionPolicy", "edge-probe-own-node"),
        (("--set", "crds.enabled=false"), "CustomResourceDefinition", "edgemodels.skerry.dev"),
    ],
)
def test_a_part_can_be_left_out(
    default: Rendered, render: Render, words: tuple[str, ...], kind: str, name: str
) -> None:
    assert name in default.of(kind)
    assert render(*words).of(kind).keys().isdisjoint({name})


def test_one_version_is_told_everywhere() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert chart["version"] == chart["appVersion"] == VERSION == project["project"]["version"]


@pytest.mark.parametrize("words", [(), EXTERNAL], ids=["default", "external"])
def test_the_notes_tell_the_next_step(helm: Helm, words: tuple[str, ...]) -> None:
    done = helm("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", *words)

    notes = done.stdout.partition("NOTES:")[2]
    assert done.returncode == 0, done.stderr
    assert "skerry push" in notes
    assert f"helm test {RELEASE} --namespace {NAMESPACE}" in notes
    assert ("registry.example.com" in notes) == bool(words)


def test_the_operator_leaves_a_node_that_does_not_answer(render: Render) -> None:
    found = render("--set", "operator.unreachableSeconds=7").pods()["Deployment/edge-operator"]["tolerations"]
    assert {each["key"]: (each["effect"], each["tolerationSeconds"]) for each in found} == {
        "node.kubernetes.io/unreachable": ("NoExecute", 7),
        "node.kubernetes.io/not-ready": ("NoExecute", 7),
    }
