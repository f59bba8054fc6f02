"""Devices for tests."""

from skerry.probe.devices import FoundDevice

NPU = "skerry.dev/intel-npu"
TPU = "skerry.dev/coral-pcie"


def npu(number: int = 0, *, healthy: bool = True, message: str = "", file: str = "") -> FoundDevice:
    """Return an NPU; its id is 0000:00:0<number>.0."""
    return FoundDevice(
        accelerator="intel-npu",
        id=f"0000:00:0{number}.0",
        healthy=healthy,
        message=message,
        files=(file or f"/dev/accel/accel{number}",),
    )


def tpu(card: int = 1, function: int = 0) -> FoundDevice:
    """Return an Edge TPU; its id is 0000:0<card>:00.<function>."""
    return FoundDevice(
        accelerator="coral-pcie", id=f"0000:0{card}:00.{function}", healthy=True, files=(f"/dev/apex_{card}{function}",)
    )
