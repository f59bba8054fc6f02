"""For tests that do not hang on precise figures."""

import os

import pytest


def measure_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have candidates and baseline run as little as can be."""
    from skerry.optimizer import measure, streams  # noqa: PLC0415 - only where its packages are

    for name, value in {"FIRST_ROUNDS": 2, "MAX_ROUNDS": 2, "MIN_ROUNDS": 1, "ROUND_SECONDS": 0.005}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(streams, "SECONDS", 0.01)


def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back at the end what an optimization sets for its child processes."""
    for name in ("TMPDIR", "CI", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
