"""What tests of the reconcilers do to the cluster, and what they look at."""

import json
from typing import Any

from skerry.api.jobcontract import ChosenVariant, JobResult
from skerry.api.reasons import JobReason
from skerry.api.types import Framework, Precision, Requirements, Technique
from skerry.kube.resources import (
    DEPLOYMENTS,
    JOBS,
)
from skerry.reconcile import deployments, optimizations
from skerry.reconcile.base import Context, Key
from tests.support.gateway import FakeGateway

SOURCE = {"uri": "oci://r/m:1"}
ARTIFACT = "oci://localhost:30500/models/vision/digits@sha256:" + "1" * 64


def condition(document: dict[str, Any], kind: str) -> tuple[str, str]:
    found = next(item for item in document["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def result() -> JobResult:
    chosen = ChosenVariant(
        name="openvino-int8-ptq",
        framework=Framework.OPENVINO,
        precision=Precision.INT8,
        technique=Technique.POST_TRAINING,
        size_bytes=10,
        requires=Requirements(architecture="amd64", cpu_features=["avx512_vnni"]),
    )
    return JobResult(reason=JobReason.SUCCEEDED, message="2x", source_sha256="a" * 64, artifact=ARTIFACT, chosen=chosen)


class Cluster:
    """Plays the part of Kubernetes' own controllers."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway

    def pod_of(self, name: str, code: int | None, message: str = "") -> None:
        job = self.gateway.one(JOBS, "vision", name)
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code, "message": message}}
        owner = {"uid": job["metadata"]["uid"], "controller": True}
        labels = {"batch.kubernetes.io/job-name": name}
        metadata = {"name": f"{name}-x", "namespace": "vision", "labels": labels, "ownerReferences": [owner]}
        status = {"phase": "Running", "containerStatuses": [{"state": state}]}
        spec: dict[str, Any] = {"containers": []}
        self.gateway.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})

    def end(self, name: str, kind: str, reason: str = "", started: str = "2026-11-21T11:59:00Z") -> None:
        job = self.gateway.one(JOBS, "vision", name)
        ended = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2026-11-21T12:00:00Z"}
        self.gateway.put({**job, "status": {"conditions": [ended], "startTime": started}})

    def serve(self, name: str, *, device: str = "CPU", node: str = "node-1") -> None:
        """Have the pods of a Deployment run on a node."""
        deployment = self.gateway.one(DEPLOYMENTS, "vision", name)
        template, replicas = deployment["spec"]["template"], deployment["spec"]["replicas"]
        generation = deployment["metadata"]["generation"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), replicas)
        self.gateway.put({**deployment, "status": {"observedGeneration": generation, **counts}})
        for number in range(replicas):
            metadata = {"name": f"{name}-{number}", "namespace": "vision", **template["metadata"]}
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            spec = {**template["spec"], "nodeName": node}
            self.gateway.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
            facts = {"skerry": {"executionDevice": device, "expectedDevice": "CPU"}}
            self.gateway.answers[f"{name}-{number}"] = json.dumps(facts).encode()


async def look(context: Context, name: str) -> float | None:
    return await optimizations.reconcile(context, Key("OptimizationJob", "vision", name))


async def deploy(context: Context) -> float | None:
    return await deployments.reconcile(context, Key("EdgeDeployment", "vision", "front"))
