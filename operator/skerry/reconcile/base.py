"""What all services share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from skerry.accelerators.catalogue import Catalogue, catalogue
from skerry.api import labels
from skerry.api.conditions import find
from skerry.api.meta import ApiModel, Condition
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.kube.gateway import Document, Gateway
from skerry.kube.resources import SECRETS, Resource, resource_of
from skerry.manifests.settings import InstallationSettings
from skerry.planning.candidates import measurable, servable
from skerry.reconcile.drift import additions, equal
from skerry.reconcile.site import Site


@dataclass(frozen=True)
class Key:
    """An object to reconcile."""

    kind: str
    namespace: str | None
    name: str


@dataclass(frozen=True)
class Context:
    """What services work with.

    Attributes:
        gateway: The API server.
        settings: What the installation decides.
        namespace: The operator's own namespace.
        image_volumes: Whether the cluster mounts images.
        catalogue: The accelerators that are known here.
        site: What the cluster has.
        now: Tells the time, in UTC.
    """

    gateway: Gateway
    settings: InstallationSettings
    namespace: str
    image_volumes: bool
    catalogue: Catalogue = field(default_factory=catalogue)
    site: Site = field(default_factory=Site)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


async def present(context: Context) -> frozenset[str]:
    """Return the names of the accelerators of which a node has a healthy one."""
    seen = await context.site.look(context.gateway, context.catalogue, context.now)
    return frozenset(
        accelerator.name
        for node in seen.nodes.values()
        for accelerator in node.accelerators.values()
        if accelerator.healthy
    )


def unfit(context: Context, accelerator: str, *, asked: bool) -> str:
    """Return why nothing can be optimized for an accelerator; nothing when it can, or when candidates are asked for."""
    entry = context.catalogue.get(accelerator)
    if entry is None:
        return f"the catalogue has no accelerator {accelerator!r}; it has {', '.join(sorted(context.catalogue))}"
    if not entry.schedulable:
        return f"{accelerator} is only reported: no framework runs models on it any more"
    if not (measurable(entry) and servable(entry)) or not (entry.candidates or asked):
        return f"this version of Skerry does not optimize for {accelerator} yet"
    return ""


async def registry_credentials(context: Context, name: str) -> dict[str, str] | None:
    """Return the data of a Secret in the operator's namespace, or None when it is not there."""
    secret = await context.gateway.get(SECRETS, context.namespace, name)
    return None if secret is None else dict(secret.get("data", {}))


def missing_credentials(context: Context, name: str) -> str:
    """Return what is told while that Secret is missing."""
    return f"the registry's credentials are missing: there is no Secret {context.namespace}/{name}"


def managed_selector(name: str, value: str) -> str:
    """Return the label selector of what was made for an object."""
    return f"{labels.APP_MANAGED_BY}=skerry,{name}={value}"


async def ensure(gateway: Gateway, wanted: Document) -> Document:
    """Apply an object unless it is as it is wanted already; take away what others added to it."""
    metadata = wanted["metadata"]
    resource = resource_of(wanted)
    found = await gateway.get(resource, metadata["namespace"], metadata["name"])
    if found is not None and not gone(found) and (added := additions(wanted, found)):
        await gateway.merge(resource, found, added)
        found = None
    if found is not None and equal(wanted, found):
        return found
    return await gateway.apply(wanted)


def gone(document: Document | None) -> bool:
    """Tell whether an object is not there or is being deleted: the garbage collector does the rest."""
    return document is None or "deletionTimestamp" in document["metadata"]


async def report(gateway: Gateway, resource: Resource, document: Document, status: ApiModel, leading: str) -> None:
    """Write a status when it differs from what is there, and an event when the leading condition's reason changed.

    Raises:
        ConflictError: Someone wrote the object since it was read; it is reconciled again.
    """
    new = status.wire()
    old = document.get("status", {})
    if new == old:
        return
    await gateway.replace_status(resource, document, new)
    before = _condition(old, leading)
    after = find(getattr(status, "conditions", ()), leading)
    if after is not None and (before is None or before.get("reason") != after.reason):
        kind = "Normal" if after.status != "False" or after.reason in _QUIET else "Warning"
        note = after.message or after.reason
        await gateway.event(document, kind=kind, reason=after.reason, action="Reconcile", note=note)


# Reasons of a False condition that are no trouble, only not done yet.
_QUIET = frozenset(
    {
        *("Optimizing", "Pending", "Running", "Suspended", "RollingOut", "WaitingForPods", "WaitingForModel"),
        *("WaitingForAccelerator", "WaitingForNodes", "NoSpareAccelerator"),
    }
)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    return next((item for item in status.get("conditions", []) if item.get("type") == kind), None)


def job_status(document: Document) -> OptimizationJobStatus:
    """Return an OptimizationJob's status; an empty one where another version wrote what is not known here.

    That one is written anew.
    """
    try:
        return OptimizationJobStatus.model_validate(document.get("status", {}))
    except ValidationError:
        return OptimizationJobStatus()


def conditions_of(document: Document) -> list[Condition]:
    """Return the conditions that an object has now, for their transition times."""
    return [Condition.model_validate(item) for item in document.get("status", {}).get("conditions", [])]
