"""A real Kubernetes cluster from nothing, on a laptop or on a machine without any image registry.

`python -m devcluster --help` is for people; tests and the demo use the same from Python:

    cluster = Cluster.default()
    cluster.up()                                     # make, mend, or find well; seconds when it is well
    images = cluster.images("operator", "registry")  # build what changed: {name: reference}
    cluster.load(images.values())                    # into the nodes that do not have them
    cluster.helm("upgrade", "--install", …)
    cluster.kubectl("get", "nodes")                  # stdout; CommandError when it fails
    cluster.get("pods", "--all-namespaces")          # parsed
    cluster.cut(cluster.nodes[2])                    # a site without uplink, until cluster.restore(…)

Nodes have no route out and no configuration for registries. Other clients use `cluster.kubeconfig`.
"""

from devcluster.cluster import Cluster
from devcluster.errors import ClusterError, CommandError, DevclusterError

__all__ = ["Cluster", "ClusterError", "CommandError", "DevclusterError"]
