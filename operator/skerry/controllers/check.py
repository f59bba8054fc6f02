"""`python -m skerry.controllers.check`: what `helm test` runs; says what is in force and what is not."""

import asyncio
import http.client
import os
import sys
from collections.abc import Mapping

from skerry.api.crd import KINDS
from skerry.kube.client import Client
from skerry.kube.resources import NODE_PROFILES, NODES, Resource

_CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
_ADMISSION = "admissionregistration.k8s.io"
_POLICIES = Resource(_ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)
_BINDINGS = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
POLICIES = ("probe-own-node", "operator-secrets", "operator-pods", "operator-nodes")
TIMEOUT_SECONDS = 10
# What the registry's API answers at its root: with and without credentials.
_REGISTRY_ANSWERS = {200, 401}


async def definitions(client: Client) -> list[str]:
    """Return what is wrong with the CRDs."""
    wrong = []
    for kind in KINDS:
        found = await client.get(_CRDS, None, kind.crd_name)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            wrong.append(f"the CRD {kind.crd_name} is not established")
    return wrong


async def policies(client: Client, release: str) -> list[str]:
    """Return which admission policies protect nothing: one that does not compile says so nowhere else."""
    wrong = []
    for suffix in POLICIES:
        name = f"{release}-{suffix}"
        policy, binding = await client.get(_POLICIES, None, name), await client.get(_BINDINGS, None, name)
        if policy is None or binding is None:
            wrong.append(f"the ValidatingAdmissionPolicy {name} or its binding is missing")
            continue
        status = policy.get("status", {})
        if status.get("observedGeneration") != policy["metadata"]["generation"]:
            wrong.append(f"the ValidatingAdmissionPolicy {name} has not been compiled yet")
        warnings = status.get("typeChecking", {}).get("expressionWarnings", [])
        wrong += [f"the ValidatingAdmissionPolicy {name}: {warning.get('warning', '')}" for warning in warnings]
    return wrong


async def profiles(client: Client) -> list[str]:
    """Return the nodes that have no NodeProfile."""
    nodes = {item["metadata"]["name"] async for item in client.each(NODES)}
    profiled = {item["metadata"]["name"] for item in await client.list(NODE_PROFILES) if item.get("status")}
    return [f"the node {name} has no NodeProfile: is its probe running?" for name in sorted(nodes - profiled)]


def registry(host: str) -> list[str]:
    """Return what is wrong with a registry that speaks plain HTTP."""
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
    except OSError as error:
        return [f"the registry {host} does not answer: {error}"]
    finally:
        connection.close()
    return [] if status in _REGISTRY_ANSWERS else [f"the registry {host} answered {status}"]


async def check(environ: Mapping[str, str]) -> list[str]:
    """Return all that is wrong."""
    client = await Client.connect()
    try:
        wrong = await definitions(client)
        if environ.get("SKERRY_CHECK_POLICIES") == "true":
            wrong += await policies(client, environ["SKERRY_RELEASE"])
        if environ.get("SKERRY_CHECK_PROBE") == "true":
            wrong += await profiles(client)
    finally:
        await client.close()
    for host in filter(None, environ.get("SKERRY_CHECK_REGISTRIES", "").split(",")):
        wrong += registry(host)
    return wrong


def main() -> int:
    """Print what is wrong; exit 1 when anything is."""
    wrong = asyncio.run(check(os.environ))
    sys.stdout.write("\n".join(wrong or ["Skerry is in force."]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
