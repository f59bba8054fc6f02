"""The batch Job of an optimization."""

import json
from collections.abc import Sequence
from typing import Final

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.api import jobcontract as contract
from skerry.api import labels
from skerry.api.jobcontract import ExitCode
from skerry.api.optimizationjob import OptimizationJobSpec
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

CONTAINER: Final = "optimizer"
RETRIES: Final = 3
WORK: Final = "/work"
SHARED: Final = f"{WORK}/{contract.SHARED_FOLDER}"
# What a process leaves in its home folder must not become code of the next one.
ISOLATED: Final = {"PYTHONNOUSERSITE": "1"}
CLAIMS: Final = "/claims"
CREDENTIALS: Final = "/credentials"
TERMINATION_LOG: Final = "/dev/termination-log"
TERMINATION_SECONDS: Final = 10


def push_secret_name(job: str) -> str:
    """Return the name of the Secret with the credentials to publish."""
    return f"{job}-push"


def repository(namespace: str, model: str, prefix: str) -> str:
    """Return the path of a model's variants below the registry's host."""
    return "/".join(part for part in (prefix, namespace, model) if part)


def claims(spec: OptimizationJobSpec) -> list[str]:
    """Return the claims that pvc:// URIs name, each once."""
    uris = [spec.model.uri]
    uris += [data.uri for data in (spec.calibration, spec.evaluation) if data is not None]
    found = [uri.removeprefix("pvc://").split("/", 1)[0] for uri in uris if uri.startswith("pvc://")]
    return list(dict.fromkeys(found))


def push_secret(optimization: Document, credentials: dict[str, str]) -> Document:
    """Return the Secret with the registry's credentials, in the namespace of the optimization."""
    return credentials_secret(optimization, push_secret_name(optimization["metadata"]["name"]), credentials)


def optimization_job(
    optimization: Document,
    spec: OptimizationJobSpec,
    settings: InstallationSettings,
    entry: AcceleratorEntry,
    tools: Sequence[str],
) -> Document:
    """Return the Job that does an optimization for the accelerator of a catalogue's entry.

    Args:
        optimization: The OptimizationJob.
        spec: Its spec.
        settings: What the installation decides.
        entry: The accelerator.
        tools: Groups of further tools that it may need; each has an image in the settings.
    """
    metadata = optimization["metadata"]
    name = metadata["name"]
    model = metadata.get("labels", {}).get(labels.MODEL, name)
    wanted = spec.optimization
    shown = {
        **(wanted.labels or {}),
        **recommended_labels("skerry-optimizer", name, "optimizer"),
        labels.MODEL: model,
        labels.OPTIMIZATION_JOB: name,
        labels.ACCELERATOR: spec.accelerator,
    }
    selector = {**(wanted.node_selector or {}), labels.node_accelerator(spec.accelerator): "true"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": shown,
            "ownerReferences": [owner(optimization)],
        },
        "spec": {
            "suspend": spec.suspend,
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": wanted.active_deadline_seconds,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER,
                            "operator": "NotIn",
                            "values": [int(ExitCode.UNAVAILABLE), contract.KILLED],
                        },
                    },
                ]
            },
            "template": {
                "metadata": {"labels": shown},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": TERMINATION_SECONDS,
                    "securityContext": POD_SECURITY,
                    "nodeSelector": selector,
                    "tolerations": tolerations(wanted.tolerations),
                    **_workers(spec, settings, tools),
                    "containers": [_container(metadata, model, spec, settings, entry, tools)],
                    "volumes": _volumes(name, spec, settings),
                    **image_pull_secrets(settings.image_pull_secrets),
                },
            },
        },
    }


def _inputs(spec: OptimizationJobSpec) -> Document:
    """Return the spec as the Job gets it: without what may change while the Job exists."""
    return {name: value for name, value in spec.wire().items() if name != "suspend"}


def _workers(spec: OptimizationJobSpec, settings: InstallationSettings, tools: Sequence[str]) -> Document:
    """Return a sidecar for each group of tools that the main container does not have; they share its work folder."""
    workers: list[Document] = [
        {
            "name": f"tools-{group}",
            "image": settings.tool_images[group],
            "imagePullPolicy": settings.image_pull_policy,
            "restartPolicy": "Always",
            "args": ["--folder", f"{SHARED}/{contract.WORKERS_FOLDER}", "--group", group, "--work", SHARED],
            "env": [*environment({"TMPDIR": SHARED, "HOME": SHARED, **ISOLATED}), _cpu_limit(f"tools-{group}")],
            "resources": resources(spec.optimization.resources, settings.optimizer_resources),
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [_SHARED_MOUNT, *_claim_mounts(spec)],
        }
        for group in tools
    ]
    return {"initContainers": workers} if workers else {}


