"""kind's configuration for a cluster: pure."""

from typing import Any

import yaml

from devcluster.hosts import Host
from devcluster.nodeimage import NodeImage

SITES = ("site-a", "site-b")
POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"


def node_names(cluster: str) -> tuple[str, ...]:
    """Return the names that kind gives to the nodes, the control plane first and then one worker a site."""
    workers = (f"{cluster}-worker{'' if number == 1 else number}" for number in range(1, len(SITES) + 1))
    return (f"{cluster}-control-plane", *workers)


def configuration(cluster: str, image: NodeImage, host: Host) -> dict[str, Any]:
    """Return the configuration of a cluster made of an image on a machine."""
    patches: list[dict[str, Any]] = [
        {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "failCgroupV1": False,
            "cgroupDriver": "systemd",
        },
    ]
    if image.repository:
        patches.append(
            {
                "kind": "ClusterConfiguration",
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "imageRepository": image.repository,
                "dns": {"imageRepository": image.repository},
            },
        )
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster,
        "networking": {
            "disableDefaultCNI": True,
            "ipFamily": "ipv4",
            "apiServerAddress": "127.0.0.1",
            "podSubnet": POD_SUBNET,
            "serviceSubnet": SERVICE_SUBNET,
            "kubeProxyMode": "iptables",  # NodePorts on localhost: how nodes pull from Skerry's registry
        },
        "nodes": [
            {"role": "control-plane"},
            *({"role": "worker", "labels": {"topology.kubernetes.io/zone": site}} for site in SITES),
        ],
        "kubeadmConfigPatches": [yaml.safe_dump(patch) for patch in patches],
        "containerdConfigPatches": host.containerd_patches(),
    }
