"""What serves a variant: Deployment, Service, PodDisruptionBudget."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.api import jobcontract as contract
from skerry.api import labels
from skerry.api.edgedeployment import EdgeDeploymentSpec
from skerry.api.edgemodel import Variant
from skerry.api.meta import GROUP
from skerry.api.types import Framework
from skerry.manifests.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Document,
    credentials_secret,
    environment,
    image_pull_secrets,
    owner,
    recommended_labels,
    resources,
    tolerations,
    trust,
)
from skerry.manifests.settings import InstallationSettings
from skerry.store.references import SCHEME

CONTAINER: Final = "server"
PORT: Final = 8080
MODEL_PATH: Final = "/models/model"
CREDENTIALS: Final = "/credentials"
DRAIN_SECONDS: Final = 5
FINISH_SECONDS: Final = 20
FINISH_TEXT_SECONDS: Final = 120
"""For how long a language model may go on with what it has begun to write."""
START_SECONDS: Final = 600
_PERIOD: Final = 2
_THREADS: Final = "SKERRY_SERVER_THREADS"
_DEVICE: Final = "device"
"""Name of the claim in its pod, and of the request in the claim."""


def pull_secret_name(deployment: str) -> str:
    """Return the name of the Secret with the credentials to pull variants."""
    return f"{deployment}-pull"


def pull_secret(deployment: Document, credentials: dict[str, str]) -> Document:
    """Return the Secret with the registry's credentials, in the namespace of the deployment."""
    return credentials_secret(deployment, pull_secret_name(deployment["metadata"]["name"]), credentials)


def selector(name: str) -> dict[str, str]:
    """Return the labels by which a deployment's pods are found."""
    return {labels.DEPLOYMENT: name}


def revision(template: Document) -> str:
    """Return ten hexadecimal digits that stand for all that decides what runs."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def service(deployment: Document, spec: EdgeDeploymentSpec) -> Document:
    """Return the Service."""
    metadata = deployment["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(deployment, spec), "name": metadata["name"]},
        "spec": {
            "type": spec.service.type,
            "selector": selector(metadata["name"]),
            "ports": [{"name": "http", "port": spec.service.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def budget(deployment: Document, spec: EdgeDeploymentSpec) -> Document | None:
    """Return the PodDisruptionBudget that keeps all but one pod, or None where there is at most one."""
    if spec.placement.replicas < 2:  # noqa: PLR2004 - one pod cannot be kept while its node is drained
        return None
    metadata = deployment["metadata"]
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {**_metadata(deployment, spec), "name": metadata["name"]},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(metadata["name"])}},
    }


@dataclass(frozen=True)
class Group:
    """The replicas of a deployment that run on one accelerator.

    Attributes:
        variant: What they run.
        entry: The accelerator.
        replicas: How many; None for one on every node that is marked for it.
        resource: The extended resource of which each takes one, or what stands for the device class that it claims
            (`labels.resource_of_class`); empty for the CPU.
        groups: Groups that may open the device's files.
        mark: Label that marks the nodes for one pod each; empty where replicas are counted.
    """

    variant: Variant
    entry: AcceleratorEntry
    replicas: int | None
    resource: str = ""
    groups: tuple[int, ...] = ()
    mark: str = ""


def plugin_of(resource: str) -> str:
    """Return who gives a device: the plugin of skerry or of the vendor, a claim, or none where there is no device."""
    if not resource:
        return "none"
    if labels.class_of_resource(resource):
        return "claim"
    return "skerry" if resource.startswith(f"{GROUP}/") else "vendor"


def group_name(deployment: str, accelerator: str, resource: str) -> str:
    """Return the name of the workload that runs a group.

    While a vendor takes over from Skerry's device plugin, one accelerator may have a group of each.
    """
    return f"{deployment}-{group_word(accelerator, resource)}"


def group_word(accelerator: str, resource: str) -> str:
    """Return what tells a group from the deployment's others."""
    return accelerator + {"vendor": "-vendor", "claim": "-claim"}.get(plugin_of(resource), "")


def claim_template_name(deployment: str, device_class: str) -> str:
    """Return the name of the template of the claims for devices of a class."""
    return f"{deployment}-{device_class}"


