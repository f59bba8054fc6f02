"""What users may set of the pods that run for them, in the words of a pod's spec."""

from typing import Annotated

from pydantic import ConfigDict, Field

from skerry.api.meta import ApiModel, Quantity, cel, list_atomic

_TOLERATION_RULES = (
    (
        "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
        "value has no meaning with operator Exists, which tolerates every value; leave it out",
    ),
    (
        "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
        "a toleration without key tolerates every taint and needs operator Exists",
    ),
    (
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds has a meaning with effect NoExecute only",
    ),
)


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod's spec."""

    model_config = ConfigDict(json_schema_extra=cel(*_TOLERATION_RULES))

    key: Annotated[str, Field(max_length=316)] | None = Field(default=None, description="Key of the taint.")
    operator: Annotated[str, Field(json_schema_extra={"enum": ["Exists", "Equal"]})] | None = Field(
        default=None, description="How key and value are compared."
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Value of the taint.")
    effect: (
        Annotated[str, Field(json_schema_extra={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]})] | None
    ) = Field(default=None, description="Effect of the taint.")
    toleration_seconds: int | None = Field(default=None, description="For how long a NoExecute taint is tolerated.")


ResourceMap = Annotated[dict[str, Quantity], Field(max_length=16, json_schema_extra={"maxProperties": 16})]
LabelMap = Annotated[
    dict[str, Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]],
    Field(max_length=32, json_schema_extra={"maxProperties": 32}),
]
Tolerations = Annotated[list[Toleration], Field(max_length=16, json_schema_extra=list_atomic())]


_RESOURCES_RULE = (
    (
        "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
        "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)"
    ),
    "a request is larger than the limit of the same resource",
)


class Resources(ApiModel):
    """What a container asks for and may use, as in a pod's spec."""

    model_config = ConfigDict(json_schema_extra=cel(_RESOURCES_RULE))

    requests: ResourceMap | None = Field(default=None, description="What is set aside for the container.")
    limits: ResourceMap | None = Field(default=None, description="What the container may use at the most.")


class OptimizationSettings(ApiModel):
    """Where and within which limits optimization Jobs run."""

    node_selector: LabelMap | None = Field(default=None, description="Labels that the node must have.")
    tolerations: Tolerations | None = Field(default=None, description="Taints that the Job's pod tolerates.")
    resources: Resources | None = Field(
        default=None,
        description="Resources of the optimizer container; what is left out keeps the operator's default.",
    )
    active_deadline_seconds: int = Field(
        default=3600,
        ge=60,
        le=604_800,
        description="How long a Job may take, the wait for a node included; a retry has as long again.",
    )
    budget_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = Field(
        default=None, description="After how many minutes of searching no further candidate is begun."
    )
    max_candidates: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="How many candidates are tried at the most."
    )
    labels: LabelMap | None = Field(
        default=None, description="Extra labels of the Job and its pod, for queueing systems such as Kueue."
    )
