"""What is made once for all unit tests."""

from pathlib import Path

import pytest

from tests.support import reports


@pytest.fixture(scope="session")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real optimization of a small model, with its report."""
    return reports.real(tmp_path_factory.mktemp("optimized"))
