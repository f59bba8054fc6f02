"""A real Kubernetes cluster from nothing, on a laptop or on a machine without any image registry.

`Cluster.default()` is what tests and the demo use; `python -m devcluster` is the same for people.
"""

from devcluster.cluster import Cluster
from devcluster.errors import ClusterError, DevclusterError

__all__ = ["Cluster", "ClusterError", "DevclusterError"]
