"""What wakes the reconcilers: kopf's watches put keys into the queue."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import kopf

from skerry.api import labels
from skerry.api.meta import GROUP, VERSION
from skerry.controllers import watchdog
from skerry.controllers.interest import Interest, of_node, of_profile
from skerry.controllers.metrics import Metrics
from skerry.controllers.queue import WorkQueue
from skerry.controllers.settings import Settings
from skerry.kube.client import Client
from skerry.kube.errors import ApiError, ForbiddenError, InvalidError
from skerry.kube.gateway import Gateway
from skerry.kube.resources import EDGE_DEPLOYMENTS, EDGE_MODELS, NODE_PROFILES, NODES, OPTIMIZATION_JOBS
from skerry.planning import imagevolumes
from skerry.reconcile import deployments, models, nodes, optimizations, refusal
from skerry.reconcile.base import Context, Key

_LOG: Final = logging.getLogger(__name__)
_SERVICES: Final[Mapping[str, Callable[[Context, Key], Awaitable[float | None]]]] = {
    EDGE_MODELS.kind: models.reconcile,
    OPTIMIZATION_JOBS.kind: optimizations.reconcile,
    EDGE_DEPLOYMENTS.kind: deployments.reconcile,
    NODE_PROFILES.kind: nodes.reconcile,
}
_RESOURCES: Final = {
    resource.kind: resource for resource in (EDGE_MODELS, OPTIMIZATION_JOBS, EDGE_DEPLOYMENTS, NODE_PROFILES)
}
WATCHED: Final[Mapping[str, bool]] = {
    **{f"{resource.plural}.{VERSION}.{GROUP}": resource.namespaced for resource in _RESOURCES.values()},
    "jobs.v1.batch": True,
    "deployments.v1.apps": True,
    "daemonsets.v1.apps": True,
    "services.v1": True,
    "poddisruptionbudgets.v1.policy": True,
    "pods.v1": True,
    "nodes.v1": False,
}
"""What is watched, as kopf names it, and whether it has namespaces."""
_CHILDREN: Final = (
    ("batch", "v1", "jobs"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "daemonsets"),
    ("", "v1", "services"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("", "v1", "pods"),
)
_MANAGED: Final = {labels.APP_MANAGED_BY: "skerry"}


class Backoffs:
    """Pauses between tries of kopf's requests: growing, jittered, without end.

    With kopf's finite default a watcher dies for good when the API server is away for longer.
    """

    def __iter__(self) -> Iterator[float]:
        for pause in itertools.chain((0.5, 1.0, 2.0, 4.0, 8.0, 15.0), itertools.repeat(30.0)):
            yield pause * (0.5 + random.random())  # noqa: S311 - spreads load, hides nothing


class Operator:
    """The operator: its queue, its handlers, its watchdog."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._context: Context | None = None
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.queue = WorkQueue(self._reconcile, observe=metrics.observe)
        metrics.depth_of(lambda: len(self.queue))
        self._seen: dict[str, set[Key]] = {kind: set() for kind in _SERVICES}
        self._watchers = watchdog.expected(WATCHED, settings.watch)
        self._nodes = Interest(of_node)
        self._profiles = Interest(of_profile)

    async def _reconcile(self, key: Key) -> float | None:
        if self._context is None:
            message = "an object came before the operator was started"
            raise RuntimeError(message)
        try:
            return await _SERVICES[key.kind](self._context, key)
        except (InvalidError, ForbiddenError) as error:
            await refusal.tell(self._context, key, error)
            raise

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register all handlers."""
        kopf.on.login(registry=registry)(login)
        kopf.on.startup(registry=registry)(self._startup)
        kopf.on.cleanup(registry=registry)(self._cleanup)
        kopf.on.probe(id="watchers", registry=registry)(self._probe)
        for resource in _RESOURCES.values():
            kopf.on.event(GROUP, VERSION, resource.plural, registry=registry)(self._own)
        for group, version, plural in _CHILDREN:
            kopf.on.event(group, version, plural, labels=_MANAGED, registry=registry)(self._child)
        kopf.on.event("", "v1", "nodes", registry=registry)(self._node)

    async def _startup(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        self._client = await Client.connect()
        volumes = self._settings.installation.image_volumes
        supported = volumes == "Always" or (volumes == "Auto" and await self._supports_image_volumes(self._client))
        self._context = Context(
            self._client,
            self._settings.installation,
            self._settings.namespace,
            supported,
            catalogue=self._settings.catalogue,
        )
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.queue.work(), name=f"skerry worker {number}")
            for number in range(self._settings.workers)
        ]
        self._tasks.append(loop.create_task(self._resync(), name="skerry resync"))

    async def _supports_image_volumes(self, gateway: Gateway) -> bool:
        while True:
            try:
                if await gateway.server_version() < imagevolumes.SINCE:
                    return False
                return not any([imagevolumes.too_old(node) async for node in gateway.each(NODES)])
            except ApiError as error:
                _LOG.warning("the API server cannot say the versions of it and of the nodes yet: %s", error)
                await asyncio.sleep(5)

    def _have_images_fetched(self, node: str) -> None:
        """Have init containers fetch variants from now on: a node came that cannot mount images.

        Only the next start of the operator goes back to image volumes: each change makes all inference pods anew.
        """
        if self._context is None or not self._context.image_volumes:
            return
        _LOG.warning("node %s cannot mount images: variants are fetched by init containers from now on", node)
        self._context = replace(self._context, image_volumes=False)
        self._wake(EDGE_DEPLOYMENTS.kind)

    async def _cleanup(self, **_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _probe(self, **_: Any) -> int:
        """Fail the liveness probe when a watcher has died; a plain exception would only hang the probe's request."""
        lost = watchdog.missing(self._watchers, asyncio.all_tasks())
        self._metrics.watchers.labels("alive").set(len(self._watchers) - len(lost))
        self._metrics.watchers.labels("lost").set(len(lost))
        if lost:
            message = f"no watcher for {', '.join(lost)}"
            raise kopf.PermanentError(message)
        return len(self._watchers)

    async def _resync(self) -> None:
        """Look at every object now and then: what an event did not tell is found all the same."""
        while True:
            pause = self._settings.resync_seconds
            await asyncio.sleep(pause * (0.8 + 0.4 * random.random()))  # noqa: S311 - spreads load
            for kind in _SERVICES:
                self._wake(kind)

    def _wake(self, kind: str, namespace: str | None = None) -> None:
        for key in self._seen[kind]:
            if namespace is None or key.namespace == namespace:
                self.queue.add(key)

    async def _own(self, event: Any, body: Any, resource: Any, **_: Any) -> None:
        """One of our kinds changed: look at it, and at what follows from it."""
        kind = next(kind for kind, known in _RESOURCES.items() if known.plural == resource.plural)
        metadata = body["metadata"]
        key = Key(kind, metadata.get("namespace"), metadata["name"])
        deleted = event["type"] == "DELETED"
        (self._seen[kind].discard if deleted else self._seen[kind].add)(key)
        if kind == NODE_PROFILES.kind:
            if self._profiles.changed(event["object"], deleted=deleted):
                self._wake_all_for(key)
            return
        self.queue.add(key)
        if kind == EDGE_MODELS.kind:
            self._wake(EDGE_DEPLOYMENTS.kind, key.namespace)
        elif kind == OPTIMIZATION_JOBS.kind:
            model = metadata.get("labels", {}).get(labels.MODEL)
            if model:
                self.queue.add(Key(EDGE_MODELS.kind, key.namespace, model))

    async def _node(self, event: Any, **_: Any) -> None:
        """Look at everything that follows from a Node, when something of it changed that matters."""
        node, deleted = event["object"], event["type"] == "DELETED"
        name = node["metadata"]["name"]
        if self._settings.installation.image_volumes == "Auto" and not deleted and imagevolumes.too_old(node):
            self._have_images_fetched(name)
        if self._nodes.changed(node, deleted=deleted):
            self._wake_all_for(Key(NODE_PROFILES.kind, None, name))

    def _wake_all_for(self, profile: Key) -> None:
        """Look at what a node is and at all that is decided by what the nodes are."""
        self._forget_site()
        self.queue.add(profile)
        for dependent in (EDGE_MODELS, OPTIMIZATION_JOBS, EDGE_DEPLOYMENTS):
            self._wake(dependent.kind)

    def _forget_site(self) -> None:
        if self._context is not None:
            self._context.site.forget()

    async def _child(self, event: Any, body: Any, **_: Any) -> None:
        """Something that we made changed: look at what it was made for."""
        if event["type"] == "DELETED":
            self._forget_site()
        metadata = body["metadata"]
        found = metadata.get("labels", {})
        if name := found.get(labels.OPTIMIZATION_JOB):
            self.queue.add(Key(OPTIMIZATION_JOBS.kind, metadata.get("namespace"), name))
        if name := found.get(labels.DEPLOYMENT):
            self.queue.add(Key(EDGE_DEPLOYMENTS.kind, metadata.get("namespace"), name))


def login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """Return how kopf connects: by the pod's service account, else by the kubeconfig of the environment."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def configure(settings: kopf.OperatorSettings) -> None:
    """Set kopf up; every value is set on purpose."""
    settings.watching.server_timeout = 300  # watches end and begin anew, so that a stuck one does not stay
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.chunk_size = 200  # no spike of memory when a large cluster is listed
    for group, version, plural in _CHILDREN:
        watched = f"{plural}.{version}.{group}".rstrip(".")
        settings.watching.label_selectors[watched] = f"{labels.APP_MANAGED_BY}=skerry"
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Backoffs()
    settings.posting.enabled = False  # events are Skerry's own
    settings.scanning.disabled = True  # what we watch is known; CRDs come with the chart
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.process.ultimate_exiting_timeout = 60
