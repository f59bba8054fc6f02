"""kind's configuration, and the scripts that run in nodes."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

from devcluster.hosts import Host
from devcluster.kindconfig import configuration, node_names
from devcluster.nodeimage import NodeImage
from devcluster.nodes import Node, arrange_script, conflist, cut_script, restore_script

LAPTOP = Host(unified_cgroups=True, systemd=True, may_raise_limits=True, nofile=1_048_576)
SANDBOX = Host(unified_cgroups=False, systemd=False, may_raise_limits=False, nofile=20_000)
NODE = Node("a", "10.89.0.2", "10.244.0.0/24", ready=True)
OTHER = Node("b", "10.89.0.3", "10.244.1.0/24", ready=True)


def patches(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {patch["kind"]: patch for patch in map(yaml.safe_load, document["kubeadmConfigPatches"])}


def test_a_cluster_is_a_control_plane_and_two_sites() -> None:
    document = configuration("c", NodeImage("image", None), LAPTOP)
    assert [node["role"] for node in document["nodes"]] == ["control-plane", "worker", "worker"]
    assert [node.get("labels", {}).get("topology.kubernetes.io/zone") for node in document["nodes"]] == [
        None,
        "site-a",
        "site-b",
    ]
    assert node_names("c") == ("c-control-plane", "c-worker", "c-worker2")


def test_node_ports_stay_reachable_on_localhost() -> None:
    networking = configuration("c", NodeImage("image", None), LAPTOP)["networking"]
    assert networking["kubeProxyMode"] == "iptables"
    assert networking["apiServerAddress"] == "127.0.0.1"


def test_a_published_image_keeps_the_repository_of_its_components() -> None:
    published = patches(configuration("c", NodeImage("kindest/node", None), LAPTOP))
    built = patches(configuration("c", NodeImage("built", "local/k8s"), LAPTOP))
    assert "ClusterConfiguration" not in published
    assert built["ClusterConfiguration"]["imageRepository"] == "local/k8s"
    assert built["ClusterConfiguration"]["dns"] == {"imageRepository": "local/k8s"}


def test_both_images_get_what_the_machine_needs() -> None:
    for image in (NodeImage("published", None), NodeImage("built", "local/k8s")):
        document = configuration("c", image, SANDBOX)
        assert len(document["containerdConfigPatches"]) == 2
        assert patches(document)["KubeletConfiguration"]["failCgroupV1"] is False


def test_the_nodes_containerd_has_a_stock_registry_configuration() -> None:
    text = (Path(__file__).parents[3] / "devcluster/files/containerd.toml").read_text()
    images = tomllib.loads(text)["plugins"]["io.containerd.cri.v1.images"]
    assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}


def test_a_node_is_read_also_when_it_was_just_born() -> None:
    status = {
        "addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.89.0.2"}],
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
    }
    whole = {"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.0.0/24"}, "status": status}
    assert Node.of(whole) == NODE
    assert Node.of({"metadata": {"name": "a"}, "spec": {}, "status": {}}) == Node("a", "", "", ready=False)


def test_pods_get_addresses_of_their_node() -> None:
    plugins = json.loads(conflist("10.244.3.0/24"))["plugins"]
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24", "gateway": "10.244.3.1"}]]
    assert [plugin["type"] for plugin in plugins] == ["ptp", "portmap"]


def test_a_node_is_arranged_with_routes_to_the_others_and_none_out() -> None:
    script = arrange_script(NODE, [OTHER])
    assert "ip route replace 10.244.1.0/24 via 10.89.0.3" in script
    assert "10.244.0.0/24 via" not in script
    assert "ip route del default" in script


def test_a_cut_names_nodes_and_their_pods_in_both_directions() -> None:
    script = cut_script([OTHER])
    for network in ("10.89.0.3", "10.244.1.0/24"):
        assert f"-s {network} -j DROP" in script
        assert f"-d {network} -j DROP" in script
    assert "ip6tables -A DEVCLUSTER-CUT -o eth0 -j DROP" in script


def test_the_scripts_are_good_shell() -> None:
    for script in (arrange_script(NODE, [OTHER]), cut_script([OTHER]), restore_script()):
        assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
