"""The entry of the operator: `python -m skerry.controllers`."""

import asyncio
import logging
import os
import sys

import kopf

from skerry.controllers.metrics import Metrics
from skerry.controllers.operator import Operator
from skerry.controllers.settings import Settings, SettingsError


def main() -> int:
    """Run until SIGTERM; exit 78 when a setting is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    os.environ.setdefault("LOGNAME", "skerry")  # kopf asks for a user name, and a container's user has none
    metrics = Metrics()
    metrics.serve(settings.metrics_port)
    registry = kopf.OperatorRegistry()
    Operator(settings, metrics).register(registry)
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            clusterwide=not settings.watch,
            namespaces=settings.watch,
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
