"""The catalogue of accelerators: its form, the built-in entries of `data/`, and the entries that a site adds."""

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from skerry.accelerators.matching import conflicts
from skerry.api import labels
from skerry.api.meta import ApiModel, Name, ObjectName
from skerry.api.types import CandidateRequest, Framework, ModelKind

Hex4 = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]
Text = Annotated[str, Field(min_length=1, max_length=512)]
ResourceName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=253)]

ClassName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]

_NAME: Final = 44
"""How long a name may be: with what stands around it, it is a label of 63 characters."""


class DeviceClass(StrEnum):
    """Classes of character devices that the kernel makes for a piece of hardware, as `/sys/class` names them."""

    ACCEL = "accel"
    DRM_RENDER = "drm-render"
    MISC = "misc"
    APEX = "apex"
    HAILO = "hailo_chardev"


class PciMatch(ApiModel):
    """A PCI function: vendor, and the devices, or the beginning of the class code, or both."""

    vendor: Hex4
    devices: list[Hex4] = Field(default_factory=list)
    class_prefix: Annotated[str, Field(pattern=r"^[0-9a-f]{2,6}$")] | None = None


class UsbMatch(ApiModel):
    """A USB device by vendor and products; a device that changes its product while it runs has both."""

    vendor: Hex4
    products: Annotated[list[Hex4], Field(min_length=1)]


class DeviceTreeMatch(ApiModel):
    """A board whose device tree's root is compatible with one of these."""

    compatible: Annotated[list[Text], Field(min_length=1)]


class ClassMatch(ApiModel):
    """A device of a class, by the driver of its parent, or by its name."""

    device_class: DeviceClass
    drivers: list[Text] = Field(default_factory=list)
    names: list[Text] = Field(default_factory=list)


class Match(ApiModel):
    """One way to recognise the accelerator; all parts that are given must be true.

    Node labels are for nodes on which Skerry's probe does not run or sees nothing; they stand alone.
    """

    pci: PciMatch | None = None
    usb: UsbMatch | None = None
    device_tree: DeviceTreeMatch | None = None
    device: ClassMatch | None = None
    node_labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        seen = self.pci or self.usb or self.device_tree or self.device
        if bool(seen) == bool(self.node_labels):
            message = "a match must say something: pci, usb, deviceTree or device, or nodeLabels alone"
            raise ValueError(message)
        return self


class Files(ApiModel):
    """Device files that a pod needs: those of a class that belong to the device, or fixed paths (globs) below /dev.

    A USB device gets its bus node by itself.
    """

    device_class: DeviceClass | None = None
    paths: list[Text] = Field(default_factory=list)


class PodNeeds(ApiModel):
    """What a pod needs besides device files."""

    runtime_class_name: ObjectName | None = None
    supplemental_groups: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(default_factory=dict)


class NativeHalf(ApiModel):
    """A CPU feature, and the half precision that it computes in."""

    feature: str
    precision: str


