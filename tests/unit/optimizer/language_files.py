"""Files of language models, written byte by byte, whole or damaged."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10
F32, F16, Q8_0 = 0, 1, 8
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "max_position_embeddings": 256,
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def fact(name: str, kind: int, value: Any) -> bytes:
    start = text(name) + struct.pack("<I", kind)
    if kind == STRING:
        return start + text(value)
    if kind == ARRAY:
        return start + struct.pack("<IQ", STRING, len(value)) + b"".join(text(each) for each in value)
    return start + struct.pack("<I" if kind == UINT32 else "<Q", value)


FACTS = (
    fact("general.architecture", STRING, "llama"),
    fact("llama.context_length", UINT32, 256),
    fact("tokenizer.ggml.model", STRING, "gpt2"),
    fact("tokenizer.ggml.tokens", ARRAY, ["a", "b", "longer"]),
)


def gguf(
    path: Path,
    *,
    facts: Sequence[bytes] = FACTS,
    tensors: Sequence[tuple[str, tuple[int, ...], int, int]] = (("w", (32, 2), F32, 256),),
    version: int = 3,
    magic: bytes = b"GGUF",
) -> Path:
    """Write a GGUF file; each tensor has a name, a shape, a type, and bytes, which may be too few."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(facts)) + b"".join(facts)
    body = b""
    for name, shape, kind, size in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, len(body))
        body += bytes(-(-size // 32) * 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def safetensors(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    """Write a SafeTensors file with a header that may say anything."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + body)
    return path


def entry(dtype: str, shape: Sequence[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def folder(path: Path, config: Mapping[str, Any] = CONFIG) -> Path:
    """Write a Hugging Face folder as transformers does."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text("{}")
    arrays = {"embed": np.zeros((300, 8), np.float32), "norm": np.ones(8, np.float32)}
    save_file(arrays, path / "model.safetensors")
    return path
