"""Metrics of one server, for Prometheus and for Skerry's operator."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from skerry.server.facts import Served

_LANGUAGE_COUNTERS: Final = {
    "prompt_tokens": ("prompt_tokens_total", "Tokens of prompts that were computed, without those from the cache."),
    "prompt_seconds": ("prompt_seconds_total", "Seconds that prompts were computed."),
    "generated_tokens": ("tokens_predicted_total", "Tokens of answers."),
    "generation_seconds": ("tokens_predicted_seconds_total", "Seconds that answers were written."),
}
"""Names of ours, and the names that llama-server has."""
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

    def serves(self, served: Served) -> None:
        """Say which model is served, and on which device."""
        facts = served.facts
        self._model.labels(
            served.name, facts.name, facts.framework, facts.precision, facts.accelerator, served.device
        ).set(1)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class LanguageMetrics(Collector):
    """What language models have beside it.

    Args:
        registry: Where they go.
        pid: Returns the process that holds the model.
    """

    def __init__(self, registry: CollectorRegistry, pid: Callable[[], int]) -> None:
        ProcessCollector(namespace="skerry_engine", pid=pid, registry=registry)
        self.first_token = Histogram(
            "skerry_server_first_token_seconds",
            "Seconds from the last byte of a request to the first token of an answer that is streamed.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._counted: dict[str, float] = {}
        registry.register(self)

    def take(self, figures: Mapping[str, float]) -> None:
        """Take over llama-server's counters; those that are not there stay as they were."""
        self._counted |= figures

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters: tokens divided by seconds are tokens per second, over any span of time."""
        for name, (source, text) in _LANGUAGE_COUNTERS.items():
            yield CounterMetricFamily(f"skerry_server_{name}", text, value=self._counted.get(source, 0.0))
