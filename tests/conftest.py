"""Fixtures of several folders."""

import pytest

from devcluster import Cluster
from tests.support.installation import install


@pytest.fixture(scope="session")
def skerry() -> Cluster:
    """The development cluster with this checkout's Skerry installed."""
    cluster = Cluster.default()
    cluster.up()
    install(cluster)
    return cluster
