"""The operator's metrics, served for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from skerry.reconcile.base import Key


class Metrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "skerry_reconcile_seconds",
            "Seconds that a reconciliation took.",
            ["kind"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=self.registry,
        )
        self._outcomes = Counter(
            "skerry_reconcile", "Reconciliations, by outcome.", ["kind", "outcome"], registry=self.registry
        )
        self._depth = Gauge("skerry_queue_depth", "Objects that wait to be reconciled.", registry=self.registry)
        self.watchers = Gauge(
            "skerry_watchers", "Watchers of resources, by state: alive, lost.", ["state"], registry=self.registry
        )

    def observe(self, key: Key, seconds: float, outcome: str) -> None:
        """Count a reconciliation."""
        self._seconds.labels(key.kind).observe(seconds)
        self._outcomes.labels(key.kind, outcome).inc()

    def depth_of(self, depth: Callable[[], float]) -> None:
        """Read the queue's depth whenever metrics are asked for."""
        self._depth.set_function(depth)

    def serve(self, port: int) -> None:
        """Serve the metrics on a port, from a thread of its own."""
        start_http_server(port, registry=self.registry)
