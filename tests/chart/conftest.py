"""The chart, rendered by the Helm that devcluster brings."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import parts

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "skerry"
RELEASE, NAMESPACE = "edge", "site"
KUBERNETES = "1.36.3"
Document = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Rendered:
    """What Helm would send to the API server."""

    documents: list[Document]

    def of(self, kind: str) -> dict[str, Document]:
        """Return the objects of a kind by name."""
        return {each["metadata"]["name"]: each for each in self.documents if each["kind"] == kind}

    def pods(self) -> dict[str, Document]:
        """Return the specs of all pods that can come from the chart, by kind and name."""
        found: dict[str, Document] = {}
        for each in self.documents:
            name = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] == "Pod":
                found[name] = each["spec"]
            elif each["kind"] in {"Deployment", "DaemonSet", "StatefulSet", "Job"}:
                found[name] = each["spec"]["template"]["spec"]
        return found


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run Helm where it can neither find a cluster nor someone's settings."""
    home = str(tmp_path_factory.mktemp("home"))
    program = parts.helm()

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={"HOME": home, "KUBECONFIG": "/dev/null"},
        )

    return run


Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Render the chart with words of the command line."""

    def run(*words: str, version: str = KUBERNETES) -> Rendered:
        done = helm("template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", version, *words)
        assert done.returncode == 0, done.stderr
        return Rendered([each for each in yaml.safe_load_all(done.stdout) if each])

    return run


EXTERNAL = (
    *("--set", "registry.embedded.enabled=false"),
    *("--set", "registry.external.host=registry.example.com"),
    *("--set", "registry.external.credentialsSecretName=my-login"),
)


@pytest.fixture(scope="session")
def default(render: Render) -> Rendered:
    """The chart with nobody's wishes."""
    return render()


@pytest.fixture(scope="session")
def external(render: Render) -> Rendered:
    """The chart with a registry of one's own."""
    return render(*EXTERNAL)
