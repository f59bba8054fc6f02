"""Reading the catalogue: one file an accelerator in `data/`."""

from functools import cache
from importlib import resources
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

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
    devices: dict[Framework, str] = Field(description="The device in each framework's words.")
    native_int8: list[str] = Field(
        default_factory=list, description="Features that multiply 8-bit integers, best first."
    )
    native_half: list[NativeHalf] = Field(default_factory=list, description="Features for half precision, best first.")
    frameworks: Annotated[list[FrameworkEntry], Field(min_length=1)]
    candidates: Annotated[list[CandidateRequest], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        ranked = {framework.name for framework in self.frameworks}
        used = {candidate.framework for candidate in self.candidates}
        if ranked != set(self.devices) or not used <= ranked:
            message = f"{self.name}: frameworks, devices and candidates must speak of the same frameworks"
            raise ValueError(message)
        return self


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
