"""Boards of each kind: whole, mixed and broken ones.

What a board shows follows the drivers' sources and reports of such machines; the ids' sources are in the catalogue.
"""

from collections.abc import Callable
from pathlib import Path

from tests.support.board import Board, pci_folder, platform_folder

_XEON = (
    "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Silver 4410T\n"
    "flags\t\t: fpu sse2 avx f16c fma avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8\n"
    "bugs\t\t: spectre_v1\n"
)
_CORE_ULTRA = (
    "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) Ultra 7 155H\n"
    "flags\t\t: fpu sse2 avx f16c fma avx2 avx_vnni\n"
)
_RYZEN = (
    "vendor_id\t: AuthenticAMD\nmodel name\t: AMD Ryzen AI 9 HX 370 w/ Radeon 890M\n"
    "flags\t\t: fpu sse2 avx f16c fma avx2 avx512f avx512_vnni avx512_bf16\n"
)
_ARM = "Features\t: fp asimd evtstrm aes crc32 asimdhp cpuid asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n"

VIRTIO = ("0000:00:01.0", "1af4:1041", "020000")


def _pc() -> Board:
    """Return a small Intel PC: with the functions that every such machine has besides."""
    board = Board().cpu(4, _CORE_ULTRA).memory(32000000, 20000000).firmware("ASUSTeK", "NUC14RVH")
    board.pci("0000:00:00.0", "8086:7d01", "060000").pci("0000:00:14.0", "8086:7e7d", "0c0330", "xhci_hcd")
    return board.pci("0000:00:1f.3", "8086:7e28", "040100", "snd_hda_intel")


def _arm(part: str = "0xd42", cores: int = 4) -> Board:
    return Board(machine="aarch64").cpu(cores, _ARM.format(part)).memory(7802880, 5000000)


def _npu(board: Board, device: str, address: str = "0000:00:0b.0", name: str = "accel0") -> Board:
    board.pci(address, f"8086:{device}", "120000", "intel_vpu")
    return board.class_device("accel", name, pci_folder(address), group=105)


def _gpu(board: Board, ids: str, driver: str, address: str, number: int = 128, code: str = "030000") -> Board:
    board.pci(address, ids, code, driver)
    board.class_device("drm", f"card{number - 128}", pci_folder(address))
    return board.class_device("drm", f"renderD{number}", pci_folder(address), group=105)


