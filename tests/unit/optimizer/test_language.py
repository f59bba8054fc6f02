"""What language models are measured by, and how the outputs of llama.cpp's programs are read."""

from pathlib import Path

import numpy as np
import pytest

from skerry.optimizer import programs
from skerry.optimizer.backends.gguf_convert import pre_tokenizer_name
from skerry.optimizer.backends.llama_server import CONTEXT, context_tokens, running_perplexities, window_costs
from skerry.optimizer.errors import BadDataError, OptimizationError, OutOfMemoryError
from skerry.optimizer.language import Surprise, cost, cut, scored_tokens
from skerry.optimizer.programs import ProgramError, run
from tests.unit.optimizer import language_files as files

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def test_windows_begin_with_the_mark_and_leave_the_rest() -> None:
    tokens = np.arange(10, 21)
    assert cut(tokens, 4, 1).tolist() == [[1, 11, 12, 13], [1, 15, 16, 17]]
    assert cut(tokens, 4, None).tolist() == [[10, 11, 12, 13], [14, 15, 16, 17]]
    assert tokens[0] == 10


def test_too_little_text_is_refused_with_what_is_needed() -> None:
    with pytest.raises(BadDataError, match="has 11 tokens; it must have at least 12"):
        cut(np.arange(11), 6, None)


def test_the_second_half_of_a_window_is_scored() -> None:
    tokens = np.array([0, 1, 2, 3, 1, 2])
    logits = np.zeros((6, 4))
    assert scored_tokens(6) == 2
    assert cost(logits, tokens) == pytest.approx(2 * np.log(4))
    logits[3, 1] = 1000.0  # sure of the fifth token, and right: it costs nothing; large numbers do no harm
    assert cost(logits, tokens) == pytest.approx(np.log(4))
    logits[:3] = np.nan  # of the first half nothing counts
    logits[5] = np.nan  # and there is nothing after the last token
    assert cost(logits, tokens) == pytest.approx(np.log(4))


def test_perplexity_is_of_all_windows_together() -> None:
    assert Surprise(np.array([2 * np.log(8), 2 * np.log(2)]), 2).perplexity == pytest.approx(4)


def test_running_perplexities_become_the_cost_of_each_window() -> None:
    output = "0.15 minutes\n[1]8.0000,[2]4.0000,[3]4.0000,\nnoise [4] \n0.03.8 I Final estimate: PPL = 4\n"
    found = window_costs(running_perplexities(output), 256, 3)
    assert found.tokens == 127
    assert found.nll == pytest.approx([127 * np.log(8), 127 * np.log(2), 127 * np.log(4)])
    assert found.perplexity == pytest.approx(4.0)
    assert np.isnan(window_costs(running_perplexities("[1]nan,[2]nan,"), 8, 2).nll).all()


@pytest.mark.parametrize("output", ["", "error", "[1]8.0,[3]7.0,", "[2]7.0,", "[1]7.0,"])
def test_windows_that_are_missing_are_noticed(output: str) -> None:
    with pytest.raises(OptimizationError, match=r"told the perplexities of \d windows; there are 2"):
        window_costs(running_perplexities(output), 256, 2)


def test_the_context_is_as_the_model_is_made_unless_it_is_said(tmp_path: Path) -> None:
    small = files.gguf(tmp_path / "small.gguf")
    assert context_tokens(small, {}) == 256
    assert context_tokens(small, {CONTEXT: "64"}) == 64
    large = [files.FACTS[0], files.fact("llama.context_length", files.UINT32, 131072)]
    assert context_tokens(files.gguf(tmp_path / "large.gguf", facts=large), {}) == 4096


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        ({"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}, "gpt-2"),
        ({"type": "ByteLevel", "use_regex": True, "add_prefix_space": True}, None),
        ({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated"}, None),
        ({"type": "Whitespace"}, None),
        (None, None),
    ],
)
def test_tokenizers_are_known_by_how_they_cut_text(pre_tokenizer: dict[str, object] | None, name: str | None) -> None:
    assert pre_tokenizer_name({"pre_tokenizer": pre_tokenizer}) == name


@pytest.mark.parametrize(
    ("expression", "name"), [(LLAMA_3, "llama-bpe"), (LLAMA_3.replace("{1,3}", ""), "qwen2"), (r"\s+", None)]
)
def test_a_split_and_a_byte_level_are_known_by_the_expression(expression: str, name: str | None) -> None:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
    steps = [split, {"type": "ByteLevel", "use_regex": False}]
    assert pre_tokenizer_name({"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}) == name


def test_a_program_tells_what_it_wrote_stdout_first() -> None:
    assert run("a test", "sh", "-c", "echo two >&2; echo one; echo $EXTRA", environment={"EXTRA": "three"}) == (
        "one\nthree\n\ntwo\n"
    )


def test_a_program_that_fails_tells_how() -> None:
    with pytest.raises(ProgramError, match=r"a test: sh ended with 3: one \| two") as failed:
        run("a test", "sh", "-c", "echo one; echo two >&2; exit 3")
    assert failed.value.output == "one\n\ntwo\n"
    with pytest.raises(OutOfMemoryError, match="a test: the process was killed"):
        run("a test", "sh", "-c", "kill -9 $$")
    with pytest.raises(ProgramError, match="a test: no-such-program is not here"):
        run("a test", "no-such-program")


def test_only_the_end_of_what_a_program_wrote_is_told() -> None:
    told = programs.tail("\n".join(f"line {number}" for number in range(100)))
    assert told.startswith("line 88 |")
    assert told.endswith("line 99")
