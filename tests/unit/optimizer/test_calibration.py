"""What calibration data must have in it."""

import numpy as np
import pytest

from skerry.optimizer.backends import calibration
from skerry.optimizer.backends.base import Array
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, ConfigurationError


def test_real_samples_are_given_back() -> None:
    samples = Samples({"x": np.array([[0.0], [1.0]]), "mask": np.ones((2, 1), np.int64)})
    assert calibration.required(samples) is samples


@pytest.mark.parametrize("array", [np.zeros((5, 2)), np.full((5, 2), 0.5), np.ones((5, 2), np.uint8)])
def test_samples_that_are_all_the_same_number(array: Array) -> None:
    with pytest.raises(BadDataError, match=rf"the same number everywhere \('x' is {array.flat[0]:g}\)"):
        calibration.required(Samples({"x": array}))


def test_no_samples() -> None:
    with pytest.raises(ConfigurationError, match="needs calibration or evaluation data"):
        calibration.required(None)
