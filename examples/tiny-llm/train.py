"""Train a language model that is small enough to be made in three minutes, and write what the example needs.

    python examples/tiny-llm/train.py FOLDER

writes `model/`, a Hugging Face folder (Llama architecture, 3.7 million parameters, byte-level BPE of 1024 tokens),
`test.txt` (text that training never saw), `calibration.txt` (other such text, for quantization) and `figures.json`.

The text is the prose in scikit-learn's docstrings, 1.9 MB of technical English. It is there wherever this project is
developed, and it is the same everywhere, because the lock file pins that package by its hash: licences, manuals and
Python's own library differ from machine to machine. Its digest is in the figures.

The width is a multiple of 256, which llama.cpp's K-quants want of each row.
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SEED = 20261121
SOURCE = "sklearn"
VOCABULARY = 1024
WIDTH, INNER, LAYERS = 256, 768, 4
HEADS, KEY_HEADS, HEAD_WIDTH = 4, 2, 64
CONTEXT = 256
ROPE_THETA = 10000.0
EPSILON = 1e-5
BATCH = 8
STEPS = 500
PEAK_RATE = 4e-3
BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1
# One file in so many is held out for testing, another one for calibration.
HELD_OUT, TEST_REST, CALIBRATION_REST = 12, 4, 9
MIN_PARAGRAPH = 80
# Llama 3's pre-tokenizer: the runtimes know it by name and by its expression.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

Tokens = npt.NDArray[np.int32]
Weights = dict[str, jax.Array]


@dataclass(frozen=True)
class Text:
    """The text, parted by the files that it comes from."""

    train: str
    test: str
    calibration: str

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(f"{self.train}\0{self.test}\0{self.calibration}".encode()).hexdigest()


def _docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def read_text() -> Text:
    """Return the paragraphs of the docstrings, each once, without examples in code."""
    found = importlib.util.find_spec(SOURCE)
    if found is None or not found.submodule_search_locations:
        message = f"{SOURCE} is not installed: run `make install`"
        raise SystemExit(message)
    root = Path(found.submodule_search_locations[0])
    seen: set[str] = set()
    parts: dict[int, list[str]] = {}
    files = sorted(path for path in root.rglob("*.py") if "tests" not in path.parts)
    for index, file in enumerate(files):
        for docstring in _docstrings(file):
            for paragraph in map(str.strip, docstring.split("\n\n")):
                if len(paragraph) < MIN_PARAGRAPH or ">>>" in paragraph or paragraph in seen:
                    continue
                seen.add(paragraph)
                parts.setdefault(index % HELD_OUT, []).append(paragraph)
    test, calibration = parts.pop(TEST_REST), parts.pop(CALIBRATION_REST)
    train = [paragraph for _, part in sorted(parts.items()) for paragraph in part]
    return Text(*("\n\n".join(paragraphs) for paragraphs in (train, test, calibration)))


def make_tokenizer(text: str) -> Tokenizer:
    """Return a byte-level BPE tokenizer trained on the text, with Llama 3's rules."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split("\n\n"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> Tokens:
    """Return the tokens of a text, the mark of its beginning first."""
    return np.asarray(tokenizer.encode(text).ids, dtype=np.int32)


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights, as transformers has them: `[out, in]`."""
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm": (WIDTH,),
            "self_attn.q_proj": (HEADS * HEAD_WIDTH, WIDTH),
            "self_attn.k_proj": (KEY_HEADS * HEAD_WIDTH, WIDTH),
            "self_attn.v_proj": (KEY_HEADS * HEAD_WIDTH, WIDTH),
            "self_attn.o_proj": (WIDTH, HEADS * HEAD_WIDTH),
            "post_attention_layernorm": (WIDTH,),
            "mlp.gate_proj": (INNER, WIDTH),
            "mlp.up_proj": (INNER, WIDTH),
            "mlp.down_proj": (WIDTH, INNER),
        }.items():
            found[f"model.layers.{layer}.{name}.weight"] = shape
    return found


def initial(key: jax.Array) -> Weights:
    """Return ones for the norms and normal numbers for all else."""
    weights = {}
    for (name, shape), part in zip(shapes().items(), jax.random.split(key, len(shapes())), strict=True):
        scale = 0.02 if "embed" in name else shape[-1] ** -0.5
        weights[name] = jnp.ones(shape) if len(shape) == 1 else jax.random.normal(part, shape) * scale
    return weights


def _norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def _rotate(x: jax.Array) -> jax.Array:
    """Turn heads `[batch, time, heads, width]` by their positions, first half against second half."""
    half = HEAD_WIDTH // 2
    rates = ROPE_THETA ** (-jnp.arange(half) / half)
    angles = (jnp.arange(x.shape[1])[:, None] * rates)[None, :, None, :]
    first, second = x[..., :half], x[..., half:]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _attention(weights: Weights, prefix: str, x: jax.Array) -> jax.Array:
    batch, length, _ = x.shape

    def heads(name: str) -> jax.Array:
        return (x @ weights[f"{prefix}.{name}_proj.weight"].T).reshape(batch, length, -1, HEAD_WIDTH)

    mixed = jax.nn.dot_product_attention(_rotate(heads("q")), _rotate(heads("k")), heads("v"), is_causal=True)
    return mixed.reshape(batch, length, -1) @ weights[f"{prefix}.o_proj.weight"].T


def logits(weights: Weights, tokens: jax.Array) -> jax.Array:
    """Return the scores `[batch, time, vocabulary]` of what follows each of the tokens `[batch, time]`."""
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        x += _attention(weights, f"{prefix}.self_attn", _norm(x, weights[f"{prefix}.input_layernorm.weight"]))
        y = _norm(x, weights[f"{prefix}.post_attention_layernorm.weight"])
        gate = jax.nn.silu(y @ weights[f"{prefix}.mlp.gate_proj.weight"].T)
        x += (gate * (y @ weights[f"{prefix}.mlp.up_proj.weight"].T)) @ weights[f"{prefix}.mlp.down_proj.weight"].T
    return _norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


def losses(weights: Weights, tokens: jax.Array) -> jax.Array:
    """Return the natural logarithm that each token but the first costs, `[batch, time - 1]`."""
    return jnp.asarray(optax.softmax_cross_entropy_with_integer_labels(logits(weights, tokens)[:, :-1], tokens[:, 1:]))


def windows(tokens: Tokens) -> Tokens:
    """Return whole windows `[N, CONTEXT]` of a text, each with the mark of the beginning in its first place."""
    count = len(tokens) // CONTEXT
    found = tokens[: count * CONTEXT].reshape(count, CONTEXT).copy()
    found[:, 0] = BOS_ID
    return found


def train(tokens: Tokens) -> Weights:
    """Return the trained weights; says on stderr how it goes."""
    weights = initial(jax.random.key(SEED))
    schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK_RATE, STEPS // 10, STEPS, PEAK_RATE / 20)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.05))
    state = optimizer.init(weights)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights: Weights, state: Any, batch: jax.Array) -> tuple[Weights, Any, jax.Array]:
        value, gradients = jax.value_and_grad(lambda given: losses(given, batch).mean())(weights)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, value

    random = np.random.default_rng(SEED)
    for number in range(1, STEPS + 1):
        starts = random.integers(0, len(tokens) - CONTEXT, BATCH)
        batch = np.stack([tokens[start : start + CONTEXT] for start in starts])
        batch[:, 0] = BOS_ID
        weights, state, value = step(weights, state, jnp.asarray(batch))
        if number % (STEPS // 10) == 0:
            sys.stderr.write(f"step {number}/{STEPS}: loss {float(value):.3f}\n")
    return weights


def perplexity(weights: Weights, tokens: Tokens) -> float:
    """Return the perplexity as llama-perplexity counts it: of the second half of each window, given the first."""
    score = jax.jit(lambda batch: losses(weights, batch)[:, CONTEXT // 2 :].sum())
    found = windows(tokens)
    total = sum(float(score(found[start : start + 1])) for start in range(len(found)))
    return math.exp(total / (len(found) * (CONTEXT - CONTEXT // 2 - 1)))


def unigram_perplexity(train_tokens: Tokens, tokens: Tokens) -> float:
    """Return the perplexity of a model that knows only how frequent each token is."""
    counts = np.bincount(train_tokens, minlength=VOCABULARY) + 1.0
    scored = windows(tokens)[:, CONTEXT // 2 + 1 :]
    return float(np.exp(-np.log(counts / counts.sum())[scored].mean()))


def write_model(folder: Path, weights: Weights, tokenizer: Tokenizer) -> None:
    """Write a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is written for its owner only
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, document in _documents().items():
        _write_json(folder / name, document)


