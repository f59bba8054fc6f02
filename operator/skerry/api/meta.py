"""Base model and the small types that every kind shares."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP = "skerry.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "skerry"


class ApiModel(BaseModel):
    """A frozen value with camelCase names on the wire; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def wire(self) -> dict[str, Any]:
        """Return the JSON-compatible form without absent fields, as it is sent to the API server."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A frozen value read from a status, which a newer Skerry may have written: unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extension of a list that is merged by the given keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> dict[str, Any]:
    """Schema extension of a list of unique scalars."""
    return {"x-kubernetes-list-type": "set"}


def list_atomic() -> dict[str, Any]:
    """Schema extension of a list that is replaced whole."""
    return {"x-kubernetes-list-type": "atomic"}


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """Schema extension with CEL validations, each a pair of rule and the message that a user reads."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def quantity() -> dict[str, Any]:
    """Schema extension of a Kubernetes quantity, not negative, which may be written as a number or as a string."""
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": 0,
        "maxLength": 32,
        "pattern": r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$",
    }


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    Field(json_schema_extra={"type": "string", "format": "date-time"}),
]
"""A moment in UTC, to the second, as Kubernetes writes it."""

DECIMAL_PATTERN = r"^-?\d+(\.\d+)?$"
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32)]
"""A decimal number as a string: the Kubernetes API conventions forbid floats."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
ShortText = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=2048)]
Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Quantity = Annotated[int | str, Field(json_schema_extra=quantity())]


class Condition(StatusModel):
    """One aspect of an object's state, as the Kubernetes API conventions define it."""

    type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$", max_length=64)] = Field(
        description="Name of the aspect, in CamelCase."
    )
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})] = Field(
        description="Whether the aspect holds."
    )
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)] = Field(
        description="Why, as one CamelCase word for machines."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(default="", description="Why, as a sentence for people.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the object that this condition speaks of."
    )
    last_transition_time: Timestamp = Field(description="When the status of the condition last changed.")
