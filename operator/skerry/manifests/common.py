"""What all objects have in common."""

from typing import Any, Final

from skerry.api import jobcontract as contract
from skerry.api import labels
from skerry.api.pods import Resources, Toleration
from skerry.api.quantities import amount
from skerry.manifests.settings import InstallationSettings

Document = dict[str, Any]
USER: Final = 65532
POD_SECURITY: Final[Document] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Document] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def recommended_labels(name: str, instance: str, component: str) -> dict[str, str]:
    """Return the recommended labels of Kubernetes."""
    return {
        labels.APP_NAME: name,
        labels.APP_INSTANCE: instance,
        labels.APP_COMPONENT: component,
        labels.APP_PART_OF: "skerry",
        labels.APP_MANAGED_BY: "skerry",
    }


def owner(document: Document) -> Document:
    """Return the reference by which an object owns what was made for it."""
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "name": document["metadata"]["name"],
        "uid": document["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(document: Document, uid: str) -> bool:
    """Tell whether an object is controlled by the one with that uid."""
    references = document["metadata"].get("ownerReferences", [])
    return any(reference.get("uid") == uid and reference.get("controller") for reference in references)


def environment(values: dict[str, str]) -> list[Document]:
    """Return environment variables in the form of a container's spec."""
    return [{"name": name, "value": value} for name, value in values.items()]


def resources(wanted: Resources | None, default: Resources) -> Document:
    """Return a container's resources: what is wanted over the default.

    A default never contradicts what was given: where only the limit was, it counts for both; where only the request
    was, a smaller default limit rises to it.
    """
    given = wanted or Resources()
    requests = {**(default.requests or {}), **(given.requests or {})}
    limits = {**(default.limits or {}), **(given.limits or {})}
    for name in (given.limits or {}).keys() - (given.requests or {}).keys() & requests.keys():
        requests[name] = limits[name]
    for name in (given.requests or {}).keys() - (given.limits or {}).keys() & limits.keys():
        if amount(name, limits[name]) < amount(name, requests[name]):
            limits[name] = requests[name]
    return {"requests": requests, "limits": limits}


def credentials_secret(parent: Document, name: str, credentials: dict[str, str]) -> Document:
    """Return a copy of a registry's credentials beside the object that needs them, and owned by it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": parent["metadata"]["namespace"],
            "labels": recommended_labels("skerry", parent["metadata"]["name"], "credentials"),
            "ownerReferences": [owner(parent)],
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": credentials,
    }


def image_pull_secrets(names: list[str]) -> Document:
    """Return the part of a pod's spec that names Secrets to pull images with; nothing where there are none."""
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}


def trust(settings: InstallationSettings) -> dict[str, str]:
    """Return the environment variable with further certificate authorities; nothing where there are none."""
    return {contract.ENV_CA_BUNDLE: settings.ca_bundle} if settings.ca_bundle else {}


def tolerations(wanted: list[Toleration] | None) -> list[Document]:
    """Return tolerations in the form of a pod's spec."""
    return [toleration.wire() for toleration in wanted or []]