def claim_template(deployment: Document, spec: EdgeDeploymentSpec, resource: str) -> Document | None:
    """Return the template of the claims by which a group's pods get their devices; None where no claim is needed."""
    device_class = labels.class_of_resource(resource)
    if not device_class:
        return None
    request = {
        "name": _DEVICE,
        "exactly": {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": 1},
    }
    metadata = _metadata(deployment, spec)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {**metadata, "name": claim_template_name(deployment["metadata"]["name"], device_class)},
        "spec": {"metadata": {"labels": metadata["labels"]}, "spec": {"devices": {"requests": [request]}}},
    }


def workload(
    deployment: Document,
    spec: EdgeDeploymentSpec,
    group: Group,
    settings: InstallationSettings,
    *,
    image_volumes: bool,
) -> Document:
    """Return the Deployment of a group, or its DaemonSet where every node runs one.

    Its pods' label `skerry.dev/revision` changes with everything that decides what runs.
    """
    name, accelerator = deployment["metadata"]["name"], group.entry.name
    pod = _pod(spec, group, settings, name, image_volumes=image_volumes)
    chosen = {**selector(name), labels.ACCELERATOR: accelerator, labels.PLUGIN: plugin_of(group.resource)}
    shown = {**_labels(name, spec), **chosen, labels.REVISION: revision(pod)}
    metadata = _metadata(deployment, spec)
    metadata["labels"] = {**metadata["labels"], **chosen}
    annotations = {labels.ARTIFACT: group.variant.artifact or ""}
    if device_class := labels.class_of_resource(group.resource):
        annotations[labels.DEVICE_CLASS] = device_class
    common: Document = {
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": chosen},
        "template": {
            "metadata": {"labels": shown, "annotations": annotations},
            "spec": pod,
        },
    }
    # A device cannot be in two pods: where one is asked for, the new pod begins when the old one has ended.
    rolling: Document = {"maxUnavailable": 1, "maxSurge": 0} if group.resource else {"maxUnavailable": 0, "maxSurge": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    own: Document
    if group.replicas is None:
        kind, own = "DaemonSet", {"updateStrategy": strategy}
    else:
        kind, own = "Deployment", {"replicas": group.replicas, "strategy": strategy}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {**metadata, "name": group_name(name, accelerator, group.resource)},
        "spec": {**own, **common},
    }


def _labels(name: str, spec: EdgeDeploymentSpec) -> dict[str, str]:
    return {
        **recommended_labels("skerry-server", name, "server"),
        **selector(name),
        labels.MODEL: spec.model_name,
    }


def _metadata(deployment: Document, spec: EdgeDeploymentSpec) -> Document:
    metadata = deployment["metadata"]
    return {
        "namespace": metadata["namespace"],
        "labels": _labels(metadata["name"], spec),
        "ownerReferences": [owner(deployment)],
    }


