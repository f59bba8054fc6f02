"""`python -m skerry.server`: serve the variant that is mounted at a folder."""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import uvicorn

from skerry.server.app import App, Limits
from skerry.server.errors import ArtifactError

BAD_ARTIFACT: Final = 65
_TERMINATION_LOG: Final = Path("/dev/termination-log")


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="skerry-server", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="folder with skerry.json and the model's files")
    parser.add_argument("--model-name", required=True, help="name under which clients ask for the model")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - a pod has its own
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    threads = int(os.environ.get("SKERRY_SERVER_THREADS") or len(os.sched_getaffinity(0)))
    parser.add_argument("--threads", type=int, default=threads, help="threads of the model")
    parser.add_argument("--max-body-bytes", type=int, default=Limits.body_bytes, help="most bytes of a request")
    parser.add_argument("--max-waiting", type=int, default=Limits.waiting, help="most requests that wait for the model")
    parser.add_argument("--grace-seconds", type=int, default=20, help="for how long requests are finished at the end")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Serve until SIGTERM; exit 0, or 65 when the variant cannot be loaded."""
    given = _arguments(words)
    limits = Limits(body_bytes=given.max_body_bytes, waiting=given.max_waiting)
    app = App(given.model_dir, given.model_name, max(1, given.threads), limits)
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=given.grace_seconds,
    )
    server = uvicorn.Server(config)
    failures: list[ArtifactError] = []

    def fail(error: ArtifactError) -> None:
        failures.append(error)
        sys.stderr.write(f"{error}\n")
        with contextlib.suppress(OSError):
            _TERMINATION_LOG.write_text(str(error), encoding="utf-8")
        server.should_exit = True

    app.on_failure = fail
    server.run()
    return BAD_ARTIFACT if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
