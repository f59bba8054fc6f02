"""What the command line asks the cluster: which report belongs to an object."""

import asyncio
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skerry.api.edgemodel import EdgeModelStatus
from skerry.api.optimizationjob import OptimizationJobStatus
from skerry.cli.errors import CommandError
from skerry.kube.resources import EDGE_MODELS, OPTIMIZATION_JOBS, Resource

if TYPE_CHECKING:
    from skerry.kube.gateway import Document

_KINDS: Final = {
    name: resource
    for resource, names in (
        (EDGE_MODELS, ("emodel", "emodels", "edgemodel", "edgemodels")),
        (OPTIMIZATION_JOBS, ("optjob", "optjobs", "optimizationjob", "optimizationjobs")),
    )
    for name in names
}


@dataclass(frozen=True)
class Named:
    """An object of the cluster: its kind and its name."""

    resource: Resource
    name: str


def parse(text: str) -> Named | None:
    """Return the object that KIND/NAME stands for; None for anything else."""
    kind, slash, name = text.partition("/")
    resource = _KINDS.get(kind.lower())
    return Named(resource, name) if resource is not None and slash and name and "/" not in name else None


def report_of(named: Named, namespace: str | None, accelerator: str | None) -> str:
    """Return the URI of the report of an OptimizationJob, or of the one that made an EdgeModel's variant.

    Raises:
        CommandError: There is none, or the cluster cannot be asked.
    """
    if find_spec("kubernetes") is None:
        message = (
            f"asking the cluster for {named.resource.kind} {named.name} needs the package kubernetes: "
            "pip install '.[cli,operator]' in its checkout, or give the report's oci:// URI or file"
        )
        raise CommandError(message, os.EX_CONFIG)
    return asyncio.run(_report_of(named, namespace, accelerator))


async def _report_of(named: Named, namespace: str | None, accelerator: str | None) -> str:
    from aiohttp import ClientError  # noqa: PLC0415 - lazy
    from kubernetes.aio.config import ConfigException, list_kube_config_contexts  # noqa: PLC0415 - lazy

    from skerry.kube.client import Client  # noqa: PLC0415 - lazy
    from skerry.kube.errors import ApiError, UnavailableError  # noqa: PLC0415 - lazy

    _check_kubeconfig()
    try:
        if namespace is None:
            _, active = list_kube_config_contexts(config_file=os.environ.get("KUBECONFIG"))
            namespace = active["context"].get("namespace") or "default"
        client = await Client.connect()
    except (ConfigException, OSError) as error:
        message = f"the kubeconfig does not do: {error}"
        raise CommandError(message, os.EX_CONFIG) from error
    try:
        job = named
        if named.resource is EDGE_MODELS:
            model = _existing(await client.get(EDGE_MODELS, namespace, named.name), named, namespace)
            job = Named(OPTIMIZATION_JOBS, _job_of(model, named.name, accelerator))
        return _reported(_existing(await client.get(OPTIMIZATION_JOBS, namespace, job.name), job, namespace), job.name)
    except (UnavailableError, ClientError) as error:
        message = f"the cluster does not answer: {error}"
        raise CommandError(message, os.EX_UNAVAILABLE) from error
    except ApiError as error:
        message = f"the cluster refuses: {error.told}"
        raise CommandError(message, os.EX_NOPERM) from error
    finally:
        await client.close()


def _check_kubeconfig() -> None:
    places = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not any(Path(place).is_file() for place in places.split(os.pathsep) if place):
        message = f"there is no kubeconfig at {places} to reach the cluster with; set KUBECONFIG"
        raise CommandError(message, os.EX_CONFIG)


def _existing(document: "Document | None", named: Named, namespace: str) -> "Document":
    if document is None:
        message = f"there is no {named.resource.kind} {named.name} in the namespace {namespace}; see --namespace"
        raise CommandError(message, os.EX_NOINPUT)
    return document


def _job_of(document: "Document", name: str, accelerator: str | None) -> str:
    """Return the name of the OptimizationJob of a model's only variant, or of that for the accelerator."""
    variants = EdgeModelStatus.model_validate(document.get("status") or {}).variants
    if not variants:
        message = f"EdgeModel {name} has no variants yet; its Ready condition says why"
        raise CommandError(message, os.EX_NOINPUT)
    wanted = [variant for variant in variants if accelerator in {None, variant.accelerator}]
    if len(wanted) != 1:
        names = ", ".join(variant.accelerator for variant in variants)
        message = f"EdgeModel {name} has variants for {names}; say which with --accelerator"
        raise CommandError(message, os.EX_USAGE)
    return wanted[0].optimization_job_name


def _reported(document: "Document", name: str) -> str:
    status = OptimizationJobStatus.model_validate(document.get("status") or {})
    if status.report_artifact is None:
        complete = next((it for it in status.conditions if it.type == "Complete"), None)
        why = f": {complete.message}" if complete is not None and complete.message else ""
        message = f"OptimizationJob {name} has no report yet, its stage is {status.stage}{why}"
        raise CommandError(message, os.EX_NOINPUT)
    return status.report_artifact
