"""What calibration data is good for, before a quantizer is given it."""

from typing import Final

import numpy as np

from skerry.optimizer.backends.base import Array
from skerry.optimizer.data import MIN_SAMPLES, Samples, distribution
from skerry.optimizer.errors import BadDataError, ConfigurationError


def required(calibration: Samples | None) -> Samples:
    """Return the calibration data, in which something varies.

    Raises:
        ConfigurationError: There is none.
        BadDataError: It says nothing about the range of any activation.
    """
    if calibration is None:
        message = "quantizing activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    if all(_constant(array) for array in calibration.arrays.values()):
        values = ", ".join(f"{name!r} is {array.flat[0]:g}" for name, array in calibration.arrays.items())
        message = (
            f"the calibration data is the same number everywhere ({values}): it says nothing about the range of any "
            "activation; give samples as the model will see them"
        )
        raise BadDataError(message)
    return calibration


def remarks(calibration: Samples) -> list[str]:
    """Return what a person should know of data that works, but may mislead a quantizer."""
    found = []
    count = len(calibration)
    if count < MIN_SAMPLES:
        found.append(f"calibrated with {count} sample{'s' if count > 1 else ''}: ranges may be too narrow")
    elif all(_alike(array) for array in calibration.arrays.values()):
        found.append(f"all {count} calibration samples are the same: ranges may be too narrow")
    classes = list(distribution(calibration))
    if len(classes) == 1 and count > 1:
        found.append(f"all calibration samples are of class {classes[0]}: ranges of other classes are not in them")
    return found


SENSITIVITY_SAMPLES: Final = 32


def sampled(calibration: Samples) -> Samples:
    """Return samples to measure sensitivity with: some, spread over all."""
    count = min(len(calibration), SENSITIVITY_SAMPLES)
    return calibration.part(np.linspace(0, len(calibration) - 1, count).astype(np.intp))


def _constant(array: Array) -> bool:
    return bool((array == array.flat[0]).all())


def _alike(array: Array) -> bool:
    return bool((array == array[:1]).all())
