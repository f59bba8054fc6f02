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
"""Label of workloads and pods: whose device plugin gave the device: skerry, vendor or none."""
REVISION: Final = "skerry.dev/revision"
ACCELERATOR: Final = "skerry.dev/accelerator"

NODE_ACCELERATOR_PREFIX: Final = "skerry.dev/accelerator."
NODE_CPU_PREFIX: Final = "skerry.dev/cpu."

ARTIFACT: Final = "skerry.dev/artifact"
"""Annotation of pods: the variant that they serve, pinned by digest."""

NODE_CPU_TIER: Final = "skerry.dev/cpu.tier"
"""Label of nodes: what their CPU is to inference, by the tiers of the catalogue."""

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
