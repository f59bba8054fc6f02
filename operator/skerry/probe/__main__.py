"""`python -m skerry.probe`: tell what this node has, whenever it changes."""

import argparse
import faulthandler
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from skerry.accelerators import matching
from skerry.probe.devices import SKERRY
from skerry.probe.entries import entries_of
from skerry.probe.examine import Examiner
from skerry.probe.inventory import Inventory
from skerry.probe.machine import Machine
from skerry.probe.plugin import DevicePlugins
from skerry.probe.publish import ACCOUNT, TIMEOUT_SECONDS, Publisher, PublishError
from skerry.probe.recognise import Recogniser
from skerry.probe.sources.tree import Tree
from skerry.probe.vendors import FOLDER, Vendors
from skerry.version import version

CATALOGUE = Path("/etc/skerry/accelerators/catalogue.json")

LONGEST_PAUSE = 300.0
REASSURE_SECONDS = 120.0
"""A profile that someone deleted or changed is put right after that time."""
STUCK_SECONDS = 10.0 * TIMEOUT_SECONDS
"""A turn that takes longer than this never ends."""


def watch(
    look: Callable[[], dict[str, Any]],
    publish: Callable[[dict[str, Any]], None],
    interval: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> NoReturn:
    """Look all the time; publish at once, whenever something changed, and now and then.

    While publishing fails it is tried with growing pauses, but looking goes on: devices are served without API server.
    """
    published: dict[str, Any] | None = None
    due = retry = now()
    failures = 0
    while True:
        found = look()
        if now() >= retry and (found != published or now() >= due):
            try:
                publish(found)
            except PublishError as error:
                sys.stderr.write(f"{error}\n")
                published = None
                pause = max(interval, min(interval * 2.0 ** min(failures, 8), LONGEST_PAUSE))
                retry = now() + pause * (0.8 + 0.4 * jitter())
                failures += 1
            else:
                published, failures = found, 0
                due = now() + REASSURE_SECONDS
        sleep(interval * (0.8 + 0.4 * jitter()))


def _guard(pause: float = 0.0) -> None:
    """End the process with a traceback when it is stuck after a pause, so that the kubelet starts it anew.

    A watchdog in C costs less than a probe of the kubelet that starts a Python each time.
    """
    faulthandler.dump_traceback_later(pause + STUCK_SECONDS, exit=True)


def _sleep(seconds: float) -> None:
    _guard(seconds)
    time.sleep(seconds)


def _end(*_: object) -> NoReturn:
    """End at once, whatever goes on: nothing is lost."""
    raise SystemExit(0)


def _inventory(examiner: Examiner, catalogue: Path, device_plugins: Path, *, serves: bool) -> Inventory:
    """Return what looks for the accelerators of a catalogue; a file that is not there is an empty one.

    Raises:
        ValueError: The file is not JSON, or not of the catalogue's form.
    """
    documents = matching.load(catalogue) if catalogue.is_file() else []
    recogniser = Recogniser(examiner.tree, entries_of(documents, matching.specificity))
    return Inventory(recogniser, examiner, Vendors(device_plugins), serves=serves)


def main() -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="skerry-probe", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="folder with sys and dev of the node")
    parser.add_argument("--proc-root", type=Path, help="folder with proc of the node, when that is another")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between looks")
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE, help="JSON file of the accelerators to look for")
    parser.add_argument("--device-plugins", type=Path, default=FOLDER, help="the kubelet's folder of device plugins")
    parser.add_argument("--serve-devices", action="store_true", help="offer devices to the kubelet")
    parser.add_argument("--cdi", type=Path, help="folder for CDI specifications, to hand devices out by them")
    parser.add_argument("--service-account", type=Path, default=ACCOUNT, help="folder with token and ca.crt")
    parser.add_argument("--once", action="store_true", help="publish the profile and end")
    parser.add_argument("--print", action="store_true", help="print the profile and end")
    arguments = parser.parse_args()

    machine = Machine(arguments.root, proc_root=arguments.proc_root, version=version())
    owned = arguments.cdi is not None
    examiner = Examiner(Tree(arguments.root), Tree(arguments.proc_root or arguments.root), owned=owned)
    try:
        serves = arguments.serve_devices
        inventory = _inventory(examiner, arguments.catalogue, arguments.device_plugins, serves=serves)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the catalogue {arguments.catalogue} cannot be read: {error}\n")
        return os.EX_CONFIG

    plugins = DevicePlugins(folder=arguments.device_plugins, cdi=arguments.cdi) if serves else None

    def look() -> dict[str, Any]:
        found = inventory.look()
        if plugins is not None:
            plugins.offer({each.name: each.devices if each.offered_by == SKERRY else None for each in found})
        return machine.profile(found)

    if arguments.print:
        sys.stdout.write(json.dumps(look(), indent=2) + "\n")
        return 0
    node = os.environ.get("NODE_NAME", "")
    if not node:
        sys.stderr.write("NODE_NAME must name the node (from the downward API)\n")
        return os.EX_CONFIG
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
    publisher = Publisher(host, port, arguments.service_account)
    if arguments.once:
        try:
            publisher.publish(node, look())
        except PublishError as error:
            sys.stderr.write(f"{error}\n")
            return os.EX_UNAVAILABLE
        return 0
    _guard()
    try:
        watch(look, lambda found: publisher.publish(node, found), arguments.interval, sleep=_sleep)
    finally:
        if plugins is not None:
            plugins.close()


if __name__ == "__main__":
    raise SystemExit(main())
