"""What matters of a CPU. Standard library only: the lean probe imports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FEATURES: Final = {
    # amd64, as /proc/cpuinfo calls them in `flags`
    "avx": "256-bit floating point",
    "avx2": "256-bit integers",
    "fma": "fused multiply-add",
    "f16c": "half precision conversion",
    "avx512f": "512-bit vectors",
    "avx512_vnni": "512-bit 8-bit dot products",
    "avx_vnni": "256-bit 8-bit dot products",
    "avx512_bf16": "512-bit bfloat16 dot products",
    "avx512_fp16": "512-bit half precision arithmetic",
    "amx_tile": "matrix tiles",
    "amx_int8": "8-bit matrix products",
    "amx_bf16": "bfloat16 matrix products",
    # arm64, as /proc/cpuinfo calls them in `Features`
    "asimd": "128-bit vectors",
    "asimdhp": "half precision vectors",
    "asimddp": "8-bit dot products",
    "i8mm": "8-bit matrix products",
    "bf16": "bfloat16 arithmetic",
    "sve": "scalable vectors",
    "sve2": "scalable vectors, second version",
    "sme": "matrix arithmetic",
}
"""The instruction set extensions that change how fast or in which precision models run."""

_MODEL_KEYS: Final = ("model name", "Model", "Hardware")


@dataclass(frozen=True)
class CpuFacts:
    """A CPU: its model name, the number of logical cores, and those of FEATURES that it has, sorted."""

    model: str
    cores: int
    features: tuple[str, ...]


def read(root: Path = Path("/")) -> CpuFacts:
    """Return what `proc/cpuinfo` below the root says; empty facts when there is none."""
    path = root / "proc/cpuinfo"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    fields: dict[str, str] = {}
    cores = 0
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            continue
        key = key.strip()
        cores += key == "processor"
        fields.setdefault(key, value.strip())
    words = set(fields.get("flags", fields.get("Features", "")).split())
    return CpuFacts(_model(fields), cores, tuple(sorted(words & FEATURES.keys())))


def _model(fields: dict[str, str]) -> str:
    """Return the model's name; many arm64 kernels tell only the numbers of implementer and part."""
    named = next((fields[key] for key in _MODEL_KEYS if fields.get(key)), "")
    if named or "CPU part" not in fields:
        return named
    return f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
