"""Samples without which nothing can be quantized, and samples that teach nothing."""

from pathlib import Path

import numpy as np
import pytest

from skerry.api.types import CandidateRequest, Framework, ModelFormat, Precision, Technique
from skerry.optimizer.backends import calibration
from skerry.optimizer.backends.base import Source, Work
from skerry.optimizer.data import Array, Samples
from skerry.optimizer.errors import BadDataError, ConfigurationError


def work(tmp_path: Path, samples: Samples | None) -> Work:
    return Work(
        source=Source(tmp_path / "m.onnx", ModelFormat.ONNX, {}),
        request=CandidateRequest(
            framework=Framework.QNN, precision=Precision.INT8, technique=Technique.POST_TRAINING, options={}
        ),
        folder=tmp_path,
        calibration=samples,
        metric=None,
        half_precision=None,
        native_int8=False,
    )


def test_real_samples_are_given_back(tmp_path: Path) -> None:
    samples = Samples({"x": np.array([[0.0], [1.0]]), "mask": np.ones((2, 1), np.int64)})
    assert calibration.required(work(tmp_path, samples)) is samples


@pytest.mark.parametrize("array", [np.zeros((5, 2)), np.full((5, 2), 0.5), np.ones((5, 2), np.uint8)])
def test_samples_that_are_all_the_same_number(tmp_path: Path, array: Array) -> None:
    with pytest.raises(BadDataError, match=rf"x is {array.flat[0]:g} everywhere; give real samples"):
        calibration.required(work(tmp_path, Samples({"x": array})).calibration)


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs calibration or evaluation data"):
        calibration.required(work(tmp_path, None).calibration)
