"""A kind cluster: made, mended, looked at, cut in two, removed."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from devcluster import cache, images, kindconfig, loading, parts
from devcluster.engine import NETWORK, Engine, engine
from devcluster.errors import ClusterError, CommandError
from devcluster.hosts import Host, cache_folder
from devcluster.nodeimage import BUILT, key, node_image
from devcluster.nodes import Node, arrange_script, cut_script, restore_script
from devcluster.process import run, say, step

API_SECONDS = 10
CREATE_SECONDS = 900
MEND_SECONDS = 90
START_SECONDS = 240
SYSTEM_NAMESPACES = ("kube-system", "local-path-storage")


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
    def default(name: str | None = None, kubeconfig: Path | None = None) -> "Cluster":
        """Return the cluster of that name (else that in DEVCLUSTER_NAME, else skerry), whether it is up or not."""
        name = name or os.environ.get("DEVCLUSTER_NAME") or "skerry"
        return Cluster(name, (kubeconfig or cache_folder() / f"kubeconfig-{name}").absolute())

    @cached_property
    def engine(self) -> Engine:
        """The container engine that runs the nodes."""
        return engine()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, the control plane first."""
        return kindconfig.node_names(self.name)

    def up(self) -> None:
        """Make the cluster, mend it, or find it well; safe to run again and while another run goes on."""
        with cache.lock(cache_folder(), f"cluster-{self.name}"):
            if self._answers() and self._mend():
                say(f"== cluster {self.name} is up")
                return
            self._remove()
            image = node_image(self.engine)
            parts.helm()
            parts.clean_build_cache()
            with step(f"creating the cluster {self.name}"), cache.scratch(cache_folder()) as folder:
                settings = folder / "kind.yaml"
                document = kindconfig.configuration(self.name, image, Host.here())
                settings.write_text(yaml.safe_dump(document), encoding="utf-8")
                self._create(settings, image.reference)
            with step("waiting for the nodes and the system's pods"):
                self._arrange(self._look())
                self._wait(START_SECONDS)

    def down(self) -> None:
        """Remove the cluster, its network and its kubeconfig; what was built stays in the cache."""
        with cache.lock(cache_folder(), f"cluster-{self.name}"):
            if shutil.which("podman") or shutil.which("docker"):
                self._remove()
                self.engine.succeeds("network", "rm", NETWORK)  # fails, rightly, while another cluster is in it
            self.kubeconfig.unlink(missing_ok=True)

    def healthy(self) -> bool:
        """Tell whether the API server answers and every node is ready."""
        try:
            return {node.name for node in self._look() if node.ready} >= set(self.nodes)
        except CommandError:
            return False

    def kubectl(self, *arguments: str | Path, text: str | None = None, timeout: float | None = None) -> str:
        """Run kubectl against the cluster, with `text` on its stdin, and return its stdout."""
        self._exists()
        return run(parts.kubectl(), "--kubeconfig", self.kubeconfig, *arguments, text=text, timeout=timeout)

    def get(self, kind: str, *arguments: str, timeout: float | None = 60) -> list[dict[str, Any]]:
        """Return the objects that `kubectl get KIND …` finds, or the one that was named, in a list."""
        found = json.loads(self.kubectl("get", kind, *arguments, "--output", "json", timeout=timeout))
        items: list[dict[str, Any]] = found["items"] if found["kind"].endswith("List") else [found]
        return items

    def helm(self, *arguments: str | Path, timeout: float | None = None) -> str:
        """Run Helm against the cluster and return its stdout."""
        self._exists()
        return run(parts.helm(), "--kubeconfig", self.kubeconfig, *arguments, timeout=timeout)

    def images(self, *names: str) -> dict[str, str]:
        """Build the project's images (the essential ones, or those named) and return their references by name."""
        return images.build(self.engine, names)

    def load(self, sources: Iterable[str | Path], nodes: Sequence[str] = ()) -> None:
        """Load images of the engine's store, or archives of images, into the nodes that do not have them.

        Args:
            sources: References of images, or paths of archives.
            nodes: Only these nodes; none: all.
        """
        self._exists()
        references = [str(source) for source in sources]
        archives = [Path(source) for source in references if Path(source).is_file()]
        stored = {
            loading.Wanted(loading.full_name(source), self.engine.image_id(source)[: loading.MARK_LENGTH]): source
            for source in references
            if not Path(source).is_file()
        }
        if missing := self._missing(list(stored), nodes):
            with cache.scratch(cache_folder()) as folder:
                absent = {image: stored[image] for lacking in missing.values() for image in lacking}
                with step(f"saving {', '.join(map(loading.short_name, absent.values()))}"):
                    self.engine.save(absent.values(), folder / "images.tar")
                self._import(folder / "images.tar", list(absent), list(missing))
        for archive in archives:
            wanted = loading.archive_images(archive)
            if missing := self._missing(wanted, nodes):
                self._import(archive, wanted, list(missing))

    def cut(self, node: str) -> None:
        """Cut a node from all others, as if its uplink were gone; what runs on it goes on."""
        self._known(node)
        self._on(node, cut_script([other for other in self._look() if other.name != node]))

    def restore(self, node: str) -> None:
        """Heal what `cut` did."""
        self._known(node)
        self._on(node, restore_script())

    def status(self) -> str:
        """Return a text that says how the nodes are.

        Raises:
            ClusterError: The cluster is not up.
        """
        self._exists()
        if not self._answers():
            message = f"cluster {self.name} is not up: `python -m devcluster up` makes or mends it"
            raise ClusterError(message)
        return self.kubectl("get", "nodes", "--output", "wide", "--label-columns", "topology.kubernetes.io/zone")

    def _exists(self) -> None:
        if not self.kubeconfig.is_file():
            message = f"no kubeconfig of cluster {self.name}: `python -m devcluster up` makes the cluster"
            raise ClusterError(message)

    def _known(self, node: str) -> None:
        if node not in self.nodes:
            message = f"no node {node!r} in cluster {self.name}: it has {', '.join(self.nodes)}"
            raise ClusterError(message)

    def _on(self, node: str, script: str) -> str:
        return self.engine.run("exec", node, "sh", "-c", script, timeout=MEND_SECONDS)

    def _look(self) -> list[Node]:
        if not self.kubeconfig.is_file():
            return []
        return [Node.of(found) for found in self.get("nodes", timeout=API_SECONDS)]

    def _answers(self) -> bool:
        """Tell whether the API server answers and knows every node, if need be after renewing the kubeconfig.

        The API server is asked, because an engine goes on to call containers running whose processes were killed.
        """
        for renew in (False, True):
            try:
                if renew:
                    self._kind("export", "kubeconfig", "--name", self.name, "--kubeconfig", self.kubeconfig)
                if {node.name for node in self._look()} >= set(self.nodes):
                    return True
            except CommandError:
                continue
        return False

    def _mend(self) -> bool:
        """Put right whatever can be without making the cluster anew, and tell whether it is well then."""
        try:
            found = self._look()
            for node in found:
                self._on(node.name, restore_script())
            self._arrange(found)
            if all(node.ready for node in found):
                self._wait(MEND_SECONDS)
            else:
                with step(f"waiting for {', '.join(node.name for node in found if not node.ready)}"):
                    self._wait(MEND_SECONDS)
            image = self.engine.run("inspect", "--format", "{{.Config.Image}}", self.nodes[0]).strip()
        except CommandError as error:
            say(f"== cluster {self.name} cannot be mended and is made anew: {error}")
            return False
        if image.startswith(f"{BUILT}:") and image != f"{BUILT}:{key()}":
            say(f"== cluster {self.name} was made from an older recipe; `down` and `up` renew it")
        return True

    def _arrange(self, found: list[Node]) -> None:
        if not all(node.pods and node.address for node in found):
            message = f"nodes of {self.name} have no address or no network for pods: the controller manager gives them"
            raise ClusterError(message)
        for node in found:
            self._on(node.name, arrange_script(node, [other for other in found if other is not node]))

    def _wait(self, seconds: int) -> None:
        limit = f"--timeout={seconds}s"
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", limit)
        for namespace in SYSTEM_NAMESPACES:
            self.kubectl(
                *("wait", "--for=condition=Available", "deployments", "--all", "--namespace", namespace, limit)
            )

    def _kind(self, *arguments: str | Path, timeout: float | None = None) -> str:
        return run(parts.kind(), *arguments, env=self.engine.env, timeout=timeout)

    def _create(self, settings: Path, image: str) -> None:
        command = ("create", "cluster", "--config", settings, "--image", image, "--retain")
        try:
            self._kind(*command, "--kubeconfig", self.kubeconfig, timeout=CREATE_SECONDS)
        except CommandError:
            journal = ("exec", self.nodes[0], "journalctl", "--no-pager", "--lines", "30")
            if self.engine.succeeds(*journal):
                say(f"the control plane's journal ends with:\n{self.engine.run(*journal)}")
            raise

    def _remove(self) -> None:
        """Remove what there may be, whatever state it is in."""
        try:
            self._kind("delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig)
        except CommandError as error:
            say(f"== kind could not remove everything, going on without it: {error}")
        label = f"label=io.x-k8s.kind.cluster={self.name}"
        for leftover in self.engine.run("ps", "--all", "--quiet", "--filter", label).split():
            self.engine.run("rm", "--force", "--volumes", leftover)
        self.kubeconfig.unlink(missing_ok=True)

    def _missing(self, wanted: list[loading.Wanted], nodes: Sequence[str]) -> dict[str, list[loading.Wanted]]:
        """Return the nodes, of those named or of all, that lack some of the images, each with those that it lacks."""
        if not wanted:
            return {}
        listed = {node: self._on(node, "ctr -n k8s.io images ls") for node in nodes or self.nodes}
        there = {node: loading.present(listing) for node, listing in listed.items()}
        absent = {node: [image for image in wanted if image not in present] for node, present in there.items()}
        return {node: lacking for node, lacking in absent.items() if lacking}

    def _import(self, archive: Path, wanted: list[loading.Wanted], targets: list[str]) -> None:
        with step(f"loading {', '.join(loading.short_name(image.name) for image in wanted)} into {len(targets)} nodes"):
            self._kind("load", "image-archive", archive, "--name", self.name, "--nodes", ",".join(targets))
            for node in targets:
                self._on(node, loading.mark_script(wanted))
