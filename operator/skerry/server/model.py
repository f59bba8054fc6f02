"""A served model, whatever the protocol: its facts, what it accepts, and running it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from skerry.api.artifact import FACTS_FILE, VariantFacts
from skerry.api.types import TensorFacts, TensorType
from skerry.server import engines
from skerry.server.engines.base import Array, Engine
from skerry.server.errors import ArtifactError, RequestError

DTYPES: Final[Mapping[TensorType, Any]] = {
    TensorType.BOOL: np.dtype(np.bool_),
    TensorType.UINT8: np.dtype(np.uint8),
    TensorType.UINT16: np.dtype(np.uint16),
    TensorType.UINT32: np.dtype(np.uint32),
    TensorType.UINT64: np.dtype(np.uint64),
    TensorType.INT8: np.dtype(np.int8),
    TensorType.INT16: np.dtype(np.int16),
    TensorType.INT32: np.dtype(np.int32),
    TensorType.INT64: np.dtype(np.int64),
    TensorType.FP16: np.dtype(np.float16),
    TensorType.FP32: np.dtype(np.float32),
    TensorType.FP64: np.dtype(np.float64),
}
NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class ServedModel:
    """A loaded variant."""

    name: str
    facts: VariantFacts
    engine: Engine

    @staticmethod
    def load(folder: Path, name: str, threads: int) -> "ServedModel":
        """Load the variant in a folder.

        Raises:
            ArtifactError: There is none, or the runtime cannot load it.
        """
        file = folder / FACTS_FILE
        if not file.is_file():
            message = f"{folder} has no {FACTS_FILE}: the volume is empty or holds no Skerry variant"
            raise ArtifactError(message)
        try:
            facts = VariantFacts.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, ValidationError) as error:
            message = f"{file} cannot be read: {error}"
            raise ArtifactError(message) from error
        if not (folder / facts.model_file).is_file():
            message = f"{folder} has no {facts.model_file}, which its {FACTS_FILE} names"
            raise ArtifactError(message)
        try:
            model = ServedModel(name, facts, engines.load(facts, folder, threads))
            model.warm_up()
        except Exception as error:
            message = f"{facts.framework} cannot load {facts.model_file}: {error}"
            raise ArtifactError(message) from error
        return model

    def warm_up(self) -> None:
        """Run the model once on zeros, so that the first request finds everything in place."""
        zeros = {}
        for tensor in self.facts.inputs:
            shape = [1 if size < 0 else size for size in tensor.shape]
            zeros[tensor.name] = np.zeros(shape, DTYPES[tensor.dtype])
        self.engine.infer(zeros)

    def tensor(self, name: str) -> TensorFacts:
        """Return the facts of an input.

        Raises:
            RequestError: There is no such input.
        """
        for tensor in self.facts.inputs:
            if tensor.name == name:
                return tensor
        names = ", ".join(tensor.name for tensor in self.facts.inputs)
        raise RequestError(400, f"the model has no input {name!r}; its inputs are {names}")

    def check_shape(self, name: str, shape: Sequence[int]) -> None:
        """Refuse a shape that the model does not accept.

        Raises:
            RequestError: With the shape that is expected.
        """
        wanted = self.tensor(name).shape
        fits = len(shape) == len(wanted) and all(want in {-1, have} for want, have in zip(wanted, shape, strict=True))
        if not fits or 0 in shape:
            raise RequestError(400, f"input {name!r} has shape {list(shape)}, but {wanted} is expected (-1: any size)")

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on checked inputs.

        Raises:
            RequestError: An input is missing, or the model refuses the inputs.
        """
        missing = [tensor.name for tensor in self.facts.inputs if tensor.name not in inputs]
        if missing:
            raise RequestError(400, f"the input {', '.join(missing)} is missing")
        try:
            return self.engine.infer(inputs)
        except Exception as error:
            lines = str(error).splitlines()
            raise RequestError(400, f"the model refuses these inputs: {lines[0] if lines else error!r}") from error
