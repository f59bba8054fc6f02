"""Reading what a SafeTensors file says of itself, and proving that its bytes are there. Nothing is loaded.

The form: eight bytes with the length of the header, a JSON object with a name, type, shape and place for each tensor,
then the bytes, without gaps (https://github.com/huggingface/safetensors, "Format").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from skerry.optimizer.errors import BadModelError

MAX_HEADER: Final = 100_000_000
_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_BITS: Final = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type, in the words of the format, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Raises:
        BadModelError: It is no such file, is cut off, or contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(MAX_HEADER, size - _LENGTH_BYTES):
            message = (
                f"{path.name} is no SafeTensors file, or is cut off: its header should have {length} bytes, and the "
                f"file has {size}"
            )
            raise BadModelError(message)
        text = stream.read(length)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{path.name}: its SafeTensors header is not valid JSON: {error}"
        raise BadModelError(message) from error
    if not isinstance(document, dict):
        message = f"{path.name}: its SafeTensors header is no JSON object"
        raise BadModelError(message)
    document.pop(_METADATA, None)
    return _tensors(path, document, size - _LENGTH_BYTES - length)


def _tensors(path: Path, document: Mapping[str, Any], available: int) -> dict[str, Tensor]:
    found = {}
    places = []
    for name, entry in document.items():
        tensor, place = _tensor(path, name, entry)
        found[name] = tensor
        places.append((*place, name))
    end = 0
    for start, stop, name in sorted(places):
        if start != end:
            message = f"{path.name}: the bytes of the tensor {name!r} begin at {start}, where {end} is due"
            raise BadModelError(message)
        end = stop
    if end != available:
        what = "is cut off" if end > available else "has bytes that belong to no tensor"
        message = f"{path.name} {what}: its tensors have {end} bytes, and the file has {available} after the header"
        raise BadModelError(message)
    if not found:
        message = f"{path.name} holds no tensors"
        raise BadModelError(message)
    return found


def _tensor(path: Path, name: str, entry: Any) -> tuple[Tensor, tuple[int, int]]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if dtype in _BITS:
            counts = all(type(size) is int and size >= 0 for size in shape)
            if counts and 0 <= start <= stop and (stop - start) * 8 == prod(shape) * _BITS[dtype]:
                return Tensor(dtype, tuple(shape)), (start, stop)
    message = f"{path.name}: the entry of the tensor {name!r} contradicts itself: {str(entry)[:200]}"
    raise BadModelError(message)


def parameters(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of elements of all tensors."""
    return sum(prod(tensor.shape) for tensor in tensors.values())
