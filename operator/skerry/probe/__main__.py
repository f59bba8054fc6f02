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

from skerry.probe.machine import profile
from skerry.probe.publish import ACCOUNT, TIMEOUT_SECONDS, Publisher, PublishError
from skerry.version import version

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
    """Publish at once, whenever something changed, and now and then; while that fails try with growing pauses."""
    published: dict[str, Any] | None = None
    due = now()
    failures = 0
    while True:
        found = look()
        pause = interval
        if found != published or now() >= due:
            try:
                publish(found)
            except PublishError as error:
                sys.stderr.write(f"{error}\n")
                published = None
                pause = max(interval, min(interval * 2.0 ** min(failures, 8), LONGEST_PAUSE))
                failures += 1
            else:
                published, failures = found, 0
                due = now() + REASSURE_SECONDS
        sleep(pause * (0.8 + 0.4 * jitter()))


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


def main() -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="skerry-probe", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="folder with proc and sys of the node")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between looks")
    parser.add_argument("--service-account", type=Path, default=ACCOUNT, help="folder with token and ca.crt")
    parser.add_argument("--once", action="store_true", help="publish the profile and end")
    parser.add_argument("--print", action="store_true", help="print the profile and end")
    arguments = parser.parse_args()

    def look() -> dict[str, Any]:
        return profile(arguments.root, version=version())

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
    watch(look, lambda found: publisher.publish(node, found), arguments.interval, sleep=_sleep)


if __name__ == "__main__":
    raise SystemExit(main())
