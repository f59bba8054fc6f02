"""Memory and CPU time of a probe's process: without devices, and with its device plugin serving a kubelet.

The kubelet is the tests' fake, in this process. What the probe imports is imported, its look at the node is not done.
Resident memory is what the kernel says of the whole process; private memory is the part that no other process shares.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skerry
from tests.unit.probe.plugin.kubelet import Kubelet

CODE = str(Path(skerry.__file__).parents[1])
DEADLINE_SECONDS = 60
MIB = 1 << 20
# A line on standard input: offer; the end of input: end.
PROCESS = """
import sys
from pathlib import Path
import skerry.probe.__main__
from skerry.probe.devices import FoundDevice
from skerry.probe.plugin import DevicePlugins

plugins = DevicePlugins(Path(sys.argv[1]))
for line in sys.stdin:
    plugins.offer({
        name: [
            FoundDevice(name, f"0000:0{bus}:00.{number}", healthy=True, files=(f"/dev/accel/accel{bus}{number}",))
            for number in range(4)
        ]
        for bus, name in enumerate(line.split())
    })
plugins.close()
"""


def figures(process: int) -> dict[str, float]:
    """Return memory in MiB, CPU time in seconds, and the number of threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines())
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()[1:]
    sizes = {line.split(":", 1)[0]: int(line.split()[1]) for line in rollup}
    # The fields are counted from the state on, after a name that may hold blanks (proc_pid_stat(5)).
    times = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) * 1024 / MIB, 1),
        "private_mib": round((sizes["Private_Clean"] + sizes["Private_Dirty"]) * 1024 / MIB, 1),
        "threads": int(status["Threads"]),
        "cpu_seconds": sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
    }


async def measure(python: str, resources: list[str], rest_seconds: float) -> dict[str, dict[str, float]]:
    """Return the figures before anything is offered, and after a time at rest with all resources served."""
    with tempfile.TemporaryDirectory() as name:
        kubelet = Kubelet(Path(name))
        await kubelet.start()
        environment = {**os.environ, "PYTHONPATH": CODE}
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts once
            [python, "-c", PROCESS, name], stdin=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdin is not None  # noqa: S101 - for mypy
        try:
            await asyncio.sleep(2)  # its imports are done
            idle = figures(process.pid)
            process.stdin.write(" ".join(resources) + "\n")
            process.stdin.flush()
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len([each for each in kubelet.devices.values() if each]) < len(resources):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            served = figures(process.pid)
            await asyncio.sleep(rest_seconds)
            rested = figures(process.pid)
        finally:
            process.stdin.close()
            await asyncio.to_thread(process.wait, DEADLINE_SECONDS)
            await kubelet.stop()
    rested["cpu_millis_per_second_at_rest"] = round(
        1000 * (rested["cpu_seconds"] - served["cpu_seconds"]) / rest_seconds, 2
    )
    return {"without devices": idle, f"serving {len(resources)} resources": rested}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=1, help="how many accelerators, of 4 devices each")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds at rest")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the probe")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    names = [f"accelerator-{number}" for number in range(given.resources)]
    started = time.monotonic()
    rows = asyncio.run(measure(given.python, names, given.rest))
    if given.json:
        print(json.dumps({**rows, "seconds": round(time.monotonic() - started, 1)}, indent=2))
        return
    for title, row in rows.items():
        print(f"{title}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
