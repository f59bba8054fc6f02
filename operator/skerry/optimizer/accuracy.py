"""Accuracy: what a candidate's outputs are worth, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.api.types import EvaluationMetric
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.language import Surprise
from skerry.planning.gates import PERCENT, Comparison

Z95: Final = 1.96
Z999: Final = 3.29
"""For looks at a part of the samples: several of them must not condemn by chance what one would let pass."""
RESAMPLES: Final = 400
SEED: Final = 7
_IN_PERCENT: Final = frozenset({EvaluationMetric.ACCURACY, EvaluationMetric.F1, EvaluationMetric.AGREEMENT})

Outputs = npt.NDArray[Any]
"""First output of every sample, `[N, …]`."""
Scores = npt.NDArray[np.float64]
"""What each sample is worth, `[N]`; the metric is their mean (but for F1)."""


@dataclass(frozen=True)
class Scored:
    """The worth of each sample, and the metric of all of them."""

    scores: Scores
    value: float


def score(metric: EvaluationMetric, outputs: Outputs, labels: Outputs | None, baseline: Outputs) -> Scored:
    """Return the metric of a candidate's outputs.

    Args:
        metric: What accuracy means.
        outputs: The candidate's first output for each sample.
        labels: Class ids `[N]`, or targets shaped like the output.
        baseline: The unoptimized model's outputs, for Agreement.

    Raises:
        BadModelError: The outputs cannot be judged: they have no numbers, or another shape.
    """
    _check(outputs, baseline)
    if metric is EvaluationMetric.AGREEMENT:
        alike = classes(outputs) == classes(baseline) if _classifies(baseline) else cosine(outputs, baseline)
        agreement = _finite(np.asarray(alike, dtype=np.float64))
        return Scored(agreement.scores, PERCENT * agreement.value)
    if labels is None:
        message = f"{metric} needs labels"
        raise ValueError(message)
    if metric is EvaluationMetric.MEAN_ABSOLUTE_ERROR:
        return _finite(np.abs(_rows(outputs) - _rows(labels)).mean(axis=1))
    if metric is EvaluationMetric.COSINE_SIMILARITY:
        return _finite(cosine(outputs, labels))
    found = classes(outputs)
    scores = (found == labels).astype(np.float64)
    if metric is EvaluationMetric.F1:
        return Scored(scores, PERCENT * macro_f1(found, labels))
    return Scored(scores, PERCENT * float(scores.mean()))


def _check(outputs: Outputs, baseline: Outputs) -> None:
    if outputs.shape != baseline.shape:
        message = f"the outputs have the shape {outputs.shape[1:]}, but the unoptimized model's {baseline.shape[1:]}"
        raise BadModelError(message)
    if np.issubdtype(outputs.dtype, np.floating) and np.isnan(outputs).any():
        rows = int(np.isnan(_rows(outputs)).any(axis=1).sum())
        message = f"the output is not a number (NaN) for {rows} of {len(outputs)} samples of the evaluation data"
        raise BadModelError(message)


def _finite(scores: Scores) -> Scored:
    if not np.isfinite(scores).all():
        rows = int((~np.isfinite(scores)).sum())
        message = f"the output is infinite for {rows} of {len(scores)} samples of the evaluation data"
        raise BadModelError(message)
    return Scored(scores, float(scores.mean()))


def macro_f1(found: Outputs, labels: Outputs) -> float:
    """Return the mean over the classes in the labels of each class's F1 score, 0..1."""
    total = 0.0
    classes = np.unique(labels)
    for label in classes:
        right = float(np.sum((found == label) & (labels == label)))
        total += 2 * right / max(float(np.sum(found == label) + np.sum(labels == label)), 1.0)
    return total / len(classes)


def compare(metric: EvaluationMetric, candidate: Scored, baseline: Scored, z: float = Z95) -> Comparison:
    """Return a candidate's accuracy with its interval (95 % by default), given the baseline on the same samples.

    For right-or-wrong scores the interval comes from the samples on which the two differ (as in McNemar's test, with
    one sample added so that no difference is not taken for certainty); for others from resampling the paired
    differences.
    """
    count = len(candidate.scores)
    differences = candidate.scores - baseline.scores
    scale = PERCENT if metric in _IN_PERCENT else 1.0
    if set(np.unique(candidate.scores)) | set(np.unique(baseline.scores)) <= {0.0, 1.0}:
        half = scale * z * float(np.sqrt(np.sum(differences != 0) + 1)) / count
        low, high = candidate.value - half, candidate.value + half
    else:
        random = np.random.default_rng(SEED)
        means = [float(differences[random.integers(0, count, count)].mean()) for _ in range(RESAMPLES)]
        middle, stretch = float(differences.mean()), z / Z95
        ends = (middle + stretch * (float(np.quantile(means, end)) - middle) for end in (0.025, 0.975))
        low, high = (baseline.value + scale * end for end in ends)
    if metric in _IN_PERCENT:
        low, high = max(low, 0.0), min(high, PERCENT)
    return Comparison(baseline.value, candidate.value, min(low, candidate.value), max(high, candidate.value))


def compare_perplexity(candidate: Sequence[Surprise], baseline: Sequence[Surprise], z: float = Z95) -> Comparison:
    """Return a candidate's perplexity with its interval (95 % by default), given the baseline's on the same text.

    The interval comes from resampling the windows: what a candidate costs more or less than the baseline in each.

    Raises:
        BadModelError: The candidate cuts the text into other windows, or foresees nothing at all.
    """
    mine = np.concatenate([part.nll / part.tokens for part in candidate])
    theirs = np.concatenate([part.nll / part.tokens for part in baseline])
    if len(mine) != len(theirs):
        message = (
            f"its tokenizer cuts the text into {len(mine)} windows, but the unoptimized model's into {len(theirs)}"
        )
        raise BadModelError(message)
    if not np.isfinite(mine).all():
        message = "the perplexity is not a number"
        raise BadModelError(message)
    differences = mine - theirs
    random = np.random.default_rng(SEED)
    means = differences[random.integers(0, len(mine), (RESAMPLES, len(mine)))].mean(axis=1)
    middle, whole = float(differences.mean()), float(np.exp(theirs.mean()))
    low, high = (middle + z / Z95 * (float(np.quantile(means, end)) - middle) for end in (0.025, 0.975))
    value = whole * float(np.exp(middle))
    return Comparison(whole, value, min(whole * float(np.exp(low)), value), max(whole * float(np.exp(high)), value))


def _classifies(outputs: Outputs) -> bool:
    return outputs.ndim == 2 and outputs.shape[1] > 1  # noqa: PLR2004 - [N, classes]


def classes(outputs: Outputs) -> Outputs:
    """Return the class of each sample, `[N]`: the best score of `[N, classes]`, or the output `[N]` itself."""
    return np.asarray(_rows(outputs).argmax(axis=1)) if outputs.ndim > 1 else outputs


def _rows(array: Outputs) -> npt.NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64).reshape(len(array), -1)


def cosine(one: Outputs, other: Outputs) -> Scores:
    """Return the cosine of the angle between each two rows, `[N]`."""
    a, b = _rows(one), _rows(other)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)  # two outputs of nothing but zeros have no angle, but do agree
    return np.where(same, 1.0, (a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny))
