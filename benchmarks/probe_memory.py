"""Memory and CPU time of the probe at rest: on a board with many devices, with an API server of loopback."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme

import skerry
from skerry.accelerators.catalogue import catalogue, dump
from tests.support.boards import BOARDS
from tests.unit.probe.apiserver import ApiServer

DEADLINE_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")


def memory_mib(process: int, name: str) -> float:
    """Return a figure of a process's memory, as the kernel says."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return round(next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 1)


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(folder: Path, server: ApiServer, given: argparse.Namespace) -> dict[str, float]:
    """Start a probe, wait until it has published, and return its figures over some seconds."""
    board = BOARDS[given.board]()
    for number in range(given.functions):
        board.pci(f"0000:{0x40 + number // 8:02x}:00.{number % 8}", "8086:1533", "020000", "igb")
    file = folder / "catalogue.json"
    file.write_text(dump(catalogue()), encoding="utf-8")
    arguments = ["--root", board.write(folder / "root"), "--service-account", server.account, "--catalogue", file]
    environment = {
        "PYTHONPATH": str(Path(skerry.__file__).parents[1]),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "NODE_NAME": "worker",
    }
    # -S: without site-packages, as in the image.
    command = [sys.executable, "-S", "-m", "skerry.probe", "--interval", str(given.interval), *map(str, arguments)]
    process = subprocess.Popen(command, env=environment)
    try:
        started = time.monotonic()
        while "status" not in server.objects.get("worker", {}):
            if time.monotonic() - started > DEADLINE_SECONDS:
                message = "the probe did not publish in time"
                raise RuntimeError(message)
            time.sleep(0.1)
        before, published = cpu_seconds(process.pid), len(server.writes)
        time.sleep(given.seconds)
        return {
            "resident_mib": memory_mib(process.pid, "VmRSS"),
            "most_resident_mib": memory_mib(process.pid, "VmHWM"),
            "cpu_seconds_to_start": before,
            "cpu_seconds_at_rest": round(cpu_seconds(process.pid) - before, 2),
            "seconds_at_rest": given.seconds,
            "writes_at_rest": len(server.writes) - published,
        }
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", choices=sorted(BOARDS), default="mixed")
    parser.add_argument("--functions", type=int, default=100, help="PCI functions besides, as servers have them")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between looks")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        account = Path(name) / "account"
        account.mkdir()
        server = ApiServer(account, trustme.CA())
        try:
            row = measure(Path(name), server, given)
        finally:
            server.close()
    print(json.dumps(row, indent=2) if given.json else "\n".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
