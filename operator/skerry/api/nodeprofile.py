"""NodeProfile: what one node has, written only by the device probe of that node."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from skerry.api.meta import Condition, Name, ShortText, StatusModel, Timestamp, list_atomic, list_map

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
        Field(max_length=64, json_schema_extra=list_atomic()),
    ] = Field(default_factory=list, description="Instruction set extensions that matter to inference.")


class OfferedBy(StrEnum):
    """Whose device plugin offers a resource."""

    NOBODY = "Nobody"
    SKERRY = "Skerry"
    VENDOR = "Vendor"


class DeviceHealth(StrEnum):
    """Whether a device can be used now."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


class Device(StatusModel):
    """One device of an accelerator."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", max_length=63)] = Field(
        description="What stays the same while the device stays where it is: PCI address, USB port, or class name."
    )
    hardware_id: ShortText = Field(
        default="", description="Vendor and device, as 8086:643e, or the device tree's name."
    )
    driver: ShortText = Field(default="", description="Kernel driver that is bound; empty when there is none.")
    driver_version: ShortText = Field(default="", description="Version of the driver, where it tells one.")
    memory_bytes: int = Field(default=0, ge=0, description="Memory of its own in bytes; 0 where there is none.")
    groups: Annotated[
        list[Annotated[int, Field(ge=0, le=4294967295)]], Field(max_length=16, json_schema_extra=list_atomic())
    ] = Field(default_factory=list, description="Groups of its files: a pod that is not root must be in them.")
    health: DeviceHealth = Field(description="Whether it can be used now.")
    message: ShortText = Field(default="", description="Why it cannot be used.")


# Lists are replaced whole: what somebody else put into one goes with the probe's next write.
class Accelerator(StatusModel):
    """Something on the node that can execute models."""

    name: Name = Field(description="Name in the catalogue; every node has cpu.")
    count: int = Field(default=1, ge=0, le=256, description="How many healthy ones the node has.")
    resource_name: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Extended resource that a pod asks for; empty for the CPU."
    )
    offered_by: OfferedBy = Field(default=OfferedBy.NOBODY, description="Whose device plugin offers the resource.")
    devices: Annotated[list[Device], Field(max_length=64, json_schema_extra=list_atomic())] = Field(
        default_factory=list, description="The devices, healthy or not."
    )


class PowerSource(StrEnum):
    """What a node runs on."""

    UNKNOWN = "Unknown"
    MAINS = "Mains"
    BATTERY = "Battery"


class EnergyCounter(StrEnum):
    """What counts a node's energy."""

    NONE = "None"
    RAPL = "RAPL"
    INA = "INA"


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
    memory_available_bytes: int = Field(default=0, ge=0, description="Memory that is free or can be freed, in bytes.")
    temperature_celsius: int | None = Field(default=None, ge=-100, le=300, description="Highest temperature.")
    power_source: PowerSource = Field(default=PowerSource.UNKNOWN, description="What the node runs on.")
    energy_counter: EnergyCounter = Field(default=EnergyCounter.NONE, description="What counts the node's energy.")
    accelerator_summary: ShortText = Field(default="", description="Accelerators and how many healthy ones, as cpu:1.")
    accelerators: Annotated[list[Accelerator], Field(max_length=32, json_schema_extra=list_atomic())] = Field(
        default_factory=list, description="What on the node can execute models."
    )
