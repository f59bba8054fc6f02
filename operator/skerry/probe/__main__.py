"""`python -m skerry.probe`: tell what this node has, whenever it changes."""

import argparse
import json
import os
import random
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skerry.probe.machine import profile
from skerry.probe.publish import Publisher, PublishError
from skerry.version import version

LONGEST_PAUSE = 300.0


def status_of(found: dict[str, Any], since: str, now: str) -> dict[str, Any]:
    """Return the whole status: what was found, with the Ready condition and the time of the last change."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Probed",
        "message": "",
        "lastTransitionTime": since,
    }
    return {"conditions": [condition], "observedAt": now, **found}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def watch(publisher: Publisher, node: str, root: Path, interval: float, stop: threading.Event) -> None:
    """Publish at once, and again whenever something changed; while the API server is away try with growing pauses."""
    since = _now()
    published: dict[str, Any] | None = None
    failures = 0
    while not stop.is_set():
        found = profile(root, version=version())
        pause = interval
        if found != published:
            try:
                publisher.publish(node, status_of(found, since, _now()))
            except (PublishError, OSError) as error:
                sys.stderr.write(f"{error}\n")
                pause = min(interval * 2.0 ** min(failures, 8), LONGEST_PAUSE)
                failures += 1
            else:
                published, failures = found, 0
        stop.wait(pause * (0.8 + 0.4 * random.random()))  # noqa: S311 - spreads load


def main() -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="skerry-probe", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="folder with proc and sys of the node")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between looks")
    parser.add_argument("--print", action="store_true", help="print the profile and end")
    arguments = parser.parse_args()
    if arguments.print:
        sys.stdout.write(json.dumps(profile(arguments.root, version=version()), indent=2) + "\n")
        return 0
    node = os.environ.get("NODE_NAME", "")
    if not node:
        sys.stderr.write("NODE_NAME must name the node (from the downward API)\n")
        return 78
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
    watch(Publisher(host, port), node, arguments.root, arguments.interval, stop)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
