"""Looking at a candidate's accuracy bit by bit, so that what fails clearly costs little.

A part of the data can only condemn: to pass, a candidate must be run on all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from skerry.optimizer import accuracy, measure
from skerry.optimizer.child import Remote
from skerry.optimizer.trial import Baseline, Ground
from skerry.planning.gates import Comparison

_SHARES: Final = (8, 4, 2)
"""Accuracy is looked at first on an eighth of the samples, then on a quarter, then on half."""
_FEWEST: Final = 32


@dataclass(frozen=True)
class Look:
    """The accuracy on some of the data, said of the baseline's accuracy on all."""

    accuracy: Comparison
    samples: int


def looks(ground: Ground, baseline: Baseline, candidate: Remote[Any]) -> Iterator[Look]:
    """Yield the accuracy on more and more of the data, on all of it last; nothing without data."""
    return _language(ground, baseline, candidate) if ground.texts is not None else _samples(ground, baseline, candidate)


def of_all(found: Comparison, whole: float) -> Comparison:
    """Return a comparison on a part of the data as one with the baseline's figure on all."""
    shift = whole - found.baseline
    return Comparison(whole, found.value + shift, found.low + shift, found.high + shift)


def scaled(found: Comparison, whole: float) -> Comparison:
    """Return a comparison of perplexities, which differ by a ratio, as one with the baseline's figure on all."""
    factor = whole / found.baseline
    return Comparison(whole, found.value * factor, found.low * factor, found.high * factor)


def _samples(ground: Ground, baseline: Baseline, candidate: Remote[Any]) -> Iterator[Look]:
    """Run samples in a random order that is always the same."""
    evaluation, reference, whole = ground.evaluation, baseline.outputs, baseline.scored
    if ground.metric is None or evaluation is None or reference is None or whole is None:
        return
    total = len(evaluation)
    order = np.random.default_rng(measure.SEED).permutation(total)
    outputs, seen = [], 0
    for upto in (*(total // share for share in _SHARES if total // share >= _FEWEST), total):
        outputs.append(measure.outputs(candidate, evaluation.part(order[seen:upto])))
        seen = upto
        rows = order[:seen]
        mine, theirs = (
            ground.score(np.concatenate(outputs), reference, rows),
            ground.score(reference[rows], reference, rows),
        )
        if mine is None or theirs is None:
            return
        z = accuracy.Z95 if seen == total else accuracy.Z999
        yield Look(of_all(accuracy.compare(ground.metric, mine, theirs, z), whole.value), seen)


def _language(ground: Ground, baseline: Baseline, candidate: Remote[Any]) -> Iterator[Look]:
    """Score the text part by part."""
    if ground.texts is None or baseline.scored is None:
        return
    found = []
    parts = ground.texts.parts[: len(baseline.surprises)]
    for number, part in enumerate(parts, start=1):
        found.append(candidate.call("surprise", part))
        z = accuracy.Z95 if number == len(parts) else accuracy.Z999
        compared = accuracy.compare_perplexity(found, baseline.surprises[:number], z)
        yield Look(scaled(compared, baseline.scored.value), sum(len(each.nll) for each in found))
