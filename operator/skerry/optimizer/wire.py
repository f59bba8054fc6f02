"""What crosses the border between the search and the processes that touch untrusted models.

A process that a hostile model has taken over must not be able to run code in the search by what it answers. So nothing
is pickled: a message is JSON, in which values that JSON does not know are tagged, and the bytes of its arrays follow as
messages of their own. Only classes marked with `transported`, and those of the API, can be named.
"""

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from skerry.api import types as api
from skerry.api.meta import ApiModel

_MAX_HEADER: Final = 8 << 20
_MAX_ARRAYS: Final = 16 << 30
"""Most bytes of all arrays of one message; data files may have half as many."""
_KINDS: Final = frozenset("biufc")
_TAG: Final = "$"
_ENUMS: Final = {
    name: found
    for name, found in vars(api).items()
    if isinstance(found, type) and issubclass(found, StrEnum) and found is not StrEnum
}
_MODELS: Final = {
    name: found for name, found in vars(api).items() if isinstance(found, type) and issubclass(found, ApiModel)
}
_DATA: Final[dict[str, type]] = {}
T = TypeVar("T")


class Line(Protocol):
    """A connection that carries messages of bytes."""

    def send_bytes(self, buf: bytes | memoryview, /) -> None:
        """Send one."""
        ...

    def recv_bytes(self, maxlength: int | None = None, /) -> bytes:
        """Return the next one."""
        ...

    def recv_bytes_into(self, buf: memoryview, /) -> int:
        """Write the next one into a buffer and return its length."""
        ...

    def poll(self, timeout: float = 0.0, /) -> bool:
        """Tell whether there is one, or the end, within so many seconds."""
        ...


class WireError(Exception):
    """What came is no message of this form."""


def transported(kind: type[T]) -> type[T]:
    """Mark a dataclass as one that may cross."""
    _DATA[kind.__name__] = kind
    return kind


def send(line: Line, value: Any) -> None:
    """Send a value.

    Raises:
        TypeError: It has a part that cannot cross.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    header = json.dumps(_packed(value, arrays)).encode()
    line.send_bytes(header)
    for array in arrays:
        line.send_bytes(_bytes(array))


def receive(line: Line) -> Any:
    """Return the next value; arrays are new and may be written to.

    Raises:
        EOFError: The other side is gone.
        WireError: What came is no message.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    try:
        value = _unpacked(json.loads(line.recv_bytes(_MAX_HEADER)), arrays)
        for array in arrays:
            _fill(array, line)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise WireError(message) from error
    return value


def _fill(array: np.ndarray[Any, Any], line: Line) -> None:
    size = line.recv_bytes_into(_bytes(array))
    if size != array.nbytes:
        message = f"an array of {array.nbytes} bytes came with {size}"
        raise WireError(message)


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the bytes of a contiguous array, which are the array's own."""
    return array.reshape(-1).view(np.uint8).data


def _packed(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:  # noqa: C901, PLR0911 - one case a type
    """Return a value as JSON; arrays that have bytes are added to the list."""
    match value:
        case StrEnum():
            return {_TAG: "enum", "of": type(value).__name__, "is": str(value)}
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case Path():
            return {_TAG: "path", "is": str(value)}
        case list():
            return [_packed(each, arrays) for each in value]
        case tuple():
            return {_TAG: "tuple", "is": [_packed(each, arrays) for each in value]}
        case dict():
            return {_TAG: "map", "is": [[_packed(key, arrays), _packed(each, arrays)] for key, each in value.items()]}
        case np.ndarray():
            whole = np.ascontiguousarray(value)
            if whole.size:
                arrays.append(whole)
            return {_TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape)}
        case ApiModel() if type(value).__name__ in _MODELS:
            return {_TAG: "model", "of": type(value).__name__, "is": value.wire()}
        case _ if type(value).__name__ in _DATA:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            packed = {name: _packed(each, arrays) for name, each in fields.items()}
            return {_TAG: "data", "of": type(value).__name__, "is": packed}
        case _:
            message = f"{type(value).__name__} cannot cross to another process"
            raise TypeError(message)


def _unpacked(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:  # noqa: PLR0911 - one return a type
    """Return what JSON stands for; arrays whose bytes are still to come are added to the list."""
    if isinstance(value, list):
        return [_unpacked(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    match value[_TAG]:
        case "enum":
            return _ENUMS[value["of"]](value["is"])
        case "path":
            return Path(value["is"])
        case "tuple":
            return tuple(_unpacked(each, arrays) for each in value["is"])
        case "map":
            return {_unpacked(key, arrays): _unpacked(each, arrays) for key, each in value["is"]}
        case "array":
            return _array(value, arrays)
        case "model":
            return _MODELS[value["of"]].model_validate(value["is"])
        case "data":
            fields = {name: _unpacked(each, arrays) for name, each in value["is"].items()}
            return _DATA[value["of"]](**fields)
        case other:
            message = f"there is no {other!r}"
            raise WireError(message)


def _array(value: dict[str, Any], arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(value["dtype"])
    shape = [int(size) for size in value["shape"]]
    count = 1
    for size in shape:
        count *= size
    whole = count * dtype.itemsize + sum(array.nbytes for array in arrays)
    if dtype.kind not in _KINDS or min(shape, default=0) < 0 or whole > _MAX_ARRAYS:
        message = f"an array of {dtype} {shape} cannot cross"
        raise WireError(message)
    made = np.empty(shape, dtype)
    if made.size:
        arrays.append(made)
    return made
