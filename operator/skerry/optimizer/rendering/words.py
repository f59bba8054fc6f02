"""Numbers and texts as a person reads them."""

import math
import re
from typing import Final

from skerry.api.types import EvaluationMetric, Metric, Verdict

UNKNOWN: Final = "\N{EN DASH}"
SYMBOLS: Final = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
"""Beside a colour, so that nobody needs to see it."""
_LABELS: Final = {
    Metric.LATENCY_P50: "latency p50",
    Metric.LATENCY_P95: "latency p95",
    Metric.LATENCY_P99: "latency p99",
    Metric.MODEL_MEMORY: "memory",
    Metric.ARTIFACT_SIZE: "size",
    Metric.STARTUP_TIME: "startup",
}
_MIB: Final = 1 << 20
_LARGE: Final = 1e7
_SMALL: Final = 1e-4
_WHOLE: Final = 999.5
_MINUTE: Final = 60.0
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What a terminal or browser would act on instead of showing it: control characters, those that turn the direction of
# text, and halves of surrogate pairs, which no encoding can write.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def clean(text: str) -> str:
    """Return a text of somebody else with everything that is not to be seen replaced."""
    return _UNPRINTABLE.sub("\ufffd", text)


def spaced(word: str) -> str:
    """Return a CamelCase word as words: GraphOptimization becomes graph optimization."""
    return " ".join(part if part.isupper() else part.lower() for part in _CAMEL.split(word))


def label(metric: Metric, meaning: EvaluationMetric | None = None) -> str:
    """Return what a metric is called; that of accuracy depends on what it means for the model."""
    if metric is Metric.ACCURACY and meaning is not None:
        return spaced(meaning)
    return _LABELS.get(metric) or spaced(metric)


def number(value: float) -> str:
    """Return a figure with three significant digits, more where it is a large whole number."""
    if not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    if size >= _LARGE or 0 < size < _SMALL:
        return f"{value:.2e}"
    if size >= _WHOLE:
        return f"{value:,.0f}"
    text = f"{value:#.3g}" if size else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: float, unit: str) -> str:
    """Return a figure with its unit, which stay on one line."""
    return f"{number(value)}\N{NO-BREAK SPACE}{unit}" if unit else number(value)


def times(ratio: float) -> str:
    """Return a ratio with the sign of multiplication behind it."""
    return f"{number(ratio)}\N{MULTIPLICATION SIGN}"


def mebibytes(count: int) -> str:
    """Return a number of bytes."""
    return f"{number(count / _MIB)} MiB"


def duration(seconds: float) -> str:
    """Return a time as 12.3 s or 4 min 05 s."""
    if seconds < _MINUTE:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), round(_MINUTE))
    return f"{minutes:,} min {rest:02} s"


def shortened(text: str, limit: int) -> str:
    """Return a text of at most that many characters, with an ellipsis in place of its middle."""
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def listed(words: list[str]) -> str:
    """Return words as an enumeration: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
