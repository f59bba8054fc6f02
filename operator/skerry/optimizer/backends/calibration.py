"""The samples that quantization looks at."""

import numpy as np

from skerry.optimizer.backends.base import Work
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError, ConfigurationError


def required(work: Work) -> Samples:
    """Return the calibration samples of a work that needs some.

    Raises:
        ConfigurationError: There are none.
        BadDataError: They are all the same number, so that nothing could be learnt from them.
    """
    if work.calibration is None:
        message = "quantizing activations needs calibration or evaluation data"
        raise ConfigurationError(message)
    arrays = work.calibration.arrays
    if all(array.size and array.min() == array.max() for array in arrays.values()):
        values = ", ".join(f"{name} is {np.asarray(array).flat[0]:g} everywhere" for name, array in arrays.items())
        message = f"the calibration data says nothing about the range of activations: {values}; give real samples"
        raise BadDataError(message)
    return work.calibration
