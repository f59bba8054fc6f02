"""An API server and a catalogue for the probe."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from skerry.accelerators.catalogue import catalogue as built_in
from skerry.accelerators.catalogue import dump
from tests.unit.probe.apiserver import ApiServer


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA, tmp_path: Path) -> Iterator[ApiServer]:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    started = ApiServer(account, authority)
    yield started
    started.close()


@pytest.fixture
def catalogue() -> list[dict[str, Any]]:
    """Return the catalogue's entries as the probe gets them."""
    entries: list[dict[str, Any]] = json.loads(dump(built_in()))
    return entries
