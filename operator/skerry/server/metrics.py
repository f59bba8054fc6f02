"""Metrics of one server, for Prometheus and for Skerry's operator."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from skerry.server.model import ServedModel

# Six buckets a decade from 0.1 ms to 30 s: a percentile read off them is at most a quarter off.
_DECADES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_STEPS: Final = (1.0, 1.5, 2.2, 3.3, 4.7, 6.8)
LATENCY_BUCKETS: Final = (*(round(decade * step, 7) for decade in _DECADES for step in _STEPS), 10.0, 15.0, 30.0)


class Metrics:
    """The server's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("skerry_server_requests", "Inference requests.", ["code"], registry=self.registry)
        self.latency = Histogram(
            "skerry_server_request_seconds",
            "Seconds from the last byte of a request to the answer.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.inference = Histogram(
            "skerry_server_inference_seconds",
            "Seconds that the model itself ran.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.queue = Histogram(
            "skerry_server_queue_seconds",
            "Seconds that a request waited for the model.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("skerry_server_in_flight", "Requests being answered now.", registry=self.registry)
        self._model = Gauge(
            "skerry_server_model_info",
            "The model that is served; always 1.",
            ["model", "variant", "framework", "precision", "accelerator", "device"],
            registry=self.registry,
        )

    def serves(self, model: ServedModel) -> None:
        """Say which model is served, and on which device."""
        facts = model.facts
        self._model.labels(
            model.name, facts.name, facts.framework, facts.precision, facts.accelerator, model.engine.device
        ).set(1)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
