"""Models and data that several tests share."""

from pathlib import Path

import pytest

from tests.measuring import measure_little, own_environment
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


@pytest.fixture(scope="session")
def depthwise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `depthwise.onnx`, which INT8 by default ruins, `calibration.npz` and `test.npz`."""
    from tests.unit.optimizer import nets  # noqa: PLC0415 - JAX is heavy

    return nets.write_depthwise(tmp_path_factory.mktemp("depthwise"), spread=1.0)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder.onnx`, which has outliers, `calibration.npz` and `test.npz`."""
    from tests.unit.optimizer import nets  # noqa: PLC0415 - JAX is heavy

    return nets.write_encoder(tmp_path_factory.mktemp("encoder"), factor=200.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure little: for tests that do not hang on precise figures."""
    measure_little(monkeypatch)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what an optimization sets for its child processes."""
    own_environment(monkeypatch)
