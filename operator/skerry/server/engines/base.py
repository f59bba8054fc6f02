"""The seam between protocols and frameworks."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from skerry.server.facts import Executor

Array = npt.NDArray[Any]


class Engine(Executor, Protocol):
    """A loaded model."""

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model; may be called from one thread at a time."""
        ...
