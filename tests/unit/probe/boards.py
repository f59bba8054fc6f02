"""Whole boards as folders: what /proc and /sys say on machines of each kind."""

from pathlib import Path
from typing import Any

BOARDS: dict[str, dict[str, str]] = {
    "xeon": {
        "proc/cpuinfo": "\n".join(
            f"processor\t: {core}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Silver 4410T\n"
            "flags\t\t: fpu sse2 avx f16c fma avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8\n"
            "bugs\t\t: spectre_v1\n"
            for core in range(4)
        ),
        "proc/meminfo": "MemTotal:       65536000 kB\nMemFree:        1000 kB\n",
        "sys/devices/virtual/dmi/id/sys_vendor": "Dell Inc.\n",
        "sys/devices/virtual/dmi/id/product_name": "PowerEdge XR4510c\n",
    },
    "raspberry": {
        "proc/cpuinfo": "\n".join(
            f"processor\t: {core}\nBogoMIPS\t: 108.00\n"
            "Features\t: fp asimd evtstrm aes crc32 asimdhp cpuid asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
            for core in range(4)
        )
        + "\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
        "proc/meminfo": "MemTotal:        8255488 kB\n",
        "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    },
    "orin": {
        "proc/cpuinfo": "\n".join(
            f"processor\t: {core}\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"
            for core in range(6)
        ),
        "proc/meminfo": "MemTotal:        7802880 kB\n",
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    },
    "armv7": {
        "proc/cpuinfo": "\n".join(
            f"processor\t: {core}\nmodel name\t: ARMv7 Processor rev 5 (v7l)\n"
            "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4\n"
            for core in range(4)
        )
        + "\nHardware\t: Allwinner sun8i Family\n",
        "proc/meminfo": "MemTotal:         505540 kB\n",
        "sys/firmware/devicetree/base/model": "FriendlyARM NanoPi NEO\0",
    },
    "bare": {},
}


def build(folder: Path, board: str) -> Path:
    """Write a board below a folder and return its root."""
    root = folder / board
    root.mkdir(exist_ok=True)
    for name, content in BOARDS[board].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


EXPECTED: dict[str, dict[str, Any]] = {
    "xeon": {
        "probeVersion": "1.2.3",
        "machine": {"vendor": "Dell Inc.", "model": "PowerEdge XR4510c", "architecture": "amd64"},
        "cpu": {
            "model": "Intel(R) Xeon(R) Silver 4410T",
            "cores": 4,
            "features": [
                *("amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_vnni", "avx512f"),
                *("f16c", "fma"),
            ],
        },
        "memoryBytes": 65536000 * 1024,
        "accelerators": [{"name": "cpu", "count": 1}],
    },
    "raspberry": {
        "probeVersion": "1.2.3",
        "machine": {"vendor": "", "model": "Raspberry Pi 5 Model B Rev 1.0", "architecture": "arm64"},
        "cpu": {
            "model": "Raspberry Pi 5 Model B Rev 1.0",
            "cores": 4,
            "features": ["asimd", "asimddp", "asimdhp"],
        },
        "memoryBytes": 8255488 * 1024,
        "accelerators": [{"name": "cpu", "count": 1}],
    },
    "orin": {
        "probeVersion": "1.2.3",
        "machine": {"vendor": "", "model": "NVIDIA Jetson Orin Nano Developer Kit", "architecture": "arm64"},
        "cpu": {
            "model": "implementer 0x41 part 0xd42",
            "cores": 6,
            "features": ["asimd", "asimddp", "asimdhp"],
        },
        "memoryBytes": 7802880 * 1024,
        "accelerators": [{"name": "cpu", "count": 1}],
    },
    "armv7": {
        "probeVersion": "1.2.3",
        "machine": {"vendor": "", "model": "FriendlyARM NanoPi NEO", "architecture": "arm"},
        "cpu": {"model": "ARMv7 Processor rev 5 (v7l)", "cores": 4, "features": []},
        "memoryBytes": 505540 * 1024,
        "accelerators": [{"name": "cpu", "count": 1}],
    },
    "bare": {
        "probeVersion": "1.2.3",
        "machine": {"vendor": "", "model": "", "architecture": "amd64"},
        "cpu": {"model": "", "cores": 0, "features": []},
        "memoryBytes": 0,
        "accelerators": [{"name": "cpu", "count": 1}],
    },
}
"""What the probe tells of each board."""

ARCHITECTURES = {"raspberry": "aarch64", "orin": "aarch64", "armv7": "armv7l"}
"""What the kernel calls the machine; x86_64 where nothing is said."""
