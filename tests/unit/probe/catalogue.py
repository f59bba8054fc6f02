"""Entries of the catalogue in the form in which the probe gets them: the least that each board needs."""

from typing import Any


def _entry(name: str, *matches: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "match": list(matches), "drivers": [], "files": [], "vendorResources": [], **more}


def _pci(vendor: str, prefix: str | None = None, *devices: str) -> dict[str, Any]:
    return {"pci": {"vendor": vendor, "devices": list(devices), **({"classPrefix": prefix} if prefix else {})}}


def _tree(*compatible: str) -> dict[str, Any]:
    return {"deviceTree": {"compatible": list(compatible)}}


def _device(device_class: str, *drivers: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"device": {"deviceClass": device_class, "drivers": list(drivers), "names": list(names)}}


_RENDER = [{"deviceClass": "drm-render", "paths": []}]
_ACCEL = [{"deviceClass": "accel", "paths": []}]
_TEGRA = {"drivers": ["nvgpu"], "files": [{"paths": ["nvmap", "nvhost-*", "nvgpu/igpu0/*"]}]}

CATALOGUE: list[dict[str, Any]] = [
    {"name": "cpu", "description": "The CPU.", "match": [], "frameworks": []},
    _entry(
        "intel-npu",
        _pci("8086", None, "7d1d", "ad1d", "643e", "b03e"),
        drivers=["intel_vpu"],
        files=_ACCEL,
        vendorResources=["npu.intel.com/accel"],
    ),
    _entry(
        "intel-gpu",
        _pci("8086", "03"),
        drivers=["i915", "xe"],
        files=_RENDER,
        vendorResources=["gpu.intel.com/i915", "gpu.intel.com/xe"],
    ),
    _entry("movidius", {"usb": {"vendor": "03e7", "products": ["2485", "f63b"]}}, schedulable=False),
    _entry(
        "nvidia-gpu",
        _pci("10de", "03"),
        drivers=["nvidia"],
        files=[{"paths": ["nvidia[0-9]*", "nvidiactl", "nvidia-uvm"]}],
        vendorResources=["nvidia.com/gpu"],
    ),
    _entry("jetson-nano", _tree("nvidia,tegra210"), **_TEGRA),
    _entry("jetson-xavier", _tree("nvidia,tegra194"), **_TEGRA),
    _entry("jetson-orin", _tree("nvidia,tegra234"), **_TEGRA),
    _entry(
        "jetson-thor",
        {**_tree("nvidia,tegra264"), **_pci("10de", "03")},
        drivers=["nvidia"],
        files=[{"paths": ["nvidia0", "nvidiactl", "nvmap"]}],
    ),
    _entry(
        "amd-gpu",
        _pci("1002", "03"),
        drivers=["amdgpu"],
        files=[*_RENDER, {"paths": ["/dev/kfd"]}],
        memoryFile="mem_info_vram_total",
        vendorResources=["amd.com/gpu"],
    ),
    _entry("amd-npu", _pci("1022", None, "1502", "17f0"), drivers=["amdxdna"], files=_ACCEL),
    _entry(
        "qualcomm-hexagon",
        _device("misc", names=("fastrpc-cdsp", "fastrpc-cdsp-secure")),
        files=[{"deviceClass": "misc", "paths": []}],
    ),
    _entry("apple-gpu", {**_tree("apple,arm-platform"), **_device("drm-render", "asahi")}, files=_RENDER),
    _entry("hailo-8", _pci("1e60", None, "2864"), drivers=["hailo"], files=[{"deviceClass": "hailo_chardev"}]),
    _entry("hailo-10h", _pci("1e60", None, "45c4"), drivers=["hailo1x"], files=[{"deviceClass": "hailo_chardev"}]),
    _entry("coral-pcie", _pci("1ac1", None, "089a"), drivers=["apex"], files=[{"deviceClass": "apex"}]),
    _entry(
        "coral-usb",
        {"usb": {"vendor": "1a6e", "products": ["089a"]}},
        {"usb": {"vendor": "18d1", "products": ["9302"]}},
    ),
    _entry("rk3588-npu", {**_tree("rockchip,rk3588"), **_device("drm-render", "RKNPU")}, files=_RENDER),
    _entry("rk3588-rocket", {**_tree("rockchip,rk3588"), **_device("accel", "rocket")}, files=_ACCEL),
]
