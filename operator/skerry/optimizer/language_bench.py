"""What runs in the child process that measures a language model: generating, and scoring text."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from skerry.api.types import Metric
from skerry.optimizer.backends import language_runner
from skerry.optimizer.bench import Meter, Round, Start, Subject, resident_bytes
from skerry.optimizer.errors import BadDataError
from skerry.optimizer.language import Surprise
from skerry.optimizer.wire import transported

DEFAULT_PROMPTS: Final = ("The", "In the beginning", "1, 2, 3,")
"""Where there is no text: how fast a model goes on hardly depends on what it goes on from."""
WINDOW: Final = 256
GENERATED: Final = 24
_PROMPTS: Final = 8
_PROMPT_CHARACTERS: Final = 200
_FEWEST_CHARACTERS: Final = 6000
_MOST_BYTES: Final = 64 << 20
_SHARES: Final = (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
_FEWEST_IN_A_PART: Final = 4000
"""Characters; about 700 tokens, as a token of English has four to six."""
_LARGE: Final = 8
_FEWEST_IN_A_SMALL_PART: Final = 32_000
"""Characters of a part that is less than an eighth: those are for long text, not for many looks at a short one."""
WARMUP_RUNS: Final = 2


@transported
@dataclass(frozen=True)
class Texts:
    """Text on which language models are measured.

    Attributes:
        parts: The text, cut where an eighth, a quarter and half of it end; a long one in smaller parts before that,
            each as long as all before it.
        prompts: Beginnings of some passages, which models go on from.
    """

    parts: tuple[str, ...]
    prompts: tuple[str, ...]


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        BadDataError: It is no text, too long, or too short to say anything.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        message = f"{path.name} has {size} bytes; text to measure on may have {_MOST_BYTES} at the most"
        raise BadDataError(message)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"{path.name} is no text in UTF-8: {error.reason} at byte {error.start}"
        raise BadDataError(message) from error
    if len(text) < _FEWEST_CHARACTERS:
        message = (
            f"{path.name} has {len(text)} characters; at least {_FEWEST_CHARACTERS} are needed to say anything about a "
            "language model, better a hundred times as many"
        )
        raise BadDataError(message)
    if len(set(text)) == 1:
        message = f"{path.name} repeats one character; text that the model is meant for is needed"
        raise BadDataError(message)
    return text


def _fewest(share: int) -> int:
    return _FEWEST_IN_A_PART if share <= _LARGE else _FEWEST_IN_A_SMALL_PART


def texts(text: str) -> Texts:
    """Return a text in parts, and prompts out of it."""
    ends = [len(text) // share for share in _SHARES if len(text) // share >= _fewest(share)] or [len(text)]
    parts = tuple(text[begin:end] for begin, end in zip([0, *ends], ends, strict=False))
    step = len(text) // _PROMPTS
    prompts = (text[at : at + _PROMPT_CHARACTERS].strip() for at in range(0, step * _PROMPTS, step))
    return Texts(parts, tuple(prompt for prompt in prompts if prompt))


class LanguageBench:
    """One loaded language model.

    Args:
        subject: The model.
        prompts: Prompts to go on from, in turn.
    """

    def __init__(self, subject: Subject, prompts: Sequence[str]) -> None:
        runtime = language_runner(subject.framework)
        folder = subject.model.parent if subject.model.is_file() else subject.model
        before = resident_bytes(folder)
        started = time.perf_counter()
        self._session = runtime.load(subject.model, subject.settings, subject.threads, subject.device)
        self._prompts = list(prompts)
        self._session.generate(self._prompts[0], 1)
        seconds = time.perf_counter() - started
        self.run(WARMUP_RUNS)
        after = resident_bytes(folder) + sum(resident_bytes(folder, process) for process in self._session.pids)
        self._start = Start(seconds, max(after - before, 1))

    def start(self) -> Start:
        """Return what starting took."""
        return self._start

    def run(self, count: int) -> Round:
        """Go on from so many prompts, one after the other."""
        latencies = np.empty(count)
        series = {
            metric: np.empty(count)
            for metric in (Metric.TIME_TO_FIRST_TOKEN, Metric.PROMPT_THROUGHPUT, Metric.GENERATION_THROUGHPUT)
        }
        meter = Meter(self._session.pids)
        for index in range(count):
            started = time.perf_counter_ns()
            made = self._session.generate(self._prompts[index % len(self._prompts)], GENERATED)
            latencies[index] = (time.perf_counter_ns() - started) / 1e6
            series[Metric.TIME_TO_FIRST_TOKEN][index] = 1000.0 * made.prompt_seconds
            series[Metric.PROMPT_THROUGHPUT][index] = made.prompt_tokens / made.prompt_seconds
            series[Metric.GENERATION_THROUGHPUT][index] = made.generated / made.generate_seconds
        return meter.round(latencies, series)

    def surprise(self, text: str) -> Surprise:
        """Score a text."""
        return self._session.surprise(text, WINDOW)
