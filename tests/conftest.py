"""Fixtures of several folders, and what must be set before a library is imported."""

import os

import pytest

from devcluster import Cluster
from tests.support.installation import install

# OpenVINO, NNCF and Olive would write about their use into the home folder otherwise.
os.environ.update({"CI": "true", "ORT_DISABLE_TELEMETRY": "1"})


@pytest.fixture(scope="session")
def skerry() -> Cluster:
    """The development cluster with this checkout's Skerry installed."""
    cluster = Cluster.default()
    cluster.up()
    install(cluster)
    return cluster
