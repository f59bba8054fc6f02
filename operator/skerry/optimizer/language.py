"""What the harness asks of a language model that is loaded, whatever the runtime.

Perplexity is counted as llama-perplexity does, so that runtimes can be compared: the text is cut into windows of so
many tokens; in each window the tokens of the second half are scored, given all before them in the window. Where the
model wants a mark of the beginning, it takes the place of each window's first token.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from skerry.optimizer.errors import BadDataError
from skerry.optimizer.wire import transported

Tokens = npt.NDArray[np.int64]
MIN_WINDOWS = 2


@transported
@dataclass(frozen=True)
class Generation:
    """What generating some text took.

    Attributes:
        prompt_tokens: Tokens of the prompt, the mark of the beginning included.
        prompt_seconds: Seconds until the first new token was there.
        generated: Tokens after the first one.
        generate_seconds: Seconds that these took.
        text: All new text.
    """

    prompt_tokens: int
    prompt_seconds: float
    generated: int
    generate_seconds: float
    text: str


@transported
@dataclass(frozen=True)
class Surprise:
    """How badly a text was foreseen.

    Attributes:
        nll: Negative natural-log likelihood of the scored tokens of each window, `[windows]`.
        tokens: Scored tokens in each window.
    """

    nll: npt.NDArray[np.float64]
    tokens: int

    @property
    def perplexity(self) -> float:
        """Perplexity over all windows."""
        return float(np.exp(self.nll.sum() / (self.tokens * len(self.nll))))


class LanguageSession(Protocol):
    """A loaded language model."""

    @property
    def pids(self) -> list[int]:
        """Processes beside this one that hold the model: their memory counts as well."""
        ...

    def generate(self, prompt: str, tokens: int) -> Generation:
        """Write so many tokens greedily, past any mark of the end.

        Raises:
            BadDataError: Prompt and tokens do not fit into the model's context.
        """
        ...

    def surprise(self, text: str, window: int) -> Surprise:
        """Score a text in windows of so many tokens.

        Raises:
            BadDataError: The text has fewer than two windows.
        """
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def scored_tokens(window: int) -> int:
    """Return how many tokens of each window are scored."""
    return window - window // 2 - 1


def cut(tokens: Tokens, window: int, beginning: int | None) -> Tokens:
    """Return the whole windows `[N, window]` of a text's tokens.

    Args:
        tokens: The tokens, the mark of the beginning first where the model wants one.
        window: Tokens of each window.
        beginning: That mark; None where the model wants none.

    Raises:
        BadDataError: There are fewer than two.
    """
    count = len(tokens) // window
    require_windows(count, len(tokens), window)
    found = tokens[: count * window].reshape(count, window).copy()
    if beginning is not None:
        found[:, 0] = beginning
    return found


def require_windows(count: int, tokens: int, window: int) -> None:
    """Refuse text that is too short to say anything.

    Raises:
        BadDataError: There are fewer than two windows.
    """
    if count < MIN_WINDOWS:
        message = (
            f"the text for the perplexity has {tokens} tokens; it must have at least {MIN_WINDOWS * window}, better "
            "twenty times as many"
        )
        raise BadDataError(message)


def cost(logits: npt.NDArray[Any], tokens: Tokens) -> float:
    """Return the negative log likelihood of a window's second half.

    Args:
        logits: Scores of what follows each token, `[window, vocabulary]`.
        tokens: The window's tokens, `[window]`.
    """
    first = len(tokens) // 2
    scores = logits[first:-1].astype(np.float64)
    following = tokens[first + 1 :]
    most = scores.max(axis=-1)
    total = most + np.log(np.exp(scores - most[:, None]).sum(axis=-1))
    return float((total - scores[np.arange(len(following)), following]).sum())
