"""A registry process for tests."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skerry.store.references import Reference
from skerry.store.settings import StoreSettings

USER, PASSWORD = "edge", "letmein"
# bcrypt of the password above; registries take no other kind.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuKwWV7ESJpzKzf9FQg57dBvMuv92X9HS\n"
START_SECONDS = 30


@dataclass
class RunningRegistry:
    """A registry process that can be stopped and started again at the same address, with the same content."""

    program: Path
    folder: Path
    http: dict[str, Any] = field(default_factory=dict)
    auth: dict[str, Any] = field(default_factory=dict)
    address: str = "127.0.0.1:0"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RunningRegistry":
        """Start; the port that is free at the first start is kept."""
        config = self.folder / "config.json"  # JSON is YAML as well
        content = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.address, **self.http},
            **({"auth": self.auth} if self.auth else {}),
        }
        config.write_text(json.dumps(content), encoding="utf-8")
        log = self.folder / "log"
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [self.program, "serve", config],
                stdout=stream,
                stderr=stream,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )
        deadline = time.monotonic() + START_SECONDS
        while (found := re.search(r"listening on ([0-9.]+:[0-9]+)", log.read_text(encoding="utf-8"))) is None:
            assert self.process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.02)
        self.address = found.group(1)
        return self

    def stop(self) -> None:
        """Stop and wait for the end."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    @property
    def settings(self) -> StoreSettings:
        """Settings for a registry that speaks plain HTTP; failures are not tried again."""
        return StoreSettings(insecure=frozenset({self.address}), patience_seconds=0)

    def reference(self, path: str) -> Reference:
        """Return a reference in this registry."""
        return Reference.parse(f"{self.address}/{path}")

    def blobs(self) -> set[str]:
        """Return the digests of all blobs that are stored."""
        return {path.parent.name for path in (self.folder / "data").rglob("blobs/sha256/*/*/data")}


@dataclass(frozen=True)
class TlsRegistry:
    """A registry with TLS, and the authority that vouches for it."""

    registry: RunningRegistry
    ca_file: Path

    @property
    def settings(self) -> StoreSettings:
        """Settings that trust the registry."""
        return replace(self.registry.settings, insecure=frozenset(), ca_bundle=self.ca_file.read_text(encoding="utf-8"))
