"""Models and data that several tests share."""

from pathlib import Path

import pytest

from tests.unit.optimizer import models


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with a small convolutional classifier."""
    return models.save(tmp_path_factory.mktemp("model") / "digits.onnx", models.classifier())


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Npz file with 200 labelled samples for the classifier."""
    images, labels = models.digits()
    return models.save_data(tmp_path_factory.mktemp("data") / "test.npz", image=images, labels=labels)
