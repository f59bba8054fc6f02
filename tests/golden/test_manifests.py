"""What the operator makes of an input, whole, as files that people can read and review.

`SKERRY_UPDATE_GOLDEN=1 pytest tests/golden` writes them anew; look at the difference before you commit it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry.accelerators.catalogue import catalogue
from skerry.api import labels
from skerry.api.edgedeployment import EdgeDeploymentSpec
from skerry.api.edgemodel import Variant
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import Framework
from skerry.manifests.job import optimization_job, push_secret
from skerry.manifests.serving import Group, budget, claim_template, pull_secret, service, workload
from skerry.manifests.settings import InstallationSettings

HERE = Path(__file__).parent
SETTINGS = InstallationSettings.model_validate(
    {
        "optimizerImage": "skerry-optimizer:1",
        "serverImage": "skerry-server:1",
        "serverImages": {"LlamaCpp": "skerry-server-llamacpp:1"},
        "registry": {
            "push": "registry.skerry-system.svc:5000",
            "pull": "localhost:30500",
            "read": "registry-nodes.skerry-system.svc:5000",
            "insecure": ["registry.skerry-system.svc:5000", "localhost:30500"],
            "credentialsSecret": "registry-push",
        },
    }
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
EXTERNAL = InstallationSettings.model_validate(
    {
        "optimizerImage": "registry.example.com/skerry-optimizer:1",
        "serverImage": "registry.example.com/skerry-server:1",
        "imagePullSecrets": ["images"],
        "caBundle": CERTIFICATE,
        "huggingFaceEndpoint": "https://hub.example.com",
        "registry": {
            "push": "registry.example.com",
            "pull": "registry.example.com",
            "prefix": "edge/models",
            "credentialsSecret": "my-push",
            "pullCredentialsSecret": "my-pull",
        },
    }
)
VARIANT = Variant(
    accelerator="cpu",
    optimization_job_name="digits-cpu-1",
    artifact="oci://localhost:30500/models/vision/digits@sha256:" + "1" * 64,
    requires={"architecture": "amd64", "cpuFeatures": ["avx512_vnni"]},
)
CPU = Group(VARIANT, catalogue()["cpu"], 1)
LANGUAGE = replace(CPU, variant=VARIANT.model_copy(update={"framework": Framework.LLAMA_CPP}))
NPU = Group(VARIANT.model_copy(update={"accelerator": "intel-npu"}), catalogue()["intel-npu"], 2, "npu.intel.com/accel")
JETSON = Group(
    VARIANT.model_copy(update={"accelerator": "jetson-orin"}), catalogue()["jetson-orin"], None, "nvidia.com/gpu"
)
CLAIM = replace(
    NPU, variant=NPU.variant.model_copy(update={"accelerator": "nvidia-gpu"}), entry=catalogue()["nvidia-gpu"]
)
CLAIM = replace(CLAIM, resource=labels.resource_of_class("gpu.nvidia.com"))


def parent(kind: str, name: str, marks: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "vision", "uid": "0000-1111", "labels": marks or {}}
    return {"apiVersion": "skerry.dev/v1alpha1", "kind": kind, "metadata": metadata}


def job(settings: InstallationSettings = SETTINGS, tools: Sequence[str] = (), **spec: Any) -> list[dict[str, Any]]:
    wanted = {"model": {"uri": "oci://r/m:1"}, "accelerator": "cpu", **spec}
    owner = parent("OptimizationJob", "digits-cpu-1", {"skerry.dev/model": "digits"})
    made = optimization_job(owner, OptimizationJobSpec.model_validate(wanted), settings, catalogue()["cpu"], tools)
    return [push_secret(owner, {".dockerconfigjson": "e30="}), made]


def serving(
    *, image_volumes: bool, settings: InstallationSettings = SETTINGS, group: Group | None = None, **spec: Any
) -> list[dict[str, Any]]:
    owner = parent("EdgeDeployment", "front")
    wanted = EdgeDeploymentSpec.model_validate({"modelName": "digits", **spec})
    made = workload(owner, wanted, group or CPU, settings, image_volumes=image_volumes)
    secret = pull_secret(owner, {".dockerconfigjson": "e30="}) if settings.registry.pull_credentials_secret else None
    template = claim_template(owner, wanted, (group or CPU).resource)
    found = [secret, template, made, service(owner, wanted), budget(owner, wanted)]
    return [document for document in found if document is not None]


CASES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "job-least": job,
    "job-everything": lambda: job(
        model={"uri": "pvc://models/a.onnx", "sha256": "0" * 64, "credentialsSecretName": "mine"},
        evaluation={"uri": "pvc://data/test.npz", "sha256": "0" * 64},
        calibration={"uri": "pvc://data/calibration.npz", "sha256": "0" * 64},
        suspend=True,
        optimization={
            "nodeSelector": {"site": "a"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "resources": {"limits": {"memory": "512Mi"}},
            "activeDeadlineSeconds": 600,
            "labels": {"kueue.x-k8s.io/queue-name": "edge"},
        },
    ),
    "job-with-tools": lambda: job(
        SETTINGS.model_copy(update={"tool_images": {"llamacpp": "skerry-optimizer-llamacpp:1"}}),
        ["llamacpp"],
        model={"uri": "hf://org/tiny@" + "0" * 40},
        optimization={"resources": {"limits": {"memory": "2Gi"}}},
    ),
    "job-own-registry": lambda: job(EXTERNAL),
    "serving-own-registry": lambda: serving(image_volumes=True, settings=EXTERNAL, placement={"replicas": 1}),
    "serving-own-registry-init-container": lambda: serving(
        image_volumes=False, settings=EXTERNAL, placement={"replicas": 1}
    ),
    "serving-language": lambda: serving(image_volumes=True, group=LANGUAGE, placement={"replicas": 1}),
    "serving-language-init-container": lambda: serving(
        image_volumes=False, group=LANGUAGE, placement={"replicas": 1}, runtime={"resources": {"limits": {"cpu": "2"}}}
    ),
    "serving-npu": lambda: serving(image_volumes=True, group=NPU, placement={"fallback": "Allow"}),
    "serving-each-jetson": lambda: serving(image_volumes=True, group=JETSON, placement={"mode": "PerNode"}),
    "serving-claim": lambda: serving(image_volumes=True, group=CLAIM, placement={"replicas": 2}),
    "serving-image-volume": lambda: serving(image_volumes=True, placement={"replicas": 1}),
    "serving-init-container": lambda: serving(
        image_volumes=False,
        placement={"replicas": 3, "topologyKey": "topology.kubernetes.io/zone", "priorityClassName": "edge"},
        runtime={"env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": "2"}}},
        service={"type": "NodePort", "port": 80},
    ),
}


class Readable(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_they_were_reviewed(case: str) -> None:
    text = yaml.dump_all(CASES[case](), Dumper=Readable, sort_keys=False, width=120)
    path = HERE / "expected" / f"{case}.yaml"
    if os.environ.get("SKERRY_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted(case: str) -> None:
    for document in CASES[case]():
        pod = document.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_a_limit_below_the_default_request_lowers_the_request() -> None:
    (_, made) = job(optimization={"resources": {"limits": {"memory": "512Mi"}}})
    resources = made["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == "512Mi"


def test_a_request_above_the_default_limit_raises_the_limit() -> None:
    (_, made) = job(optimization={"resources": {"requests": {"memory": "6Gi", "cpu": "100m"}}})
    resources = made["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == "6Gi"
    assert resources["limits"].get("cpu") != "100m", "a default limit is not lowered"


def test_the_users_environment_wins() -> None:
    (made, *_) = serving(image_volumes=True, runtime={"env": [{"name": "SKERRY_SERVER_THREADS", "value": "3"}]})
    environment = made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert environment == [{"name": "SKERRY_SERVER_THREADS", "value": "3"}]


def test_the_revision_changes_with_what_runs_and_with_nothing_else() -> None:
    def revision(**spec: Any) -> str:
        found: str = serving(image_volumes=True, **spec)[0]["spec"]["template"]["metadata"]["labels"][
            "skerry.dev/revision"
        ]
        return found

    assert revision() == revision(placement={"replicas": 5}, service={"port": 80})
    assert revision() != revision(runtime={"env": [{"name": "A", "value": "b"}]})
