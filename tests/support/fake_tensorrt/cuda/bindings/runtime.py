"""A fake of CUDA's runtime: its memory is this process's own."""

import ctypes
from enum import IntEnum
from types import SimpleNamespace

_MEMORY: dict[int, ctypes.Array[ctypes.c_char]] = {}


class cudaMemcpyKind(IntEnum):  # noqa: N801 - CUDA's name
    """Directions."""

    cudaMemcpyHostToDevice = 1  # noqa: N815 - CUDA's name
    cudaMemcpyDeviceToHost = 2  # noqa: N815 - CUDA's name


def cudaMalloc(size: int) -> tuple[int, int]:  # noqa: N802 - CUDA's name
    """Return memory."""
    buffer = ctypes.create_string_buffer(size)
    _MEMORY[ctypes.addressof(buffer)] = buffer
    return 0, ctypes.addressof(buffer)


def cudaFree(place: int) -> tuple[int]:  # noqa: N802 - CUDA's name
    """Give memory back."""
    del _MEMORY[place]
    return (0,)


def cudaMemcpyAsync(target: int, source: int, size: int, kind: cudaMemcpyKind, stream: int) -> tuple[int]:  # noqa: N802
    """Copy at once; whichever side is said to be the device's must be."""
    device = target if kind is cudaMemcpyKind.cudaMemcpyHostToDevice else source
    if device not in _MEMORY or len(_MEMORY[device]) < size or stream != 1:
        return (1,)
    ctypes.memmove(target, source, size)
    return (0,)


def cudaStreamCreate() -> tuple[int, int]:  # noqa: N802 - CUDA's name
    """Return a stream."""
    return 0, 1


def cudaStreamSynchronize(stream: int) -> tuple[int]:  # noqa: N802 - CUDA's name
    """Wait for nothing."""
    return (0 if stream == 1 else 1,)


def cudaGetDeviceProperties(index: int) -> tuple[int, SimpleNamespace]:  # noqa: N802 - CUDA's name
    """Return the one device that there is."""
    return index, SimpleNamespace(name=b"Fake Orin\0", major=8, minor=7)