class FrameworkEntry(ApiModel):
    """A framework that runs on the accelerator, with the reason for its rank."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.]+$")]
    reason: Text
    source: Text


class MatrixRow(CandidateRequest):
    """One row of the decision matrix: a candidate to try on the accelerator, the best guess first.

    Attributes:
        models: Kinds of models for which it is tried; empty: all.
        reason: Why it stands here; empty: the recipe's own reason.
        source: Where that is known from.
    """

    models: list[ModelKind] = Field(default_factory=list)
    reason: Annotated[str, Field(max_length=512)] = ""
    source: Annotated[str, Field(max_length=512)] = ""

    def suits(self, kind: ModelKind) -> bool:
        """Tell whether it is tried for models of a kind."""
        return not self.models or kind in self.models

    @property
    def request(self) -> CandidateRequest:
        """The candidate alone."""
        return CandidateRequest(
            framework=self.framework, precision=self.precision, technique=self.technique, options=self.options
        )


class AcceleratorEntry(ApiModel):
    """One accelerator.

    Attributes:
        name: Its name in labels, resources, specs.
        description: What it is, for people.
        source: Where the ids come from.
        match: Ways to recognise it; none for the CPU, which every node has.
        tiers: CPU only: names of tiers, best first, each with the feature that makes a CPU one of it.
        drivers: Kernel drivers with which it can be used; with another one, or none, a device is there but unhealthy.
        files: Device files that a pod gets for one device.
        memory_file: File below the device's folder in /sys with its memory in bytes.
        vendor_resources: Extended resources of vendors' device plugins; the first that a node offers is asked for.
        device_classes: Classes of vendors' DRA drivers (`resource.k8s.io/v1`); the first that there is on a node
            is claimed where the vendor has no device plugin there.
        pod: What a pod needs besides.
        schedulable: Whether anything can run models on it; else it is only reported.
        devices: The device in the words of each framework through which Skerry's server can execute models on it;
            empty where it is found, labelled and offered to pods only.
        frameworks: All frameworks that run on it, best first, with the reason and its source.
        candidates: The decision matrix: what to try when optimizing for it; empty until a backend exists.
    """

    name: Annotated[Name, Field(max_length=_NAME)]
    description: Text
    source: Text = "every machine"
    match: list[Match] = Field(default_factory=list)
    tiers: dict[str, str] = Field(default_factory=dict)
    drivers: list[Text] = Field(default_factory=list)
    files: list[Files] = Field(default_factory=list)
    memory_file: str | None = None
    vendor_resources: list[ResourceName] = Field(default_factory=list)
    device_classes: list[ClassName] = Field(default_factory=list)
    pod: PodNeeds = Field(default_factory=PodNeeds)
    schedulable: bool = True
    devices: dict[Framework, str] = Field(default_factory=dict)
    native_int8: list[str] = Field(default_factory=list)
    native_half: list[NativeHalf] = Field(default_factory=list)
    frameworks: Annotated[list[FrameworkEntry], Field(min_length=1)]
    candidates: list[MatrixRow] = Field(default_factory=list)

    @property
    def own_resource(self) -> str:
        """The extended resource that the probe's device plugin offers."""
        return f"skerry.dev/{self.name}"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        ranked = {framework.name for framework in self.frameworks}
        used = {candidate.framework for candidate in self.candidates}
        if not {str(name) for name in self.devices} <= ranked or not used <= set(self.devices):
            message = f"{self.name}: candidates must be of frameworks in devices, and these be among the ranked ones"
            raise ValueError(message)
        return self


Catalogue = dict[str, AcceleratorEntry]


class CatalogueError(ValueError):
    """Entries that cannot be used; the message says which and why."""


@cache
def catalogue() -> Catalogue:
    """Return the built-in entries by name: each file of `data/` has a list of them, one file a vendor.

    Raises:
        CatalogueError: An entry is not of the form.
    """
    folder = resources.files("skerry.accelerators") / "data"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return checked([entry for file in files for entry in yaml.safe_load(file.read_text(encoding="utf-8"))])


def documents(path: Path) -> list[Any]:
    """Return what a file in JSON or YAML lists, itself or as the chart's values, unchecked.

    Raises:
        CatalogueError: It cannot be read, or is not a list.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # JSON is YAML as well, but reading it as such takes a megabyte that never comes back.
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        message = f"{path}: {error}"
        raise CatalogueError(message) from error
    if isinstance(found, dict) and isinstance(found.get("accelerators"), dict):
        found = found["accelerators"].get("extra", [])
    if not isinstance(found, list):
        message = f"{path} must hold a list of entries, or be a values file with accelerators.extra"
        raise CatalogueError(message)
    return found


def from_file(path: Path) -> Catalogue:
    """Return the entries of a file in JSON or YAML: a list.

    Raises:
        CatalogueError: It cannot be read, an entry is not of the form, or two entries claim the same devices.
    """
    return checked(documents(path))


def checked(listed: Sequence[Any]) -> Catalogue:
    """Return entries by name, all of the form and none in conflict with another.

    Raises:
        CatalogueError: With the entry, the field and what is wrong, a line each.
    """
    troubles: list[str] = []
    found: Catalogue = {}
    for number, document in enumerate(listed):
        name = document.get("name", f"entry {number + 1}") if isinstance(document, dict) else f"entry {number + 1}"
        try:
            entry = AcceleratorEntry.model_validate(document, by_alias=True, by_name=False)
        except ValidationError as error:
            places = ((".".join(str(part) for part in each["loc"]), each["msg"]) for each in error.errors())
            troubles += [f"{name}: {place}: {told}" if place else f"{name}: {told}" for place, told in places]
            continue
        if not entry.match and entry.name != labels.CPU:
            troubles.append(f"{entry.name}: match: there must be a way to recognise it")
        if entry.name in found:
            troubles.append(f"{name}: there are two entries of that name")
        found[entry.name] = entry
    troubles += conflicts([entry.wire() for entry in found.values()])
    if troubles:
        raise CatalogueError("\n".join(troubles))
    return found


def dump(entries: Catalogue) -> str:
    """Return the entries as the JSON list that operator, probe and chart exchange."""
    return json.dumps([entry.wire() for entry in entries.values()], indent=1) + "\n"
