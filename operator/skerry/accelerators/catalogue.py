"""Reading the catalogue."""

from functools import cache
from importlib import resources
from typing import Annotated

import yaml
from pydantic import Field

from skerry.api.meta import ApiModel, Name
from skerry.api.types import CandidateRequest, Framework


class NativeHalf(ApiModel):
    """A CPU feature, and the half precision that it computes in."""

    feature: str
    precision: str


class FrameworkEntry(ApiModel):
    """A framework that runs on the accelerator, with the reason for its rank."""

    name: Framework
    reason: str
    source: str


class AcceleratorEntry(ApiModel):
    """One accelerator: its frameworks in the order of preference, and the candidates of its decision matrix."""

    name: Name
    description: str
    devices: dict[Framework, str]
    native_int8: list[str] = Field(default_factory=list)
    native_half: list[NativeHalf] = Field(default_factory=list)
    frameworks: Annotated[list[FrameworkEntry], Field(min_length=1)]
    candidates: Annotated[list[CandidateRequest], Field(min_length=1)]


@cache
def catalogue() -> dict[str, AcceleratorEntry]:
    """Return all entries by name.

    Raises:
        pydantic.ValidationError: An entry is not of the form.
    """
    folder = resources.files("skerry.accelerators") / "data"
    found = [
        AcceleratorEntry.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    ]
    return {entry.name: entry for entry in found}