def _pod(
    spec: EdgeDeploymentSpec, group: Group, settings: InstallationSettings, name: str, *, image_volumes: bool
) -> Document:
    variant, needs = group.variant, group.entry.pod
    reference = (variant.artifact or "").removeprefix(SCHEME)
    image = settings.serving_image(variant.framework)
    placement = spec.placement
    nodes = {**(placement.node_selector or {}), labels.node_accelerator(variant.accelerator): "true"}
    if group.mark:
        nodes[group.mark] = group_word(variant.accelerator, group.resource)
    if variant.requires is not None:
        nodes["kubernetes.io/arch"] = variant.requires.architecture
        nodes.update({labels.node_cpu_feature(feature): "true" for feature in variant.requires.cpu_features})
    pod: Document = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + _finish_seconds(variant) + DRAIN_SECONDS,
        "securityContext": {**POD_SECURITY, **_groups(group)},
        "nodeSelector": nodes,
        "tolerations": tolerations(placement.tolerations),
        "containers": [_container(spec, group, settings)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    # The kubelet mounts an image volume with the same Secrets as it pulls the pod's images.
    secrets = [pull_secret_name(name)] if settings.registry.pull_credentials_secret else []
    pod |= image_pull_secrets([*settings.image_pull_secrets, *(secrets if image_volumes else [])])
    if device_class := labels.class_of_resource(group.resource):
        template = claim_template_name(name, device_class)
        pod["resourceClaims"] = [{"name": _DEVICE, "resourceClaimTemplateName": template}]
    if needs.runtime_class_name:
        pod["runtimeClassName"] = needs.runtime_class_name
    if placement.priority_class_name:
        pod["priorityClassName"] = placement.priority_class_name
    if placement.topology_key:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": placement.topology_key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(name)},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ]
    if image_volumes:
        mounted = {"reference": reference, "pullPolicy": "IfNotPresent"}
        pod["volumes"].append({"name": "model", "image": mounted})
    else:
        pod["volumes"].append({"name": "model", "emptyDir": {"sizeLimit": settings.work_size}})
        pod["initContainers"] = [_fetcher(reference, settings, image)]
        pod["volumes"] += [{"name": "credentials", "secret": {"secretName": secret}} for secret in secrets]
    return pod


def _groups(group: Group) -> Document:
    numbers = sorted({*group.entry.pod.supplemental_groups, *group.groups})
    return {"supplementalGroups": numbers} if numbers else {}


def _container(spec: EdgeDeploymentSpec, group: Group, settings: InstallationSettings) -> Document:
    def probe(path: str, **more: int) -> Document:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": _PERIOD, "timeoutSeconds": 2, **more}

    given = {variable.name: variable.value for variable in spec.runtime.env}
    limit = {"containerName": CONTAINER, "resource": "limits.cpu"}
    threads = {"name": _THREADS, "valueFrom": {"resourceFieldRef": limit}}
    arguments = ["--model-dir", MODEL_PATH, "--model-name", spec.model_name, "--port", str(PORT)]
    return {
        "name": CONTAINER,
        "image": settings.serving_image(group.variant.framework),
        "imagePullPolicy": settings.image_pull_policy,
        "args": [
            *arguments,
            "--grace-seconds",
            str(_finish_seconds(group.variant)),
            "--fallback",
            spec.placement.fallback.value,
        ],
        "env": [*environment({**group.entry.pod.env, **given}), *([] if _THREADS in given else [threads])],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(spec, group, settings),
        "securityContext": CONTAINER_SECURITY,
        "startupProbe": probe("/v2/health/ready", failureThreshold=START_SECONDS // _PERIOD),
        "readinessProbe": probe("/v2/health/ready", failureThreshold=2),
        "livenessProbe": probe("/v2/health/live", failureThreshold=10),
        # Endpoints learn of the end while the server still answers.
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "volumeMounts": [
            {"name": "model", "mountPath": MODEL_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
        ],
    }


def _finish_seconds(variant: Variant) -> int:
    return FINISH_TEXT_SECONDS if variant.framework is Framework.LLAMA_CPP else FINISH_SECONDS


def artifact_of(pod: Document) -> str:
    """Return the variant that a pod serves."""
    return str(pod["metadata"].get("annotations", {}).get(labels.ARTIFACT, ""))


def _resources(spec: EdgeDeploymentSpec, group: Group, settings: InstallationSettings) -> Document:
    found = resources(spec.runtime.resources, settings.server_resources)
    if labels.class_of_resource(group.resource):
        found["claims"] = [{"name": _DEVICE}]
    elif group.resource:
        found["limits"][group.resource] = "1"
        found["requests"][group.resource] = "1"
    return found


def _fetcher(reference: str, settings: InstallationSettings, image: str) -> Document:
    """Return the init container for clusters without image volumes; a pod cannot reach its node's localhost."""
    host, _, path = reference.partition("/")
    registry = settings.registry
    where = f"{registry.read or registry.push}/{path}" if host == registry.pull else reference
    values = {contract.ENV_INSECURE_REGISTRIES: ",".join(registry.insecure), **trust(settings)}
    values["TMPDIR"] = "/tmp"  # noqa: S108 - of the container
    mounts: list[Document] = []
    if registry.pull_credentials_secret:
        values[contract.ENV_SOURCE_CREDENTIALS] = CREDENTIALS
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
    return {
        "name": "fetch",
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["/opt/skerry/bin/python", "-m", "skerry.store.pull", where, MODEL_PATH],
        "env": environment(values),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "model", "mountPath": MODEL_PATH},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
            *mounts,
        ],
    }
