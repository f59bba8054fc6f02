"""A board as files: what the kernel shows of a machine, put together device by device."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_DEVICE_FILES = {"accel": "accel/{}", "drm": "dri/{}"}


@dataclass
class Board:
    """Files below a root; the methods add to them and return the board.

    Attributes:
        machine: What the kernel calls the architecture.
        files: Contents by path.
        links: What a path points to, both relative to the root; links are written relative, as the kernel's are.
        nodes: Device files by path, with mode and group; written as plain files, since only root can make others.
    """

    machine: str = "x86_64"
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def file(self, path: str, content: str | bytes) -> Self:
        """Add a file."""
        self.files[path] = content.encode() if isinstance(content, str) else content
        return self

    def attributes(self, folder: str, **contents: str) -> Self:
        """Add attributes as sysfs has them, each a line."""
        for name, content in contents.items():
            self.file(f"{folder}/{name}", f"{content}\n")
        return self

    def node(self, path: str, mode: int = 0o660, group: int = 44) -> Self:
        """Add a device file."""
        self.nodes[path] = (mode, group)
        return self

    def cpu(self, cores: int, core: str, end: str = "") -> Self:
        """Add `proc/cpuinfo`: the same lines for each core, and lines at the end."""
        return self.file("proc/cpuinfo", "\n".join(f"processor\t: {n}\n{core}" for n in range(cores)) + end)

    def memory(self, total: int, available: int | None = None) -> Self:
        """Add `proc/meminfo`, in KiB."""
        lines = f"MemTotal:       {total} kB\nMemFree:        1000 kB\n"
        return self.file("proc/meminfo", lines + (f"MemAvailable:   {available} kB\n" if available is not None else ""))

    def firmware(self, vendor: str, product: str) -> Self:
        """Add what DMI says."""
        return self.attributes("sys/devices/virtual/dmi/id", sys_vendor=vendor, product_name=product)

    def device_tree(self, model: str, *compatible: str) -> Self:
        """Add a device tree's root."""
        base = "sys/firmware/devicetree/base"
        self.file(f"{base}/model", f"{model}\0")
        return self.file(f"{base}/compatible", "".join(f"{word}\0" for word in compatible))

    def driver(self, bus: str, name: str, device: str, module: str = "", version: str = "") -> Self:
        """Bind a driver to a device, by its folder."""
        folder = f"sys/bus/{bus}/drivers/{name}"
        self.links[f"{device}/driver"] = folder
        self.links[f"{folder}/{device.rpartition('/')[2]}"] = device
        if module:
            self.links[f"{folder}/module"] = f"sys/module/{module}"
            self.file(f"sys/module/{module}/initstate", "live\n")
        if version:
            self.attributes(f"sys/module/{module}", version=version)
        return self

    def pci(self, address: str, ids: str, class_code: str, driver: str = "", **attributes: str) -> Self:
        """Add a PCI function: ids as `8086:643e`, class code of six digits."""
        folder = pci_folder(address)
        vendor, _, device = ids.partition(":")
        known = {"vendor": f"0x{vendor}", "device": f"0x{device}", "class": f"0x{class_code}", "numa_node": "-1"}
        self.attributes(folder, **{**known, **attributes})
        self.links[f"{folder}/subsystem"] = "sys/bus/pci"
        self.links[f"sys/bus/pci/devices/{address}"] = folder
        return self.driver("pci", driver, folder, driver.replace("-", "_")) if driver else self

    def usb(self, port: str, ids: str, number: int, mode: int = 0o660, group: int = 46) -> Self:
        """Add a USB device with one interface: the bus is the port's first number."""
        bus = int(port.partition("-")[0])
        vendor, _, product = ids.partition(":")
        folder = f"sys/devices/pci0000:00/0000:00:14.0/usb{bus}/{port}"
        self.attributes(folder, idVendor=vendor, idProduct=product, busnum=str(bus), devnum=str(number))
        self.links[f"{folder}/driver"] = "sys/bus/usb/drivers/usb"
        self.links[f"{folder}/subsystem"] = "sys/bus/usb"
        self.attributes(f"{folder}/{port}:1.0", bInterfaceClass="ff")
        self.links[f"sys/bus/usb/devices/{port}"] = folder
        self.links[f"sys/bus/usb/devices/{port}:1.0"] = f"{folder}/{port}:1.0"
        return self.node(f"dev/bus/usb/{bus:03}/{number:03}", mode, group)

    def platform(self, name: str, driver: str = "", *compatible: str) -> Self:
        """Add a device that is soldered in."""
        folder = platform_folder(name)
        self.attributes(folder, uevent=f"DRIVER={driver}")
        self.links[f"{folder}/subsystem"] = "sys/bus/platform"
        if compatible:
            node = f"sys/firmware/devicetree/base/{name.partition('.')[2]}@{name.partition('.')[0]}"
            self.file(f"{node}/compatible", "".join(f"{word}\0" for word in compatible))
            self.links[f"{folder}/of_node"] = node
        return self.driver("platform", driver, folder, driver.lower()) if driver else self

    def class_device(
        self, device_class: str, name: str, parent: str = "", mode: int = 0o660, group: int = 44, **attributes: str
    ) -> Self:
        """Add what a driver makes for programs, below the device that it belongs to, and its device file."""
        folder = f"{parent or 'sys/devices/virtual'}/{device_class}/{name}"
        path = _DEVICE_FILES.get(device_class, "{}").format(name)
        self.attributes(folder, uevent=f"MAJOR=261\nMINOR=0\nDEVNAME={path}", **attributes)
        if parent:
            self.links[f"{folder}/device"] = parent
        self.links[f"sys/class/{device_class}/{name}"] = folder
        return self.node(f"dev/{path}", mode, group)

    def write(self, root: Path) -> Path:
        """Write the board below a folder and return it."""
        root.mkdir(parents=True, exist_ok=True)
        for path, content in self.files.items():
            _place(root, path).write_bytes(content)
        for path, (mode, _) in self.nodes.items():
            place = _place(root, path)
            place.touch()
            place.chmod(mode)
        for path, target in self.links.items():
            (root / target).mkdir(parents=True, exist_ok=True)
            place = _place(root, path)
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(root / target, place.parent))
        return root


def pci_folder(address: str) -> str:
    """Return the folder of a PCI function."""
    return f"sys/devices/pci{address[:7]}/{address}"


def platform_folder(name: str) -> str:
    """Return the folder of a device that is soldered in."""
    return f"sys/devices/platform/{name}"


def _place(root: Path, path: str) -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
