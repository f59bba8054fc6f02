"""Runs llama.cpp's own conversion script, and tells it of tokenizers that it does not know by heart.

    python -m skerry.optimizer.backends.gguf_convert FOLDER --outfile FILE --outtype f16

The script recognizes how a byte-level BPE tokenizer cuts text into words by the hash of an example's tokens, which
names the published vocabularies and no other: a model whose vocabulary somebody trained is refused, though it cuts text
as a known one does. For those the expression in `tokenizer.json` decides.
"""

import importlib
import json
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SCRIPT: Final = "convert_hf_to_gguf.py"
PACKAGE_FOLDERS: Final = ("/usr/share/llama.cpp/llama.cpp-tools",)
"""Where Debian puts the package of the script."""

_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA_3: Final = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_EXPRESSIONS: Final = {_LLAMA_3: "llama-bpe", _QWEN_2: "qwen2"}


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the steps in which text is cut."""
    if pre_tokenizer is None:
        return
    if pre_tokenizer.get("type") == "Sequence":
        for step in pre_tokenizer["pretokenizers"]:
            yield from _steps(step)
    else:
        yield pre_tokenizer


def pre_tokenizer_name(tokenizer: Mapping[str, Any]) -> str | None:
    """Return what llama.cpp calls the way in which a `tokenizer.json` cuts text into words; None when it has no name.

    The names and expressions are those of llama.cpp's vocabulary loader.
    """
    match list(_steps(tokenizer.get("pre_tokenizer"))):
        case [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return "gpt-2"
        case [{"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated"}, {"type": "ByteLevel"}]:
            return _EXPRESSIONS.get(expression)
        case _:
            return None


def _teach(folder: Path) -> None:
    """Let the script ask the tokenizer itself when it does not know the hash."""
    sys.path[1:1] = PACKAGE_FOLDERS
    base = importlib.import_module("conversion.base")
    known = base.TextModel.get_vocab_base_pre

    def name(model: Any, tokenizer: Any) -> str:
        try:
            return str(known(model, tokenizer))
        except NotImplementedError:
            found = pre_tokenizer_name(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
            if found is None:
                raise
            return found

    base.TextModel.get_vocab_base_pre = name


def main() -> None:
    """Convert, with the arguments of the script."""
    script = shutil.which(SCRIPT)
    if script is None:
        message = f"{SCRIPT} is not on the PATH"
        raise SystemExit(message)
    _teach(Path(sys.argv[1]))
    sys.argv[0] = script
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
