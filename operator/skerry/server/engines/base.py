"""The seam between protocols and frameworks."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]


class Engine(Protocol):
    """A loaded model."""

    @property
    def device(self) -> str:
        """The device that really executes, in the framework's words."""
        ...

    @property
    def precision(self) -> str:
        """The precision in which it was told to compute."""
        ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model; may be called from one thread at a time."""
        ...
