"""NodeProfile: what one node has, written only by the device probe of that node."""

from typing import Annotated

from pydantic import Field

from skerry.api.meta import Condition, Name, ShortText, StatusModel, Timestamp, list_map, list_set

FEATURE_PATTERN = r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$"


class Machine(StatusModel):
    """The machine."""

    vendor: ShortText = Field(default="", description="Vendor, as the firmware says.")
    model: ShortText = Field(default="", description="Model, as the firmware says.")
    architecture: Annotated[str, Field(max_length=32)] = Field(description="Architecture, as Kubernetes names it.")


class Cpu(StatusModel):
    """The CPU."""

    model: ShortText = Field(default="", description="Model name.")
    cores: int = Field(ge=0, description="Number of logical cores.")
    features: Annotated[
        list[Annotated[str, Field(pattern=FEATURE_PATTERN, max_length=56)]],
        Field(max_length=64, json_schema_extra=list_set()),
    ] = Field(default_factory=list, description="Instruction set extensions that matter to inference.")


class Accelerator(StatusModel):
    """Something on the node that can execute models."""

    name: Name = Field(description="Name in the catalogue; every node has cpu.")
    count: int = Field(default=1, ge=0, le=256, description="How many of it the node has.")


class NodeProfileStatus(StatusModel):
    """What the probe found."""

    conditions: Annotated[list[Condition], Field(max_length=32, json_schema_extra=list_map("type"))] = Field(
        default_factory=list, description="Ready."
    )
    probe_version: ShortText = Field(description="Version of the probe.")
    observed_at: Timestamp = Field(description="When the profile last changed.")
    machine: Machine = Field(description="The machine.")
    cpu: Cpu = Field(description="The CPU.")
    memory_bytes: int = Field(ge=0, description="Memory of the node in bytes.")
    accelerators: Annotated[list[Accelerator], Field(max_length=32, json_schema_extra=list_map("name"))] = Field(
        default_factory=list, description="What on the node can execute models."
    )
