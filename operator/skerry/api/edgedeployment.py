"""EdgeDeployment: a model that is served on the nodes of a cluster."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from skerry.api.meta import (
    ApiModel,
    Condition,
    Name,
    ShortText,
    StatusModel,
    Text,
    cel,
    list_atomic,
    list_map,
    list_set,
)
from skerry.api.pods import LabelMap, Resources, Tolerations


class PlacementMode(StrEnum):
    """What decides how many replicas there are."""

    REPLICAS = "Replicas"
    PER_NODE = "PerNode"


class Fallback(StrEnum):
    """Whether a replica may run on a later accelerator when the preferred one is taken."""

    DENY = "Deny"
    ALLOW = "Allow"


# `has` everywhere: the API server also looks at the default of the whole placement, in which nothing is set.
_PER_NODE_RULES = cel(
    (
        "!has(self.mode) || self.mode != 'PerNode' || !has(self.replicas) || self.replicas == 1",
        "replicas has no meaning with mode PerNode: each node that matches runs one; leave it out",
    ),
    (
        "!has(self.mode) || self.mode != 'PerNode' || !has(self.topologyKey)",
        "topologyKey has no meaning with mode PerNode: each node that matches runs one; leave it out",
    ),
)


class Placement(ApiModel):
    """Where and how many replicas run."""

    model_config = ConfigDict(json_schema_extra=_PER_NODE_RULES)

    mode: PlacementMode = Field(
        default=PlacementMode.REPLICAS,
        description="Replicas: as many pods as replicas says. PerNode: one pod on each node that matches.",
    )
    replicas: int = Field(default=1, ge=0, le=1000, description="How many pods serve the model, with mode Replicas.")
    accelerators: Annotated[list[Name], Field(max_length=32, json_schema_extra=list_set())] = Field(
        default_factory=list,
        description=(
            "Accelerators in the order of preference; empty means those of the model's variants, the best by the "
            "model's objective first."
        ),
    )
    fallback: Fallback = Field(
        default=Fallback.DENY,
        description=(
            "Whether a replica may run on a later accelerator, or the CPU, when the preferred one is taken; "
            "with Deny it waits."
        ),
    )
    node_selector: LabelMap | None = Field(default=None, description="Labels that the nodes must have.")
    tolerations: Tolerations | None = Field(default=None, description="Taints that the pods tolerate.")
    topology_key: Annotated[str, Field(max_length=316)] | None = Field(
        default=None, description="Node label over whose values the replicas are spread, as evenly as possible."
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="PriorityClass of the pods."
    )


class EnvVar(ApiModel):
    """One environment variable of the server."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, Field(max_length=4096)] = Field(default="", description="Value of the variable.")


class RuntimeSettings(ApiModel):
    """How the server runs."""

    resources: Resources | None = Field(
        default=None, description="Resources of the server container; what is left out keeps the operator's default."
    )
    env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=list_map("name"))] = Field(
        default_factory=list, description="Extra environment variables of the server."
    )


class ServiceSettings(ApiModel):
    """How the server is reached."""

    type: Annotated[str, Field(json_schema_extra={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]})] = Field(
        default="ClusterIP", description="Type of the Service."
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port of the Service.")


class EdgeDeploymentSpec(ApiModel):
    """Which model is served, where and how."""

    model_name: Name = Field(description="Name of the EdgeModel, in the same namespace.")
    placement: Placement = Field(default_factory=Placement, description="Where and how many replicas run.")
    runtime: RuntimeSettings = Field(default_factory=RuntimeSettings, description="How the server runs.")
    service: ServiceSettings = Field(default_factory=ServiceSettings, description="How the server is reached.")


class DeviceInUse(StatusModel):
    """The device on which one pod really executes the model."""

    pod: Annotated[str, Field(max_length=253)] = Field(description="Name of the pod.")
    node: Annotated[str, Field(max_length=253)] = Field(description="Name of its node.")
    device: ShortText = Field(description="What the server says of the device that executes.")
    verified: bool = Field(description="Whether that is the accelerator which the variant was made for.")


class PlacementStatus(StatusModel):
    """What runs on one accelerator."""

    accelerator: Name = Field(description="The accelerator.")
    artifact: Annotated[str, Field(max_length=1024)] = Field(description="The variant, pinned by digest.")
    replicas: int = Field(ge=0, description="How many pods should run.")
    ready_replicas: int = Field(ge=0, description="How many pods are ready.")
    nodes: Annotated[
        list[Annotated[str, Field(max_length=253)]], Field(max_length=256, json_schema_extra=list_atomic())
    ] = Field(default_factory=list, description="Nodes that the pods run on.")
    devices: Annotated[list[DeviceInUse], Field(max_length=256, json_schema_extra=list_map("pod"))] = Field(
        default_factory=list, description="The devices that really execute."
    )


class EdgeDeploymentStatus(StatusModel):
    """What is served, where."""

    conditions: Annotated[list[Condition], Field(max_length=32, json_schema_extra=list_map("type"))] = Field(
        default_factory=list, description="Ready, Progressing and AccelerationVerified."
    )
    observed_generation: int | None = Field(default=None, ge=0, description="Generation that this status speaks of.")
    replicas: int = Field(default=0, ge=0, description="How many pods exist.")
    ready_replicas: int = Field(default=0, ge=0, description="How many pods are ready.")
    waiting_replicas: int = Field(
        default=0, ge=0, description="How many replicas find no place; the Ready condition says why."
    )
    selector: Annotated[str, Field(max_length=1024)] = Field(default="", description="Label selector of the pods.")
    revision: Annotated[str, Field(max_length=63)] = Field(default="", description="Hash of what decides what runs.")
    variant: ShortText = Field(default="", description="Framework and precision that are served, as OpenVINO/INT8.")
    devices: ShortText = Field(default="", description="Devices that execute, counted, as CPU:2.")
    replica_summary: ShortText = Field(default="", description="Ready and wanted pods, as 2/2.")
    placements: Annotated[list[PlacementStatus], Field(max_length=32, json_schema_extra=list_map("accelerator"))] = (
        Field(default_factory=list, description="What runs on each accelerator.")
    )
    url: Text = Field(default="", description="Where the model is served inside the cluster.")
