"""NVIDIA's GPUs count their energy since Volta, and tell it by NVML, which comes with the driver."""

from typing import Any, Final

_MILLI: Final = 1e-3


class GpuCounter:
    """The energy counter of a GPU, in millijoules.

    Args:
        nvml: The binding of NVML, begun.
        index: Number of the GPU.

    Raises:
        OSError: The GPU has no such counter, or it cannot be read.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._began = self._read()

    @property
    def name(self) -> str:
        """The library, and the number of the GPU."""
        return f"NVML GPU {self._index}"

    def begin(self) -> None:
        """Note what it shows."""
        self._began = self._read()

    def joules(self) -> float:
        """Return by how much more it shows now."""
        return (self._read() - self._began) * _MILLI

    def _read(self) -> int:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError as error:
            message = f"NVML: {error}"
            raise OSError(message) from error


def counters() -> list[GpuCounter]:
    """Return the counters of the GPUs that have one; none without NVIDIA's library, or without its binding."""
    try:
        import pynvml  # noqa: PLC0415 - only where there are GPUs of NVIDIA's
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return []
    found = []
    for index in range(count):
        try:
            found.append(GpuCounter(pynvml, index))
        except OSError:
            continue
    return found
