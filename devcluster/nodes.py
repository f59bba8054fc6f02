"""What is done inside nodes, as scripts and settings: pure text that `cluster` has the engine run."""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CUT_CHAIN = "DEVCLUSTER-CUT"
CNI_FILE = "/etc/cni/net.d/10-devcluster.conflist"
INTERFACE = "eth0"  # the one that engines give to containers
HOOKS = "INPUT OUTPUT FORWARD"


@dataclass(frozen=True)
class Node:
    """A node as the API server knows it.

    Attributes:
        address: Its address in the engine's network.
        pods: The network of its pods.
        ready: Whether its kubelet reports to be ready.
    """

    name: str
    address: str
    pods: str
    ready: bool

    @staticmethod
    def of(found: Mapping[str, Any]) -> "Node":
        """Read a Node object; a node that was just born may have no network yet, which is an empty text."""
        status = found["status"]
        return Node(
            name=found["metadata"]["name"],
            address=next((a["address"] for a in status.get("addresses", []) if a["type"] == "InternalIP"), ""),
            pods=found["spec"].get("podCIDR", ""),
            ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])),
        )


def conflist(pods: str) -> str:
    """Return the CNI configuration of a node: a pair of interfaces for each pod, addresses from the node's network.

    The plugins are those that both the published and the built node image have.
    """
    gateway = str(next(ipaddress.ip_network(pods).hosts()))
    plugins = [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": pods, "gateway": gateway}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "devcluster", "plugins": plugins})


def arrange_script(node: Node, others: list[Node]) -> str:
    """Return a script that gives a node its pods' network, the routes to the others', and no route out.

    It may run any number of times: also after an engine has restarted the node, which forgets routes and brings the
    way out back.
    """
    temporary = CNI_FILE.replace("10-devcluster.conflist", ".devcluster")
    routes = [f"ip route replace {other.pods} via {other.address}" for other in others]
    lines = [
        "set -eu",
        f"if [ ! -e {CNI_FILE} ]; then echo '{conflist(node.pods)}' > {temporary}; mv {temporary} {CNI_FILE}; fi",
        *routes,
        "while ip route del default 2>/dev/null; do :; done",
        "while ip -6 route del default 2>/dev/null; do :; done",
    ]
    return "\n".join(lines)


def cut_script(others: list[Node]) -> str:
    """Return a script that drops all traffic of a node with the other nodes and with their pods.

    Engines give nodes IPv6 addresses as well, which the cluster does not know and kubelets may use: all of that goes.
    """
    networks = [network for other in others for network in (other.address, other.pods)]
    rules = [f"iptables -A {CUT_CHAIN} {side} {network} -j DROP" for network in networks for side in ("-s", "-d")]
    rules6 = [f"ip6tables -A {CUT_CHAIN} {side} {INTERFACE} -j DROP" for side in ("-i", "-o")]
    lines = ["set -eu", *_chain("iptables", rules)]
    return "\n".join([*lines, "ip6tables -S >/dev/null 2>&1 || exit 0", *_chain("ip6tables", rules6)])


def _chain(program: str, rules: list[str]) -> list[str]:
    """Return the lines that fill our chain and put it before all others."""
    return [
        f"{program} -N {CUT_CHAIN} 2>/dev/null || {program} -F {CUT_CHAIN}",
        *rules,
        f"for hook in {HOOKS}; do",
        f"  {program} -C $hook -j {CUT_CHAIN} 2>/dev/null || {program} -I $hook -j {CUT_CHAIN}",
        "done",
    ]


def restore_script() -> str:
    """Return a script that takes away what `cut_script` did, and does nothing where nothing was cut."""
    return (
        "set -eu\n"
        "for program in iptables ip6tables; do\n"
        f"  $program -S {CUT_CHAIN} >/dev/null 2>&1 || continue\n"
        f"  for hook in {HOOKS}; do while $program -D $hook -j {CUT_CHAIN} 2>/dev/null; do :; done; done\n"
        f"  $program -F {CUT_CHAIN}\n"
        f"  $program -X {CUT_CHAIN}\n"
        "done"
    )
