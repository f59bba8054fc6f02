"""Reading what a GGUF file says of itself, and proving that its bytes are there. Nothing is loaded.

The form: magic, version, numbers of tensors and of facts, the facts, the tensors' names, shapes, types and places, then
the bytes from the next aligned place on (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from skerry.optimizer.errors import BadModelError

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_FACTS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 16
MAX_DIMENSIONS: Final = 4
MAX_KEY: Final = (1 << 16) - 1
MAX_STRING: Final = 1 << 24
_KEPT_TEXT: Final = 1 << 16
_ALIGNMENT: Final = "general.alignment"
_DEFAULT_ALIGNMENT: Final = 32
_STRING, _ARRAY = 8, 9
_LENGTH_BYTES: Final = 8
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_BLOCKS: Final = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 36),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
    42: (64, 18),
}
"""Elements and bytes of a block of each type, by ggml's number; the length of unknown types is not checked."""


@dataclass(frozen=True)
class Many:
    """An array among the facts, of which only the length is kept."""

    length: int


Fact = int | float | bool | str | Many


@dataclass(frozen=True)
class GgufFacts:
    """What a file says of itself.

    Attributes:
        version: Version of the format.
        facts: Its facts by name; long texts are cut, arrays have their length only.
        tensors: Shapes by name.
        types: The numbers of the tensors' types in ggml.
    """

    version: int
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    types: frozenset[int] = frozenset()

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(prod(shape) for shape in self.tensors.values())

    def text(self, name: str) -> str | None:
        """Return a fact that is text."""
        value = self.facts.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """Return a fact that is a whole number; of an array its length."""
        value = self.facts.get(name)
        if isinstance(value, Many):
            return value.length
        return value if isinstance(value, int) else None


class _Reader:
    """Reads the file from the front, never past its end."""

    def __init__(self, name: str, stream: BinaryIO, size: int) -> None:
        self._name = name
        self._stream = stream
        self._left = size

    def _refuse(self, why: str) -> NoReturn:
        message = f"{self._name} is no GGUF file, or is damaged: {why}"
        raise BadModelError(message)

    def _require(self, count: int, what: str) -> None:
        if count > self._left:
            message = f"{self._name} is cut off: {what} takes {count} bytes, and {self._left} are left"
            raise BadModelError(message)

    def _take(self, count: int, what: str) -> None:
        self._require(count, what)
        self._left -= count

    def bytes(self, count: int, what: str) -> bytes:
        self._take(count, what)
        return self._stream.read(count)

    def skip(self, count: int, what: str) -> None:
        self._take(count, what)
        self._stream.seek(count, SEEK_CUR)

    def scalar(self, kind: int, what: str) -> Any:
        code = f"<{_SCALARS[kind]}"
        return struct.unpack(code, self.bytes(struct.calcsize(code), what))[0]

    def count(self, most: int, what: str) -> int:
        found = int(self.scalar(10, what))
        if found > most:
            self._refuse(f"{what} is {found}, and may be {most} at the most")
        return found

    def string(self, most: int, what: str) -> str:
        return self.bytes(self.count(most, f"the length of {what}"), what).decode("utf-8", "replace")

    def value(self, key: str) -> Fact:
        kind = self.scalar(4, f"the type of {key}")
        if kind not in {*_SCALARS, _STRING, _ARRAY}:
            self._refuse(f"{key} is of the unknown type {kind}")
        if kind == _STRING:
            return self.string(MAX_STRING, key)[:_KEPT_TEXT]
        if kind == _ARRAY:
            return self._array(key)
        found: Fact = self.scalar(kind, key)
        return found

    def _array(self, key: str) -> Many:
        kind = self.scalar(4, f"the type of {key}")
        length = int(self.scalar(10, f"the length of {key}"))
        if kind not in {*_SCALARS, _STRING}:
            self._refuse(f"the array {key} has elements of type {kind}")
        if kind in _SCALARS:
            self.skip(length * struct.calcsize(f"<{_SCALARS[kind]}"), key)
            return Many(length)
        self._require(length * _LENGTH_BYTES, key)
        for _ in range(length):
            self.skip(self.count(MAX_STRING, f"the length of an element of {key}"), key)
        return Many(length)

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return self._left

    def collect(self, count: int, what: str, one: Callable[[], tuple[str, Any]]) -> dict[str, Any]:
        """Return so many named things."""
        found: dict[str, Any] = {}
        for _ in range(count):
            name, value = one()
            if name in found:
                self._refuse(f"{what} {name!r} is there twice")
            found[name] = value
        return found

    def fact(self) -> tuple[str, Fact]:
        key = self.string(MAX_KEY, "the name of a fact")
        return key, self.value(key)

    def tensor(self) -> tuple[str, tuple[tuple[int, ...], int, int]]:
        name = self.string(MAX_KEY, "the name of a tensor")
        dimensions = self.scalar(4, f"the shape of {name}")
        if dimensions > MAX_DIMENSIONS:
            self._refuse(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(int(self.scalar(10, f"the shape of {name}")) for _ in range(dimensions))
        return name, (shape, int(self.scalar(4, f"the type of {name}")), int(self.scalar(10, f"the place of {name}")))


def read_gguf(path: Path) -> GgufFacts:
    """Return what a file says of itself.

    Raises:
        BadModelError: It is no such file, is cut off, or contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        reader = _Reader(path.name, stream, size)
        version = _version(path, reader)
        tensor_count = reader.count(MAX_TENSORS, "the number of tensors")
        facts = reader.collect(reader.count(MAX_FACTS, "the number of facts"), "the fact", reader.fact)
        tensors = reader.collect(tensor_count, "the tensor", reader.tensor)
    _check_places(path, facts, tensors, size - reader.left, size)
    shapes = {name: shape for name, (shape, _, _) in tensors.items()}
    return GgufFacts(version, facts, shapes, frozenset(kind for _, kind, _ in tensors.values()))


def _version(path: Path, reader: _Reader) -> int:
    if reader.bytes(len(MAGIC), "the magic") != MAGIC:
        message = f"{path.name} is no GGUF file: it does not begin with GGUF"
        raise BadModelError(message)
    version = int(reader.scalar(4, "the version"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        why = "it is made for big-endian machines" if swapped in VERSIONS else f"its version is {version}"
        message = f"{path.name}: {why}; versions {VERSIONS[0]} and {VERSIONS[1]}, little-endian, can be read"
        raise BadModelError(message)
    return version


def _check_places(
    path: Path, facts: Mapping[str, Fact], tensors: Mapping[str, tuple[tuple[int, ...], int, int]], head: int, size: int
) -> None:
    """Refuse a file that does not hold what it lists.

    Raises:
        BadModelError: A tensor lies outside the file.
    """
    alignment = facts.get(_ALIGNMENT, _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        message = f"{path.name} is damaged: its alignment is {alignment}"
        raise BadModelError(message)
    start = -(-head // alignment) * alignment
    for name, (shape, kind, offset) in tensors.items():
        elements, width = _BLOCKS.get(kind, (1, 0))
        stop = start + offset + -(-prod(shape) // elements) * width
        if stop > size:
            message = f"{path.name} is cut off: the tensor {name!r} ends at byte {stop}, and the file has {size}"
            raise BadModelError(message)