def _nvidia(board: Board, address: str = "0000:01:00.0", number: int = 0) -> Board:
    board.pci(address, "10de:27b8", "030200", "nvidia", numa_node="0")
    board.pci(f"{address[:-1]}1", "10de:22bc", "040300", "snd_hda_intel")
    board.attributes("sys/module/nvidia", version="570.124.06")
    information = f"Model: \t\t NVIDIA L4\nBus Location: \t {address}\nDevice Minor: \t {number}\n"
    board.file(f"proc/driver/nvidia/gpus/{address}/information", information)
    for name in (f"nvidia{number}", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
        board.node(f"dev/{name}", 0o666, 0)
    return board


def _jetson(model: str, gpu: str, *compatible: str, modern: bool = True) -> Board:
    board = _arm().device_tree(model, *compatible).platform(gpu, "gk20a", "nvidia,gpu")
    board.file("sys/module/nvgpu/initstate", "live\n")
    for name in ("nvmap", "nvhost-ctrl", "nvhost-ctrl-gpu", "nvhost-gpu", "nvhost-as-gpu", "nvhost-prof-gpu"):
        board.node(f"dev/{name}")
    if modern:
        for name in ("ctrl", "as", "channel", "dbg", "prof"):
            board.node(f"dev/nvgpu/igpu0/{name}")
    return board


def _thor() -> Board:
    board = _arm().device_tree(
        "NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p3971-0089+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"
    )
    board.pci("0000:01:00.0", "10de:2b00", "030000", "nvidia").attributes("sys/module/nvidia", version="580.00")
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvmap"):
        board.node(f"dev/{name}", 0o666, 0)
    return board


def _amd_gpu(board: Board, ids: str = "1002:7480", address: str = "0000:03:00.0", number: int = 128) -> Board:
    _gpu(board, ids, "amdgpu", address, number)
    return board.attributes(pci_folder(address), mem_info_vram_total="8573157376").node("dev/kfd", group=105)


def _ryzen_ai() -> Board:
    board = Board().cpu(4, _RYZEN).memory(32000000, 20000000).firmware("Framework", "Laptop 13")
    _gpu(board, "1002:150e", "amdgpu", "0000:c1:00.0", code="038000")
    board.attributes(pci_folder("0000:c1:00.0"), mem_info_vram_total="536870912").node("dev/kfd", group=105)
    board.pci("0000:c2:00.1", "1022:17f0", "118000", "amdxdna")
    return board.class_device("accel", "accel0", pci_folder("0000:c2:00.1"), group=105)


def _hexagon() -> Board:
    board = _arm().device_tree("Thundercomm Dragonwing RB3 Gen2", "qcom,qcs6490-rb3gen2", "qcom,qcm6490")
    board.class_device("misc", "fastrpc-cdsp", group=985).class_device("misc", "fastrpc-cdsp-secure", group=985)
    return board.class_device("misc", "fastrpc-adsp-secure").class_device("misc", "rfkill", mode=0o664)


def _apple() -> Board:
    board = _arm().device_tree("Apple Mac mini (M1, 2020)", "apple,j274", "apple,t8103", "apple,arm-platform")
    board.platform("406400000.gpu", "asahi", "apple,agx-t8103", "apple,agx-g13g")
    board.platform("228200000.display-pipe", "apple-drm")
    board.class_device("drm", "renderD128", platform_folder("406400000.gpu"), group=105)
    return board.class_device("drm", "card1", platform_folder("228200000.display-pipe"))


def _raspberry() -> Board:
    board = _arm("0xd0b").device_tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712")
    board.cpu(4, _ARM.format("0xd0b"), "\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")
    board.memory(8255488, 6000000).pci("0001:00:00.0", "14e4:2712", "060400", "pcieport")
    board.platform("1002000000.v3d", "v3d", "brcm,2712-v3d")
    return board.class_device("drm", "renderD128", platform_folder("1002000000.v3d"), group=105)


def _hailo(board: Board, device: str, driver: str, address: str = "0001:01:00.0", number: int = 0) -> Board:
    board.pci(address, f"1e60:{device}", "0b4000", driver)
    board.attributes(f"sys/module/{driver.replace('-', '_')}", version="4.23.0")
    # The driver makes its class device without a parent.
    return board.class_device(
        "hailo_chardev", f"hailo{number}", mode=0o666, group=0, board_location=address, accelerator_type="0"
    )


def _coral_card(board: Board, address: str, number: int, status: str = "ALIVE") -> Board:
    board.pci(address, "1ac1:089a", "0880ff", "apex")
    return board.class_device("apex", f"apex_{number}", pci_folder(address), group=1001, status=status)


def _rk3588(model: str = "Radxa ROCK 5B") -> Board:
    board = _arm("0xd0b", 8).device_tree(model, "radxa,rock-5b", "rockchip,rk3588")
    board.platform("fb000000.gpu", "panthor", "rockchip,rk3588-mali", "arm,mali-valhall-csf")
    return board.class_device("drm", "renderD128", platform_folder("fb000000.gpu"), group=105)


def _rk3588_vendor() -> Board:
    board = _rk3588().platform("fdab0000.npu", "RKNPU", "rockchip,rk3588-rknpu")
    board.attributes("sys/module/rknpu", version="0.9.8")
    return board.class_device("drm", "renderD129", platform_folder("fdab0000.npu"), group=105)


def _rk3588_mainline() -> Board:
    board = _rk3588()
    for number, name in enumerate(("fdab0000.npu", "fdac0000.npu", "fdad0000.npu")):
        board.platform(name, "rocket", "rockchip,rk3588-rknn-core").attributes(platform_folder(name), core=str(number))
    # One device file for all three cores.
    board.platform("rknn", "rocket")
    return board.class_device("accel", "accel0", platform_folder("rknn"), group=105)


def _mixed() -> Board:
    board = _npu(_gpu(_pc(), "8086:7d55", "i915", "0000:00:02.0"), "7d1d")
    _gpu(board, "8086:e20b", "xe", "0000:03:00.0", number=129)
    _nvidia(board)
    return _coral_card(board, "0000:05:00.0", 0).usb("2-3", "18d1:9302", 7).usb("1-4", "03e7:2485", 3)


def _half_readable() -> Board:
    board = _npu(_pc(), "7d1d")
    board.links["sys/bus/pci/devices/0000:04:00.0"] = pci_folder("0000:04:00.0")
    board.pci("0000:05:00.0", "1e60:2864", "0b4000", "hailo").file(f"{pci_folder('0000:05:00.0')}/vendor", b"\xff\0?")
    board.pci("0000:06:00.0", "1ac1:089a", "0880ff").file(f"{pci_folder('0000:06:00.0')}/class", "")
    board.file(f"{pci_folder('0000:00:0b.0')}/numa_node", b"\xfe\xed")
    board.usb("1-1", "1a6e:089a", 4).file("sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/devnum", "many\n")
    # Links out of the root, to what would be found there.
    board.attributes("../elsewhere", vendor="0x1e60", device="0x2864")
    board.links["sys/bus/pci/devices/0000:07:00.0"] = "../elsewhere"
    return board.class_device("accel", "accel8").file("sys/devices/virtual/accel/accel8/uevent", b"\0\xff")


BOARDS: dict[str, Callable[[], Board]] = {
    # No accelerator.
    "bare": Board,
    "xeon": lambda: (
        Board().cpu(4, _XEON).memory(65536000, 60000000).firmware("Dell Inc.", "PowerEdge XR4510c").pci(*VIRTIO)
    ),
    "raspberry": _raspberry,
    "armv7": lambda: (
        Board(machine="armv7l")
        .device_tree("FriendlyARM NanoPi NEO", "friendlyarm,nanopi-neo", "allwinner,sun8i-h3")
        .cpu(
            4,
            "model name\t: ARMv7 Processor rev 5 (v7l)\nFeatures\t: half thumb vfp neon vfpv3 tls vfpv4\n",
            "\nHardware\t: Allwinner sun8i Family\n",
        )
        .memory(505540)
    ),
    # Intel.
    "meteor-lake": lambda: _npu(_gpu(_pc(), "8086:7d55", "i915", "0000:00:02.0"), "7d1d"),
    "arrow-lake": lambda: _npu(_gpu(_pc(), "8086:7d67", "i915", "0000:00:02.0"), "ad1d"),
    "lunar-lake": lambda: _npu(_gpu(_pc(), "8086:64a0", "xe", "0000:00:02.0"), "643e"),
    "panther-lake": lambda: _npu(_gpu(_pc(), "8086:b080", "xe", "0000:00:02.0"), "b03e"),
    "arc": lambda: _gpu(_pc(), "8086:e20b", "xe", "0000:03:00.0"),
    "movidius": lambda: _pc().usb("1-4", "03e7:2485", 3),
    "movidius-running": lambda: _pc().usb("1-4", "03e7:f63b", 9),
    # NVIDIA.
    "nvidia": lambda: _nvidia(_pc()),
    "jetson-nano": lambda: _jetson(
        "NVIDIA Jetson Nano Developer Kit",
        "57000000.gpu",
        *("nvidia,p3450-0000", "nvidia,jetson-nano", "nvidia,tegra210"),
        modern=False,
    ),
    "jetson-xavier": lambda: _jetson(
        "NVIDIA Jetson Xavier NX Developer Kit",
        "17000000.gv11b",
        *("nvidia,p3509-0000+p3668-0000", "nvidia,tegra194"),
        modern=False,
    ),
    "jetson-orin": lambda: _jetson(
        "NVIDIA Jetson Orin Nano Developer Kit",
        "17000000.gpu",
        *("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
    ),
    # JetPack 5 names the board without its maker.
    "jetson-agx-orin": lambda: _jetson(
        "Jetson AGX Orin", "17000000.ga10b", "nvidia,p3737-0000+p3701-0005", "nvidia,tegra234"
    ),
    "jetson-thor": _thor,
    # AMD.
    "amd-gpu": lambda: _amd_gpu(_pc()),
    "ryzen-ai": _ryzen_ai,
    # Others.
    "hexagon": _hexagon,
    "apple": _apple,
    "hailo-8": lambda: _hailo(_raspberry(), "2864", "hailo"),
    "hailo-10h": lambda: _hailo(_raspberry(), "45c4", "hailo1x"),
    "coral-pcie": lambda: _coral_card(_pc(), "0000:04:00.0", 0),
    "coral-dual": lambda: _coral_card(_coral_card(_pc(), "0000:04:00.0", 0), "0000:05:00.0", 1),
    "coral-usb": lambda: _pc().usb("2-3", "1a6e:089a", 5),
    "coral-usb-used": lambda: _pc().usb("2-3", "18d1:9302", 6),
    "rk3588-vendor": _rk3588_vendor,
    "rk3588-mainline": _rk3588_mainline,
    # Several at once.
    "mixed": _mixed,
    "two-arcs": lambda: _gpu(
        _gpu(_pc(), "8086:e20b", "xe", "0000:03:00.0"), "8086:e20b", "xe", "0000:04:00.0", number=129
    ),
    "two-nvidias": lambda: _nvidia(_nvidia(_pc()), "0000:41:00.0", 1),
    # Broken.
    "no-driver": lambda: _pc().pci("0000:00:0b.0", "8086:7d1d", "120000").pci("0000:04:00.0", "1ac1:089a", "0880ff"),
    "nouveau": lambda: _gpu(_pc(), "10de:2684", "nouveau", "0000:01:00.0"),
    "given-to-machine": lambda: _pc().pci("0000:01:00.0", "10de:27b8", "030200", "vfio-pci"),
    "no-device-file": lambda: _pc().pci("0000:00:0b.0", "8086:7d1d", "120000", "intel_vpu"),
    "root-only": lambda: (
        _pc()
        .pci("0000:00:0b.0", "8086:7d1d", "120000", "intel_vpu")
        .class_device("accel", "accel0", pci_folder("0000:00:0b.0"), mode=0o600, group=0)
    ),
    "usb-root-only": lambda: _pc().usb("2-3", "1a6e:089a", 5, mode=0o664, group=0),
    "dead-coral": lambda: _coral_card(_pc(), "0000:04:00.0", 0, status="DEAD"),
    "unknown-device": lambda: _pc().pci("0000:04:00.0", "8086:ffff", "120000").usb("1-1", "1a6e:ffff", 4),
    "half-readable": _half_readable,
}


def build(folder: Path, board: str) -> Path:
    """Write a board below a folder and return its root."""
    return BOARDS[board]().write(folder / board)
