"""Where the API server keeps each kind of object."""

from dataclasses import dataclass
from typing import Any, Final

from skerry.api.meta import GROUP, VERSION


@dataclass(frozen=True)
class Resource:
    """A kind of object and its path."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of a collection or an object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        end = f"/{name}" if name else ""
        return f"{root}{middle}/{self.plural}{end}{f'/{subresource}' if subresource else ''}"


EDGE_MODELS: Final = Resource(GROUP, VERSION, "edgemodels", "EdgeModel")
OPTIMIZATION_JOBS: Final = Resource(GROUP, VERSION, "optimizationjobs", "OptimizationJob")
EDGE_DEPLOYMENTS: Final = Resource(GROUP, VERSION, "edgedeployments", "EdgeDeployment")
NODE_PROFILES: Final = Resource(GROUP, VERSION, "nodeprofiles", "NodeProfile", namespaced=False)
JOBS: Final = Resource("batch", "v1", "jobs", "Job")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
DEVICE_CLASSES: Final = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False)
RESOURCE_SLICES: Final = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)
RESOURCE_CLAIMS: Final = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
CLAIM_TEMPLATES: Final = Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")

_ALL: Final = {
    (resource.api_version, resource.kind): resource
    for resource in (
        *(EDGE_MODELS, OPTIMIZATION_JOBS, EDGE_DEPLOYMENTS, NODE_PROFILES, JOBS, DEPLOYMENTS, DAEMON_SETS, BUDGETS),
        *(PODS, SERVICES, SECRETS, NODES, EVENTS),
        *(DEVICE_CLASSES, RESOURCE_SLICES, RESOURCE_CLAIMS, CLAIM_TEMPLATES),
    )
}


def resource_of(document: dict[str, Any]) -> Resource:
    """Return the resource of an object by its apiVersion and kind."""
    return _ALL[document["apiVersion"], document["kind"]]
