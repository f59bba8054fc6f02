"""A kind cluster: made, mended, looked at, cut in two, removed."""

import contextlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from devcluster import cache, images, parts
from devcluster.engine import Engine, engine
from devcluster.errors import ClusterError, CommandError
from devcluster.hosts import cache_folder
from devcluster.nodeimage import REPOSITORY, node_image
from devcluster.process import run, say, step, succeeds

SITES = ("site-a", "site-b")
API_SECONDS = 10
POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"
CUT_CHAIN = "DEVCLUSTER-CUT"


@dataclass(frozen=True)
class Cluster:
    """A named cluster of one control plane and one worker a site.

    Attributes:
        name: Name of the kind cluster.
        kubeconfig: File that `up` writes for clients.
    """

    name: str
    kubeconfig: Path

    @staticmethod
    def default(name: str = "skerry") -> "Cluster":
        """Return the cluster of that name, whether it is up or not."""
        return Cluster(name, cache_folder() / f"kubeconfig-{name}")

    @cached_property
    def engine(self) -> Engine:
        """The container engine that runs the nodes."""
        return engine()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, the control plane first."""
        workers = (f"{self.name}-worker{'' if number == 1 else number}" for number in range(1, len(SITES) + 1))
        return (f"{self.name}-control-plane", *workers)

    def up(self) -> None:
        """Make the cluster, mend it, or find it well; safe to run again and while another run goes on."""
        with cache.lock(cache_folder(), f"cluster-{self.name}"):
            if self.healthy():
                say(f"== cluster {self.name} is up")
                return
            self._remove()
            image = node_image(self.engine)
            parts.helm()
            parts.build("registry")
            parts.clean_build_cache()
            with step(f"creating the cluster {self.name}"):
                self._create(image)
            with step("waiting for the nodes and the system's pods"):
                self._connect()
                self._label_sites()
                self._wait()
                self._cut_uplink()

    def down(self) -> None:
        """Remove the cluster and its kubeconfig; what was built stays in the cache."""
        with cache.lock(cache_folder(), f"cluster-{self.name}"):
            self._remove()

    def healthy(self) -> bool:
        """Tell whether the API server answers and every node is ready.

        The API server is asked, because an engine goes on to call containers running whose processes were killed.
        """
        if not self.kubeconfig.exists():
            return False
        try:
            found = self.get("nodes", timeout=API_SECONDS)
        except CommandError:
            return False
        ready = {
            node["metadata"]["name"]
            for node in found
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
        }
        return ready >= set(self.nodes)

    def kubectl(self, *arguments: str | Path, text: str | None = None, timeout: float | None = None) -> str:
        """Run kubectl against the cluster and return its stdout."""
        return run(parts.kubectl(), "--kubeconfig", self.kubeconfig, *arguments, text=text, timeout=timeout)

    def get(self, kind: str, *arguments: str, timeout: float | None = 60) -> list[dict[str, Any]]:
        """Return the objects that `kubectl get KIND …` finds, or the one that was named, in a list."""
        found = json.loads(self.kubectl("get", kind, *arguments, "--output", "json", timeout=timeout))
        items: list[dict[str, Any]] = found["items"] if found["kind"].endswith("List") else [found]
        return items

    def helm(self, *arguments: str | Path, timeout: float | None = None) -> str:
        """Run Helm against the cluster and return its stdout."""
        return run(parts.helm(), "--kubeconfig", self.kubeconfig, *arguments, timeout=timeout)

    def images(self, *names: str) -> dict[str, str]:
        """Build the project's images (all, or those named) and return their references by name."""
        return images.build(self.engine, names)

    def load(self, references: Iterable[str]) -> None:
        """Load images of the engine's store into all nodes, but for those that are there."""
        for reference in references:
            wanted = [node for node in self.nodes if not self._has_image(node, reference)]
            if not wanted:
                continue
            with step(f"loading {reference} into {len(wanted)} nodes"), images.archive(self.engine, reference) as path:
                command = ("load", "image-archive", path, "--name", self.name, "--nodes", ",".join(wanted))
                run(parts.kind(), *command, env=self.engine.env)

    def cut(self, node: str) -> None:
        """Cut a node from all others, as if its uplink were gone; what runs on it goes on."""
        self._known(node)
        peers = [self._address(other) for other in self.nodes if other != node]
        commands = [f"iptables -N {CUT_CHAIN} 2>/dev/null || iptables -F {CUT_CHAIN}"]
        commands += [f"iptables -A {CUT_CHAIN} -s {peer} -j DROP" for peer in peers]
        commands += [f"iptables -A {CUT_CHAIN} -d {peer} -j DROP" for peer in peers]
        commands += [
            f"iptables -C {hook} -j {CUT_CHAIN} 2>/dev/null || iptables -I {hook} -j {CUT_CHAIN}"
            for hook in ("INPUT", "OUTPUT", "FORWARD")
        ]
        self._on(node, " && ".join(f"({command})" for command in commands))

    def restore(self, node: str) -> None:
        """Heal what `cut` did."""
        self._known(node)
        self._on(
            node,
            "for hook in INPUT OUTPUT FORWARD; do "
            f"while iptables -D $hook -j {CUT_CHAIN} 2>/dev/null; do :; done; done; "
            f"iptables -F {CUT_CHAIN} 2>/dev/null; iptables -X {CUT_CHAIN} 2>/dev/null; true",
        )

    def status(self) -> str:
        """Return a text that says whether the cluster is up, and with what."""
        if not self.healthy():
            return f"cluster {self.name} is not up: `python -m devcluster up` makes or mends it\n"
        return self.kubectl("get", "nodes", "--output", "wide", "--label-columns", "topology.kubernetes.io/zone")

    def _known(self, node: str) -> None:
        if node not in self.nodes:
            message = f"no node {node!r} in cluster {self.name}: it has {', '.join(self.nodes)}"
            raise ClusterError(message)

    def _on(self, node: str, script: str) -> str:
        return self.engine.run("exec", node, "sh", "-c", script)

    def _has_image(self, node: str, reference: str) -> bool:
        return succeeds(
            self.engine.name,
            *("exec", node, "sh", "-c", f"ctr -n k8s.io images ls -q name=={reference} | grep -q ."),
            env=self.engine.env,
        )

    def _remove(self) -> None:
        """Remove what there may be, whatever state it is in."""
        if succeeds(parts.kind(), "get", "nodes", "--name", self.name, env=self.engine.env):
            with contextlib.suppress(CommandError):
                run(
                    *(parts.kind(), "delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig),
                    env=self.engine.env,
                )
        for node in self.nodes:
            self.engine.succeeds("rm", "--force", "--volumes", node)
        self.kubeconfig.unlink(missing_ok=True)

    def _configuration(self) -> dict[str, Any]:
        patches = [
            {
                "kind": "ClusterConfiguration",
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "imageRepository": REPOSITORY,
                "dns": {"imageRepository": REPOSITORY},
            },
            {
                "kind": "KubeletConfiguration",
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "failCgroupV1": False,
                "cgroupDriver": "systemd",
            },
        ]
        return {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "name": self.name,
            "networking": {
                "disableDefaultCNI": True,
                "apiServerAddress": "127.0.0.1",
                "podSubnet": POD_SUBNET,
                "serviceSubnet": SERVICE_SUBNET,
                "kubeProxyMode": "iptables",  # NodePorts on localhost: how nodes pull from Skerry's registry
            },
            "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in SITES)],
            "kubeadmConfigPatches": [yaml.safe_dump(patch) for patch in patches],
        }

    def _create(self, image: str) -> None:
        configuration = cache_folder() / f"kind-{self.name}.yaml"
        configuration.write_text(yaml.safe_dump(self._configuration()), encoding="utf-8")
        command = (parts.kind(), "create", "cluster", "--config", configuration, "--image", image, "--retain")
        try:
            run(*command, "--kubeconfig", self.kubeconfig, env=self.engine.env, timeout=900)
        except CommandError:
            logs = self.engine.succeeds("exec", self.nodes[0], "true") and self.engine.run(
                "exec", self.nodes[0], "journalctl", "--no-pager", "--lines", "30"
            )
            say(f"the control plane's journal ends with:\n{logs}")
            raise

    def _address(self, node: str) -> str:
        found = self.get("node", node)[0]
        return next(str(a["address"]) for a in found["status"]["addresses"] if a["type"] == "InternalIP")

    def _connect(self) -> None:
        """Give every node a bridge for its pods and routes to the pods of the others."""
        networks = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in self.get("nodes")}
        addresses = {node: self._address(node) for node in networks}
        for node, network in networks.items():
            gateway = str(next(ipaddress.ip_network(network).hosts()))
            plugins = [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": network, "gateway": gateway}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ]
            conflist = json.dumps({"cniVersion": "1.0.0", "name": "devcluster", "plugins": plugins})
            routes = "; ".join(
                f"ip route replace {other} via {addresses[peer]}" for peer, other in networks.items() if peer != node
            )
            write = (
                f"cat > /etc/cni/net.d/.tmp <<'END'\n{conflist}\nEND\n"
                "mv /etc/cni/net.d/.tmp /etc/cni/net.d/10-devcluster.conflist"
            )
            self._on(node, f"{write}; {routes}")

    def _label_sites(self) -> None:
        for node, site in zip(self.nodes[1:], SITES, strict=True):
            self.kubectl("label", "node", node, f"topology.kubernetes.io/zone={site}", "--overwrite")

    def _wait(self) -> None:
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=180s")
        for namespace in ("kube-system", "local-path-storage"):
            self.kubectl(
                *("wait", "--for=condition=Available", "deployments", "--all"),
                *("--namespace", namespace, "--timeout=180s"),
            )

    def _cut_uplink(self) -> None:
        """Take every node's way out: a site without uplink is the normal case here."""
        for node in self.nodes:
            self._on(node, "ip route del default 2>/dev/null; true")
