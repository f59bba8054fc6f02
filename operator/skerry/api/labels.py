"""Labels, annotations and names that Skerry writes."""

from typing import Final

APP_NAME: Final = "app.kubernetes.io/name"
APP_INSTANCE: Final = "app.kubernetes.io/instance"
APP_COMPONENT: Final = "app.kubernetes.io/component"
APP_PART_OF: Final = "app.kubernetes.io/part-of"
APP_MANAGED_BY: Final = "app.kubernetes.io/managed-by"

MODEL: Final = "skerry.dev/model"
DEPLOYMENT: Final = "skerry.dev/deployment"
OPTIMIZATION_JOB: Final = "skerry.dev/optimization-job"
PLUGIN: Final = "skerry.dev/device-plugin"
"""Label of workloads and pods: who gives the device: the plugin of skerry or of the vendor, a claim, or none."""
REVISION: Final = "skerry.dev/revision"
ACCELERATOR: Final = "skerry.dev/accelerator"

NODE_ACCELERATOR_PREFIX: Final = "skerry.dev/accelerator."
NODE_CPU_PREFIX: Final = "skerry.dev/cpu."

ARTIFACT: Final = "skerry.dev/artifact"
"""Annotation of pods: the variant that they serve, pinned by digest."""

DEVICE_CLASS: Final = "skerry.dev/device-class"
"""Annotation of pods: the class of the device that they claim."""

NODE_RUNS_PREFIX: Final = "skerry.dev/runs."
"""Labels of nodes, one for each EdgeDeployment that runs on each node: the group that this node runs."""

NODE_CPU_TIER: Final = "skerry.dev/cpu.tier"
"""Label of nodes: what their CPU is to inference, by the tiers of the catalogue."""

_CLASS_PREFIX: Final = "deviceclass.resource.kubernetes.io/"

CPU: Final = "cpu"
"""Name of the accelerator that every node has."""


def node_accelerator(name: str) -> str:
    """Return the label of nodes that have the accelerator."""
    return f"{NODE_ACCELERATOR_PREFIX}{name}"


def node_accelerator_count(name: str) -> str:
    """Return the label that counts the accelerator on a node."""
    return f"{NODE_ACCELERATOR_PREFIX}{name}.count"


def node_cpu_feature(feature: str) -> str:
    """Return the label of nodes whose CPU has the feature."""
    return f"{NODE_CPU_PREFIX}{feature}"


def resource_of_class(name: str) -> str:
    """Return the resource under which devices of a DeviceClass are counted: Kubernetes' own name for it (KEP-5004)."""
    return f"{_CLASS_PREFIX}{name}"


def class_of_resource(resource: str) -> str:
    """Return the device class of such a resource; empty for any other resource."""
    return resource.removeprefix(_CLASS_PREFIX) if resource.startswith(_CLASS_PREFIX) else ""
