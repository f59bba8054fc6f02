"""Stands for NVIDIA's library and its Python binding (nvidia-ml-py): what `skerry.optimizer.nvml` calls of it, no more.

`GPUS` holds what each GPU's counter shows in millijoules, or the error that reading it ends with; `DRIVER` tells
whether there is a driver.
"""

# The names and their spelling are NVIDIA's.
# ruff: noqa: N802

GPUS: list[int | str] = []
DRIVER = True


class NVMLError(Exception):
    """What goes wrong in the library."""


def nvmlInit() -> None:
    if not DRIVER:
        message = "NVML Shared Library Not Found"
        raise NVMLError(message)


def nvmlDeviceGetCount() -> int:
    return len(GPUS)


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:
    shown = GPUS[handle]
    if isinstance(shown, str):
        raise NVMLError(shown)
    return shown