_SHARED_MOUNT: Final = {"name": "common", "mountPath": SHARED}


def _claim_mounts(spec: OptimizationJobSpec) -> list[Document]:
    return [
        {"name": f"claim-{number}", "mountPath": f"{CLAIMS}/{claim}", "readOnly": True}
        for number, claim in enumerate(claims(spec))
    ]


def _cpu_limit(container: str) -> Document:
    return {
        "name": contract.ENV_CPU_LIMIT,
        "valueFrom": {"resourceFieldRef": {"containerName": container, "resource": "limits.cpu"}},
    }


def _mirror(settings: InstallationSettings) -> dict[str, str]:
    """Return the environment variable with the mirror of the Hugging Face hub; nothing where there is none."""
    endpoint = settings.hugging_face_endpoint
    return {contract.ENV_HUB_ENDPOINT: endpoint} if endpoint else {}


def _container(
    metadata: Document,
    model: str,
    spec: OptimizationJobSpec,
    settings: InstallationSettings,
    entry: AcceleratorEntry,
    tools: Sequence[str],
) -> Document:
    registry = settings.registry
    path = repository(metadata["namespace"], model, registry.prefix)
    values = {
        contract.ENV_SPEC: json.dumps(_inputs(spec), separators=(",", ":"), sort_keys=True),
        contract.ENV_ACCELERATOR: json.dumps(entry.wire(), separators=(",", ":"), sort_keys=True),
        contract.ENV_MODEL_NAME: model,
        contract.ENV_PUSH_REPOSITORY: f"{registry.push}/{path}",
        contract.ENV_PULL_REPOSITORY: f"{registry.pull}/{path}",
        contract.ENV_TAG: metadata["name"],
        contract.ENV_RUN: metadata["uid"],
        contract.ENV_INSECURE_REGISTRIES: ",".join(registry.insecure),
        contract.ENV_ALLOW_HTTP: str(settings.allow_http).lower(),
        **trust(settings),
        **_mirror(settings),
        contract.ENV_WORK: WORK,
        contract.ENV_PVC_ROOT: CLAIMS,
        contract.ENV_TERMINATION_LOG: TERMINATION_LOG,
        "TMPDIR": WORK,
        "HOME": WORK,
        **ISOLATED,
    }
    if tools:
        values[contract.ENV_WORKERS] = ",".join(tools)
    mounts: list[Document] = [{"name": "work", "mountPath": WORK}, _SHARED_MOUNT]
    if spec.model.credentials_secret_name:
        values[contract.ENV_SOURCE_CREDENTIALS] = f"{CREDENTIALS}/source"
        mounts.append({"name": "source-credentials", "mountPath": f"{CREDENTIALS}/source", "readOnly": True})
    if registry.credentials_secret:
        values[contract.ENV_PUSH_CREDENTIALS] = f"{CREDENTIALS}/push"
        mounts.append({"name": "push-credentials", "mountPath": f"{CREDENTIALS}/push", "readOnly": True})
    mounts += _claim_mounts(spec)
    return {
        "name": CONTAINER,
        "image": settings.optimizer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": [
            *environment(values),
            {"name": contract.ENV_NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            _cpu_limit(CONTAINER),
            {
                "name": contract.ENV_MEMORY_LIMIT,
                "valueFrom": {"resourceFieldRef": {"containerName": CONTAINER, "resource": "limits.memory"}},
            },
        ],
        "resources": resources(spec.optimization.resources, settings.optimizer_resources),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }


def _volumes(name: str, spec: OptimizationJobSpec, settings: InstallationSettings) -> list[Document]:
    volumes: list[Document] = [
        {"name": name, "emptyDir": {"sizeLimit": settings.work_size}} for name in ("work", "common")
    ]
    if spec.model.credentials_secret_name:
        # Optional, so that the optimizer can say that it is missing; the kubelet would wait and say so in no status.
        secret = {"secretName": spec.model.credentials_secret_name, "optional": True}
        volumes.append({"name": "source-credentials", "secret": secret})
    if settings.registry.credentials_secret:
        volumes.append({"name": "push-credentials", "secret": {"secretName": push_secret_name(name)}})
    volumes += [
        {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for number, claim in enumerate(claims(spec))
    ]
    return volumes
