"""Text that language models are measured on: how it is cut, and how much of it can be afforded."""

from typing import Any

import numpy as np
import pytest

from skerry.optimizer import grounding
from skerry.optimizer.language import Surprise
from skerry.optimizer.language_bench import texts


@pytest.mark.parametrize(
    ("characters", "parts"),
    [
        (4500, [4500]),
        (40_000, [5000, 5000, 10_000, 20_000]),
        (80_000, [10_000, 10_000, 20_000, 40_000]),
        (1_024_000, [32_000, 32_000, 64_000, 128_000, 256_000, 512_000]),
    ],
)
def test_each_part_is_as_long_as_all_before_it_and_none_too_short(characters: int, parts: list[int]) -> None:
    assert [len(part) for part in texts("ab" * (characters // 2)).parts] == parts


class Scorer:
    """Stands for the process of a model; each text takes it as many seconds as it has characters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        monkeypatch.setattr("skerry.optimizer.grounding.time.monotonic", lambda: self._now)

    def call(self, method: str, text: str) -> Surprise:
        assert method == "surprise"
        self._now += len(text)
        return Surprise(np.ones(len(text)), 1)


def test_text_is_scored_as_far_as_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["a" * size for size in (100, 100, 200, 400, 800)]
    scorer: Any = Scorer(monkeypatch)
    monkeypatch.setattr(grounding, "TEXT_SECONDS", 800)
    assert [len(found.nll) for found in grounding.surprises(scorer, parts)] == [100, 100, 200, 400]
    monkeypatch.setattr(grounding, "TEXT_SECONDS", 10)
    assert [len(found.nll) for found in grounding.surprises(scorer, parts)] == [100]
