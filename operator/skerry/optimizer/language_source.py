"""Language models as they come: Hugging Face folders, SafeTensors, GGUF. Nothing is loaded, no code of a model is run.

Only files that are data count as the model's: weights in SafeTensors, settings in JSON, tokenizers. Pickles and Python
sources that lie beside them are neither read nor passed on to any tool.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from skerry.api.types import ModelFormat
from skerry.optimizer.errors import BadModelError, UnsupportedFormatError
from skerry.optimizer.gguf_header import GgufFacts, read_gguf
from skerry.optimizer.safetensors_header import parameters, read_safetensors
from skerry.optimizer.wire import transported

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
TOKENIZERS: Final = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
"""Each of these is a whole tokenizer."""

QUANTIZED: Final = "Quantized"
"""What stands for the type of weights that have been quantized."""

_DATA_SUFFIXES: Final = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken"})
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_MAX_JSON: Final = 64 << 20
_SHARD: Final = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_CONTEXT_KEYS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx", "seq_length")
_SHOWN: Final = 12
_FLOATS: Final = {0: "F32", 1: "F16", 30: "BF16"}
_HOW_TO_CONVERT: Final = (
    "convert them where you trust them, with transformers: "
    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER, safe_serialization=True)"
)


@transported
@dataclass(frozen=True)
class LanguageFacts:
    """What a language model says of itself.

    Attributes:
        format: Its format.
        architecture: Its architecture, as the format names it: LlamaForCausalLM, or llama in GGUF.
        parameters: Number of parameters.
        context_tokens: Tokens that it can look at; 0 when it does not say.
        vocabulary: Number of its tokens.
        dtype: Type of most of its weights, such as F32 or BF16, or Quantized.
        files: Its files, by their name relative to its folder.
    """

    format: ModelFormat
    architecture: str
    parameters: int
    context_tokens: int
    vocabulary: int
    dtype: str
    files: Mapping[str, Path]


def read_language_model(path: Path) -> LanguageFacts:
    """Return what a file or folder says of itself.

    Raises:
        UnsupportedFormatError: It is no language model.
        BadModelError: It is damaged or lacks something; the message says what to do.
    """
    if path.is_dir():
        shards = sorted(path.glob("*.gguf"))
        return _gguf(shards[0]) if shards and not (path / CONFIG).exists() else _folder(path)
    if path.suffix == ".safetensors":
        read_safetensors(path)
        message = (
            f"{path.name} holds weights only: push the folder that it comes from, with {CONFIG} and the tokenizer's "
            "files beside it"
        )
        raise BadModelError(message)
    return _gguf(path)


def check_architecture(facts: LanguageFacts, tool: str, known: Collection[str]) -> None:
    """Refuse a model whose architecture a tool does not have.

    Raises:
        UnsupportedFormatError: With those that it has.
    """
    if facts.architecture in known:
        return
    near = get_close_matches(facts.architecture, sorted(known), _SHOWN, 0.0)
    message = (
        f"{tool} does not know the architecture {facts.architecture!r}; of the {len(known)} that it knows these have "
        f"the most similar names: {', '.join(near)}"
    )
    raise UnsupportedFormatError(message)


def read_json(path: Path, most_bytes: int = _MAX_JSON) -> dict[str, Any]:
    """Return a JSON object of a model's folder.

    Raises:
        BadModelError: It is none, or larger than any such file is.
    """
    if path.stat().st_size > most_bytes:
        message = f"{path.name} has {path.stat().st_size} bytes; at most {most_bytes} are read"
        raise BadModelError(message)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"{path.name} is not valid JSON, or is cut off: {error}"
        raise BadModelError(message) from error
    if not isinstance(document, dict):
        message = f"{path.name} is no JSON object"
        raise BadModelError(message)
    return document


def _folder(folder: Path) -> LanguageFacts:
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    weights = _weight_files(folder, names)
    if CONFIG not in names:
        message = f"the folder has weights, but no {CONFIG}: push the whole folder of the model"
        raise BadModelError(message)
    config = read_json(folder / CONFIG)
    inner = config.get("text_config")  # of models that see or hear as well
    text = inner if isinstance(inner, dict) else config
    if not any(all(name in names for name in files) for files in TOKENIZERS):
        message = (
            f"the folder has no tokenizer: it needs {', or '.join(' with '.join(files) for files in TOKENIZERS)}; "
            "AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) writes it"
        )
        raise BadModelError(message)
    tensors = {name: tensor for file in weights for name, tensor in read_safetensors(folder / file).items()}
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + parameters({"": tensor})
    kept = [name for name in names if Path(name).suffix in _DATA_SUFFIXES and not _other_weights(name, weights)]
    return LanguageFacts(
        format=ModelFormat.HUGGING_FACE,
        architecture=_architecture(config),
        parameters=parameters(tensors),
        context_tokens=next((int(text[key]) for key in _CONTEXT_KEYS if isinstance(text.get(key), int)), 0),
        vocabulary=_positive(text, "vocab_size"),
        dtype=max(sizes, key=lambda dtype: sizes[dtype]),
        files={name: folder / name for name in kept},
    )


def _other_weights(name: str, weights: Collection[str]) -> bool:
    return name.endswith(".safetensors") and name not in weights


def _weight_files(folder: Path, names: Collection[str]) -> list[str]:
    """Return the names of the files with the weights.

    Raises:
        BadModelError: There are none, or some are missing.
    """
    if INDEX in names:
        placed = read_json(folder / INDEX).get("weight_map")
        listed = sorted({str(name) for name in placed.values()}) if isinstance(placed, dict) else []
        missing = [name for name in listed if name not in names]
        if not listed or missing:
            message = f"{INDEX} lists {', '.join(missing[:_SHOWN]) or 'no files'}, which the folder does not have"
            raise BadModelError(message)
        return listed
    if WEIGHTS in names:
        return [WEIGHTS]
    pickles = [name for name in names if Path(name).suffix in _PICKLES]
    if pickles:
        message = (
            f"the folder has its weights as pickles only ({', '.join(pickles[:_SHOWN])}): these can hold any program "
            f"and are never loaded; {_HOW_TO_CONVERT}"
        )
        raise BadModelError(message)
    message = f"the folder has neither {WEIGHTS} nor {INDEX}, nor a .gguf file"
    raise BadModelError(message)


def _architecture(config: Mapping[str, Any]) -> str:
    match config.get("architectures"):
        case [str(first), *_]:
            return first
        case _:
            message = f'{CONFIG} names no architecture: it needs a line such as "architectures": ["LlamaForCausalLM"]'
            raise BadModelError(message)


def _positive(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        message = f"{CONFIG}: {key} is {value!r}; it must be a number above 0"
        raise BadModelError(message)
    return value


def _gguf(path: Path) -> LanguageFacts:
    shards = _shards(path)
    parts = [read_gguf(shard) for shard in shards]
    first = parts[0]
    architecture = first.text("general.architecture")
    if architecture is None:
        message = f"{path.name} does not say of which architecture it is (general.architecture)"
        raise BadModelError(message)
    vocabulary = first.number("tokenizer.ggml.tokens")
    if first.text("tokenizer.ggml.model") is None or not vocabulary:
        message = f"{path.name} has no tokenizer (tokenizer.ggml.model, tokenizer.ggml.tokens): convert the model anew"
        raise BadModelError(message)
    return LanguageFacts(
        format=ModelFormat.GGUF,
        architecture=architecture,
        parameters=sum(part.parameters for part in parts),
        context_tokens=first.number(f"{architecture}.context_length") or 0,
        vocabulary=vocabulary,
        dtype=_dtype(parts),
        files={shard.name: shard for shard in shards},
    )


def _shards(path: Path) -> list[Path]:
    """Return all files of a model that is split into several.

    Raises:
        BadModelError: Some are missing.
    """
    found = _SHARD.search(path.name)
    if found is None:
        return [path]
    stem, count = path.name[: found.start()], int(found[2])
    shards = [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        message = f"{path.name} is one of {count} files of a model; missing: {', '.join(missing[:_SHOWN])}"
        raise BadModelError(message)
    return shards


def _dtype(parts: Iterable[GgufFacts]) -> str:
    """Return F32, F16 or BF16 when all weights are such, else Quantized."""
    kinds = {kind for part in parts for kind in part.types} - {0}
    if len(kinds) > 1 or not kinds <= set(_FLOATS):
        return QUANTIZED
    return _FLOATS[next(iter(kinds), 0)]
