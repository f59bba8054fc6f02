"""Settings of the operator, from environment variables that the chart sets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from skerry.accelerators.catalogue import Catalogue, CatalogueError, catalogue, from_file
from skerry.manifests.settings import InstallationSettings

ENV_INSTALLATION: Final = "SKERRY_INSTALLATION"
"""JSON of `skerry.manifests.settings.InstallationSettings`."""
ENV_CATALOGUE: Final = "SKERRY_CATALOGUE"
"""File with the accelerators that are known here; none: the built-in ones."""
ENV_NAMESPACE: Final = "SKERRY_NAMESPACE"
"""The operator's own namespace."""
ENV_WATCH: Final = "SKERRY_WATCH_NAMESPACES"
"""Namespaces that are watched, separated by commas; empty: all."""
ENV_RESYNC: Final = "SKERRY_RESYNC_SECONDS"
"""How often every object is looked at even when nothing happened."""
ENV_METRICS_PORT: Final = "SKERRY_METRICS_PORT"
ENV_HEALTH_PORT: Final = "SKERRY_HEALTH_PORT"
ENV_WORKERS: Final = "SKERRY_WORKERS"
"""How many objects are reconciled at once."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable."""


@dataclass(frozen=True)
class Settings:
    """Settings of the operator."""

    installation: InstallationSettings
    namespace: str
    catalogue: Catalogue = field(default_factory=catalogue)
    watch: tuple[str, ...] = ()
    resync_seconds: int = 300
    metrics_port: int = 8080
    health_port: int = 8081
    workers: int = 4

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> "Settings":
        """Read the variables.

        Raises:
            SettingsError: One is missing or wrong.
        """
        try:
            document: Any = json.loads(environ.get(ENV_INSTALLATION, ""))
            installation = InstallationSettings.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"{ENV_INSTALLATION}: {place}: {first['msg']}"
            raise SettingsError(message) from error
        except ValueError as error:
            message = f"{ENV_INSTALLATION} must hold the installation's settings as JSON: {error}"
            raise SettingsError(message) from error
        namespace = environ.get(ENV_NAMESPACE, "")
        if not namespace:
            message = f"{ENV_NAMESPACE} must name the operator's own namespace"
            raise SettingsError(message)
        try:
            known = from_file(Path(file)) if (file := environ.get(ENV_CATALOGUE)) else catalogue()
        except CatalogueError as error:
            message = f"{ENV_CATALOGUE}: {error}"
            raise SettingsError(message) from error
        return Settings(
            installation=installation,
            catalogue=known,
            namespace=namespace,
            watch=tuple(name.strip() for name in environ.get(ENV_WATCH, "").split(",") if name.strip()),
            resync_seconds=_number(environ, ENV_RESYNC, 300, least=10),
            metrics_port=_number(environ, ENV_METRICS_PORT, 8080, least=1),
            health_port=_number(environ, ENV_HEALTH_PORT, 8081, least=1),
            workers=_number(environ, ENV_WORKERS, 4, least=1),
        )


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdigit() or int(text) < least:
        message = f"{name} must be a whole number of at least {least}, not {text!r}"
        raise SettingsError(message)
    return int(text)