def _documents() -> dict[str, Mapping[str, Any]]:
    return {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "head_dim": HEAD_WIDTH,
            "hidden_act": "silu",
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": EPSILON,
            "rope_theta": ROPE_THETA,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "torch_dtype": "float32",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "add_bos_token": True,
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
        "generation_config.json": {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "do_sample": False},
    }


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, and write everything into the folder given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    started = time.monotonic()
    text = read_text()
    tokenizer = make_tokenizer(text.train)
    train_tokens, test_tokens = encode(tokenizer, text.train), encode(tokenizer, text.test)
    weights = train(train_tokens)
    figures = {
        "perplexity": perplexity(weights, test_tokens),
        "unigramPerplexity": unigram_perplexity(train_tokens, test_tokens),
        "window": CONTEXT,
        "testWindows": len(windows(test_tokens)),
        "parameters": sum(value.size for value in weights.values()),
        "trainTokens": len(train_tokens),
        "textSha256": text.digest,
    }
    write_model(folder / "model", weights, tokenizer)
    (folder / "test.txt").write_text(text.test, encoding="utf-8")
    (folder / "calibration.txt").write_text(text.calibration, encoding="utf-8")
    _write_json(folder / "figures.json", figures)
    sys.stderr.write(
        f"perplexity of the test text {figures['perplexity']:.2f}; of the unigram model "
        f"{figures['unigramPerplexity']:.2f}; wrote {folder} in {time.monotonic() - started:.0f} s\n"
    )


if __name__ == "__main__":
    main()
