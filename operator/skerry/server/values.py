"""Tensors from what a client sent: lists of JSON values, or bytes.

NumPy would look for the one type that holds all values of a list, and would make a table of strings as wide as the
longest one: a small request could fill the memory. Here the wanted type is given, and nothing else is made.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from skerry.api.types import TensorType
from skerry.server.engines.base import Array
from skerry.server.errors import RequestError, shown

DTYPES: Final[Mapping[TensorType, Any]] = {
    TensorType.BOOL: np.dtype(np.bool_),
    TensorType.UINT8: np.dtype(np.uint8),
    TensorType.UINT16: np.dtype(np.uint16),
    TensorType.UINT32: np.dtype(np.uint32),
    TensorType.UINT64: np.dtype(np.uint64),
    TensorType.INT8: np.dtype(np.int8),
    TensorType.INT16: np.dtype(np.int16),
    TensorType.INT32: np.dtype(np.int32),
    TensorType.INT64: np.dtype(np.int64),
    TensorType.FP16: np.dtype(np.float16),
    TensorType.FP32: np.dtype(np.float32),
    TensorType.FP64: np.dtype(np.float64),
}
NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def from_json(name: str, dtype: TensorType, shape: Sequence[int], data: Any) -> Array:
    """Return an input from its JSON values, flat in row-major order or nested as its shape says.

    Raises:
        RequestError: Values of other types, too many or too few of them, or out of range.
    """
    flat = _flat(name, shape, data)
    if dtype is TensorType.BOOL:
        if set(map(type, flat)) != {bool}:
            raise RequestError(400, f"input {name!r}: 'data' must hold true and false only")
        return np.fromiter(flat, np.bool_, len(flat)).reshape(shape)
    wrong = RequestError(400, f"input {name!r}: 'data' must hold {dtype} numbers only")
    try:
        made = _numbers(dtype, flat)
    except TypeError as error:
        raise wrong from error
    except OverflowError as error:
        raise RequestError(400, f"input {name!r}: 'data' has values that are out of the range of {dtype}") from error
    # Python takes true and false for 1 and 0: only where there are such values is it worth to look at the types.
    if ((made == 0) | (made == 1)).any() and bool in set(map(type, flat)):
        raise wrong
    return made.reshape(shape)


def _numbers(dtype: TensorType, flat: list[Any]) -> Array:
    wanted = DTYPES[dtype]
    if wanted.kind != "f":
        return np.frombuffer(array(wanted.char, flat), wanted)
    code = "d" if dtype is TensorType.FP64 else "f"
    made: Array = np.frombuffer(array(code, flat), code)
    if dtype is TensorType.FP16:
        with np.errstate(over="ignore"):
            made = made.astype(np.float16)
    # JSON has no infinity: one here is a number that does not fit.
    if not np.isfinite(made).all():
        raise OverflowError
    return made


def _flat(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    """Return nested lists as one list, having checked that they are nested as the shape says."""
    if type(data) is not list:
        raise RequestError(400, f"input {name!r}: 'data' must be a list")
    axis = 0
    while data and type(data[0]) is list:
        axis += 1
        try:
            lengths = set(map(len, data))
        except TypeError:
            lengths = set()
        if axis >= len(shape) or lengths != {shape[axis]}:
            raise RequestError(400, f"input {name!r}: 'data' is not a tensor of the shape {shown(shape)}")
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise RequestError(
            400, f"input {name!r}: 'data' has {len(data)} elements, but the shape {shown(shape)} has {math.prod(shape)}"
        )
    flat: list[Any] = data
    return flat


def from_bytes(name: str, dtype: TensorType, shape: Sequence[int], data: memoryview, size: int) -> Array:
    """Return an input from the first `size` bytes of `data`, without a copy where they are aligned.

    Raises:
        RequestError: Size and shape contradict each other, or there are fewer bytes.
    """
    wanted = math.prod(shape) * DTYPES[dtype].itemsize
    if size != wanted:
        raise RequestError(400, f"input {name!r}: {size} bytes of binary data, but shape and datatype make {wanted}")
    if size > len(data):
        raise RequestError(400, f"input {name!r}: the body ends before its {size} bytes of binary data")
    if dtype is TensorType.BOOL:
        made: Array = np.frombuffer(data[:size], np.uint8) != 0
    else:
        made = np.frombuffer(data[:size], DTYPES[dtype])
    if not made.flags.aligned:
        made = made.copy()
    return made.reshape(shape)
