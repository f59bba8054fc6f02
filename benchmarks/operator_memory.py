"""Memory of the operator on the development cluster: idle, and with 100 EdgeModels (whose accelerator nobody has)."""

import argparse
import json
import time
from typing import Any

from devcluster import Cluster

SYSTEM = "skerry-system"
NAMESPACE = "skerry-benchmark"
DEADLINE_SECONDS = 300
SETTLE_SECONDS = 20


def resident_mib(cluster: Cluster) -> float:
    """Return the operator's resident memory, as its own metrics say."""
    pods = cluster.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/component=operator")
    name = pods[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics"
    lines = cluster.kubectl("get", "--raw", path).splitlines()
    line = next(line for line in lines if line.startswith("process_resident_memory_bytes"))
    return float(line.split()[1]) / (1 << 20)


def edge_model(number: int) -> dict[str, Any]:
    """Return an EdgeModel that waits."""
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": f"model-{number:03d}", "namespace": NAMESPACE},
        "spec": {
            "source": {"uri": f"oci://registry.example/models/m{number}:1"},
            "gates": [],
            "accelerators": ["none-such"],
        },
    }


def main() -> None:
    """Measure, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    cluster = Cluster.default()
    idle = resident_mib(cluster)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    items = [namespace, *(edge_model(number) for number in range(given.models))]
    started = time.monotonic()
    cluster.kubectl("apply", "--filename", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    try:
        while True:
            found = cluster.get("edgemodels", "--namespace", NAMESPACE)
            if len([item for item in found if item.get("status", {}).get("conditions")]) == given.models:
                break
            if time.monotonic() - started > DEADLINE_SECONDS:
                message = "the operator did not look at every model in time"
                raise RuntimeError(message)
            time.sleep(1)
        seconds = time.monotonic() - started
        time.sleep(SETTLE_SECONDS)  # what was garbage is collected
        row = {
            "idle_mib": round(idle, 1),
            f"with_{given.models}_models_mib": round(resident_mib(cluster), 1),
            "seconds_until_all_had_a_status": round(seconds, 1),
        }
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    print(json.dumps(row, indent=2) if given.json else "\n".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
