"""An API server for the probe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

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
