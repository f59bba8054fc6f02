"""CustomResourceDefinitions, generated from the Pydantic models.

Structural schemas as Kubernetes wants them: references inlined, no `null`, no titles, CEL rules and list types from the
models' schema extensions. `make generate` writes them to `crds/` and into the chart; a test proves that they agree.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from skerry.api.edgedeployment import EdgeDeploymentSpec, EdgeDeploymentStatus
from skerry.api.edgemodel import EdgeModelSpec, EdgeModelStatus
from skerry.api.meta import GROUP, VERSION, ApiModel, cel
from skerry.api.nodeprofile import NodeProfileStatus
from skerry.api.optimizationjob import OptimizationJobSpec, OptimizationJobStatus

NAME_LIMIT: Final = 52
"""Longest name of an object whose name becomes part of a child's name or of a label value (63) with a hash."""


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False
    description: str = ""


@dataclass(frozen=True)
class Kind:
    """All that makes a CustomResourceDefinition."""

    kind: str
    plural: str
    short: str
    description: str
    status: type[ApiModel]
    spec: type[ApiModel] | None = None
    columns: tuple[Column, ...] = ()
    namespaced: bool = True
    scale: dict[str, str] | None = None
    rules: tuple[tuple[str, str], ...] = field(default=())

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


def _condition(kind: str, attribute: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{attribute}'


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_SHORT_NAME: Final = (
    f"size(self.metadata.name) <= {NAME_LIMIT}",
    f"metadata.name must be at most {NAME_LIMIT} characters: names of children and label values are made from it",
)
_DNS_LABEL: Final = (
    "!self.metadata.name.contains('.')",
    "metadata.name must not contain dots: it becomes the name of a Service or of a label value",
)

KINDS: Final = (
    Kind(
        kind="EdgeModel",
        plural="edgemodels",
        short="emodel",
        description="One source model, optimized and measured for each accelerator that the cluster has.",
        spec=EdgeModelSpec,
        status=EdgeModelStatus,
        rules=(_SHORT_NAME, _DNS_LABEL),
        columns=(
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            Column("Variants", ".status.variantsReady", description="Published variants of those wanted."),
            Column("Best", ".status.best", description="Framework and precision of the fastest variant."),
            Column("Speedup", ".status.speedup", description="Of the fastest variant, against the baseline."),
            Column("Message", _condition("Ready", "message"), wide=True),
            _AGE,
        ),
    ),
    Kind(
        kind="OptimizationJob",
        plural="optimizationjobs",
        short="optjob",
        description="One search for the best variant of one model on one accelerator.",
        spec=OptimizationJobSpec,
        status=OptimizationJobStatus,
        rules=(
            (
                "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
                "metadata.name must be at most 63 characters without dots: it becomes a label value",
            ),
        ),
        columns=(
            Column("Complete", _condition("Complete", "status")),
            Column("Reason", _condition("Complete", "reason")),
            Column("Stage", ".status.stage"),
            Column("Progress", ".status.progressPercent", "integer", description="Percent."),
            Column("Accelerator", ".spec.accelerator"),
            Column("Chosen", ".status.chosen"),
            Column("Message", _condition("Complete", "message"), wide=True),
            _AGE,
        ),
    ),
    Kind(
        kind="EdgeDeployment",
        plural="edgedeployments",
        short="edeploy",
        description="A model that is served on the cluster's nodes.",
        spec=EdgeDeploymentSpec,
        status=EdgeDeploymentStatus,
        rules=(_SHORT_NAME, _DNS_LABEL),
        scale={
            "specReplicasPath": ".spec.placement.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
        columns=(
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            Column("Model", ".spec.modelName"),
            Column("Variant", ".status.variant"),
            Column("Replicas", ".status.replicaSummary"),
            Column("Devices", ".status.devices"),
            Column("Revision", ".status.revision", wide=True),
            Column("Message", _condition("Ready", "message"), wide=True),
            _AGE,
        ),
    ),
    Kind(
        kind="NodeProfile",
        plural="nodeprofiles",
        short="nprof",
        description="What one node has, written only by the device probe of that node.",
        status=NodeProfileStatus,
        namespaced=False,
        columns=(
            Column("Ready", _condition("Ready", "status")),
            Column("Architecture", ".status.machine.architecture"),
            Column("CPU", ".status.cpu.model"),
            Column("Cores", ".status.cpu.cores", "integer"),
            Column("Accelerators", ".status.acceleratorSummary"),
            Column("Observed", ".status.observedAt", "date"),
            _AGE,
        ),
    ),
)


class _StructuralSchema(GenerateJsonSchema):
    """JSON schema whose defaults include those that a factory makes: the API server writes them into the object."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory is not None and not schema.get("default_factory_takes_data", False):
            value = factory()  # type: ignore[call-arg]
            if isinstance(value, ApiModel):
                made = {**made, "default": {}}  # the server then writes the defaults of the fields inside
            elif value:
                made = {**made, "default": to_jsonable_python(value, by_alias=True, exclude_none=True)}
        return made


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the node with its reference, `allOf` or `T | None` replaced by what it stands for."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        merged = {**target, **rest}
        rules = target.get("x-kubernetes-validations", []) + rest.get("x-kubernetes-validations", [])
        if rules:
            merged["x-kubernetes-validations"] = rules
        return _resolved(merged, definitions)
    for word in ("allOf", "anyOf"):
        if word in node and not node.get("x-kubernetes-int-or-string"):
            options = [option for option in node[word] if option != {"type": "null"}]
            if len(options) != 1:
                message = f"a structural schema cannot have the choice {node[word]}"
                raise TypeError(message)
            rest = {key: value for key, value in node.items() if key != word}
            return _resolved({**options[0], **rest}, definitions)
    return node


def _structural(node: dict[str, Any], definitions: dict[str, Any], *, defaults: bool) -> dict[str, Any]:
    """Return the node with references inlined and everything removed that a structural schema must not have."""
    node = _resolved(node, definitions)
    made: dict[str, Any] = {}
    for key, value in node.items():
        match key:
            case "title" | "$defs" | "propertyNames":
                continue
            case "default" if value is None or not defaults:
                continue
            case "additionalProperties" if value is False:
                continue  # kubectl's strict validation and the server's pruning treat unknown fields
            case "properties":
                made[key] = {name: _structural(child, definitions, defaults=defaults) for name, child in value.items()}
            case "items" | "additionalProperties":
                made[key] = _structural(value, definitions, defaults=defaults)
            case _:
                made[key] = value
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def schema_of(model: type[ApiModel], *, defaults: bool) -> dict[str, Any]:
    """Return the structural schema of a model."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_StructuralSchema)
    return _structural(raw, raw.get("$defs", {}), defaults=defaults)


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
    }
    schema: dict[str, Any] = {"type": "object", "description": kind.description, "properties": properties}
    if kind.spec is not None:
        properties["spec"] = schema_of(kind.spec, defaults=True)
        schema["required"] = ["spec"]
    properties["status"] = schema_of(kind.status, defaults=False)
    if kind.rules:
        schema.update(cel(*kind.rules))
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale is not None:
        subresources["scale"] = dict(kind.scale)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["skerry"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    made: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.wide:
        made["priority"] = 1
    if column.description:
        made["description"] = column.description
    return made
