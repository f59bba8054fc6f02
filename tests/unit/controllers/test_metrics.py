"""The operator's metrics, as Prometheus reads them."""

from prometheus_client import generate_latest

from skerry.controllers.metrics import Metrics


def test_watchers_are_counted_by_state() -> None:
    metrics = Metrics()
    metrics.watchers.labels("alive").set(4)
    metrics.watchers.labels("lost").set(1)
    text = generate_latest(metrics.registry).decode()
    assert 'skerry_watchers{state="alive"} 4.0' in text
    assert 'skerry_watchers{state="lost"} 1.0' in text
