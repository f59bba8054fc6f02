"""A namespace for tests, and the objects that users put into one."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from devcluster import Cluster
from tests.support import models
from tests.support.installation import REGISTRY, Document, apply, condition, eventually, forwarded

QUICK = [{"framework": "OpenVINO", "precision": "FP32", "technique": "Conversion"}]
"""One candidate that is made in a moment."""
GOOD = f"oci://{REGISTRY}/models/good:1"
DATA = f"oci://{REGISTRY}/data/good:1"


def edge_model(name: str, uri: str = GOOD, **spec: Any) -> Document:
    """Return an EdgeModel that any candidate passes, unless the spec says more."""
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": name},
        "spec": {"source": {"uri": uri}, "evaluation": {"uri": DATA}, "gates": [], "candidates": QUICK, **spec},
    }


def edge_deployment(name: str, model: str, replicas: int = 1, **placement: Any) -> Document:
    """Return an EdgeDeployment with a placement that may say more."""
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name},
        "spec": {"modelName": model, "placement": {"replicas": replicas, **placement}},
    }


@dataclass(frozen=True)
class Workspace:
    """A namespace on the cluster that admits only restricted pods."""

    cluster: Cluster
    namespace: str

    def apply(self, *documents: Document) -> None:
        """Apply objects in this namespace."""
        placed = copy.deepcopy(documents)
        for document in placed:
            document["metadata"]["namespace"] = self.namespace
        apply(self.cluster, *placed)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in this namespace."""
        return self.cluster.kubectl(*arguments, "--namespace", self.namespace)

    def get(self, kind: str, name: str) -> Document:
        """Return an object that is there."""
        return self.cluster.get(kind, name, "--namespace", self.namespace)[0]

    def listed(self, kind: str, selector: str) -> list[Document]:
        """Return the objects with such labels."""
        return self.cluster.get(kind, "--namespace", self.namespace, "--selector", selector)

    def ask(self, deployment: str, model: str) -> tuple[int, ...]:
        """Have two samples of the small classifier answered, as any client would; return the shape of the answer."""
        with forwarded(self.cluster, self.namespace, deployment, 8080) as port:
            client = triton.InferenceServerClient(f"localhost:{port}")
            tensor = triton.InferInput("features", [2, models.FEATURES], "FP32")
            tensor.set_data_from_numpy(np.ones((2, models.FEATURES), np.float32))
            found = client.infer(model, [tensor]).as_numpy("scores")
            client.close()
        assert found is not None
        return tuple(found.shape)

    def until(self, kind: str, name: str, reason: str, *, of: str = "Ready", seconds: float = 180) -> Document:
        """Wait until a condition has a reason, and return the object."""

        def look() -> Document | None:
            found = self.get(kind, name)
            return found if condition(found, of)[1] == reason else None

        try:
            found: Document = eventually(look, f"{kind}/{name} is {reason}", seconds)
        except pytest.fail.Exception:
            pytest.fail(f"{kind}/{name} is not {reason} but {condition(self.get(kind, name), of)}")
        return found


@contextmanager
def workspace(cluster: Cluster, namespace: str) -> Iterator[Workspace]:
    """Have an empty namespace, and remove it at the end."""
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    try:
        yield Workspace(cluster, namespace)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
