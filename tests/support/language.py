"""A language model of random weights as a GGUF file, as small as llama.cpp takes, and text to measure it with.

The form is that of ggml's docs/gguf.md, version 3.
"""

import struct
from pathlib import Path
from typing import Any, Final

import numpy as np

WIDTH, INNER, HEADS, LAYERS, CONTEXT = 256, 256, 4, 1, 512
"""The width is a multiple of 256, which llama.cpp's K-quants want of each row."""
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_FORMATS: Final = {_U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?"}
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_ALIGNMENT: Final = 32
_BYTES = [f"<0x{number:02X}>" for number in range(256)]
TOKENS: Final = ["<unk>", "<s>", "</s>", *_BYTES, "▁"]
_KINDS: Final = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, _NORMAL]
CHAT: Final = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


def _text(word: str) -> bytes:
    data = word.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    return _text(value) if kind == _STRING else struct.pack(_FORMATS[kind], value)


def _entry(key: str, kind: int, value: Any) -> bytes:
    if not isinstance(value, list):
        return _text(key) + struct.pack("<I", kind) + _value(kind, value)
    head = _text(key) + struct.pack("<IIQ", _ARRAY, kind, len(value))
    return head + b"".join(_value(kind, each) for each in value)


def _entries() -> list[bytes]:
    found: dict[str, tuple[int, Any]] = {
        "general.architecture": (_STRING, "llama"),
        "general.name": (_STRING, "random"),
        "llama.block_count": (_U32, LAYERS),
        "llama.context_length": (_U32, CONTEXT),
        "llama.embedding_length": (_U32, WIDTH),
        "llama.feed_forward_length": (_U32, INNER),
        "llama.attention.head_count": (_U32, HEADS),
        "llama.attention.head_count_kv": (_U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (_F32, 1e-5),
        "llama.rope.dimension_count": (_U32, WIDTH // HEADS),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_STRING, TOKENS),
        "tokenizer.ggml.scores": (_F32, [0.0] * len(TOKENS)),
        "tokenizer.ggml.token_type": (_I32, _KINDS),
        "tokenizer.ggml.unknown_token_id": (_U32, 0),
        "tokenizer.ggml.bos_token_id": (_U32, 1),
        "tokenizer.ggml.eos_token_id": (_U32, 2),
        "tokenizer.ggml.add_bos_token": (_BOOL, True),
        "tokenizer.chat_template": (_STRING, CHAT),
    }
    return [_entry(key, kind, value) for key, (kind, value) in found.items()]


def _shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights, `[out, in]`."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    found["output.weight"] = (len(TOKENS), WIDTH)
    for layer in range(LAYERS):
        parts: dict[str, tuple[int, ...]] = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "ffn_down": (WIDTH, INNER)}
        parts |= dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
        parts |= dict.fromkeys(("ffn_gate", "ffn_up"), (INNER, WIDTH))
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return found


def write_gguf(path: Path, seed: int = 7) -> Path:
    """Write the model, in FP32."""
    random = np.random.default_rng(seed)
    entries, shapes = _entries(), _shapes()
    infos, blobs, offset = [], [], 0
    for name, shape in shapes.items():
        values = np.ones(shape) if len(shape) == 1 else random.normal(0.0, 0.05, shape)
        blob = values.astype("<f4").tobytes()
        infos.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, offset))
        blobs.append(blob + bytes(-len(blob) % _ALIGNMENT))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(entries)) + b"".join(entries + infos)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + b"".join(blobs))
    return path


def write_text(path: Path, seed: int = 7, words: int = 4000) -> Path:
    """Write words of letters that nobody can foresee."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    text = " ".join("".join(random.choice(letters, random.integers(1, 9))) for _ in range(words))
    path.write_text(text + "\n", encoding="utf-8")
    return path
