"""A served model, whatever the protocol: its facts, what it accepts, and running it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skerry.api.artifact import VariantFacts
from skerry.api.types import TensorFacts
from skerry.server import engines
from skerry.server.engines.base import Array, Engine
from skerry.server.errors import ArtifactError, RequestError, shown
from skerry.server.facts import read_facts
from skerry.server.values import DTYPES, NAMES


@dataclass(frozen=True)
class ServedModel:
    """A loaded variant.

    Attributes:
        name: Under which clients ask for it.
        facts: What is known of it.
        engine: What runs it.
        largest_batch: Most samples of one request where the model leaves their number free: memory grows with it.
    """

    name: str
    facts: VariantFacts
    engine: Engine
    largest_batch: int

    @staticmethod
    def load(folder: Path, name: str, threads: int, largest_batch: int) -> "ServedModel":
        """Load the variant in a folder and run it once.

        Raises:
            ArtifactError: There is none, or the runtime cannot load or run it.
        """
        facts = read_facts(folder)
        for tensor in (*facts.inputs, *facts.outputs):
            if tensor.dtype not in DTYPES:
                message = f"the tensor {tensor.name!r} is of the type {tensor.dtype}, which this server does not serve"
                raise ArtifactError(message)
        try:
            model = ServedModel(name, facts, engines.load(facts, folder, threads), largest_batch)
            found = model.engine.infer(model.zeros())
        except Exception as error:
            message = f"{facts.framework} cannot load {facts.model_file}: {error}"
            raise ArtifactError(message) from error
        for tensor in facts.outputs:
            made = found[tensor.name].dtype if tensor.name in found else "missing"
            if made not in NAMES:
                message = f"the output {tensor.name!r} of {facts.model_file} cannot be served: it is {made}"
                raise ArtifactError(message)
        return model

    def zeros(self) -> dict[str, Array]:
        """Return the smallest inputs that the model takes."""
        return {
            tensor.name: np.zeros([max(1, size) for size in tensor.shape], DTYPES[tensor.dtype])
            for tensor in self.facts.inputs
        }

    def tensor(self, name: str) -> TensorFacts:
        """Return the facts of an input.

        Raises:
            RequestError: There is no such input.
        """
        for tensor in self.facts.inputs:
            if tensor.name == name:
                return tensor
        names = ", ".join(tensor.name for tensor in self.facts.inputs)
        raise RequestError(400, f"the model has no input {shown(name)}; its inputs are {names}")

    def check_shape(self, tensor: TensorFacts, shape: Sequence[int]) -> None:
        """Refuse a shape that the model does not accept; a batch is what the model says, and nothing is split.

        Raises:
            RequestError: With the shape that is expected.
        """
        wanted = tensor.shape
        fits = len(shape) == len(wanted) and all(
            have == want >= 0 or want < 0 < have for want, have in zip(wanted, shape, strict=True)
        )
        if not fits:
            raise RequestError(
                400, f"input {tensor.name!r} has shape {shown(shape)}, but {wanted} is expected (-1: any size)"
            )
        # A single free dimension is a length, of a sound for example.
        if len(wanted) > 1 and wanted[0] < 0 and shape[0] > self.largest_batch:
            raise RequestError(
                400,
                f"input {tensor.name!r} has {shape[0]} samples, but a request may have at most {self.largest_batch}; "
                "send several requests, or start the server with a larger SKERRY_SERVER_MAX_BATCH",
            )

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on checked inputs.

        Raises:
            RequestError: 400 when an input is missing or the model refuses the inputs; 500 when the model does not
                take its own smallest inputs any more, so that the fault is not the client's.
        """
        missing = [tensor.name for tensor in self.facts.inputs if tensor.name not in inputs]
        if missing:
            raise RequestError(400, f"the input {', '.join(missing)} is missing")
        try:
            return self.engine.infer(inputs)
        except Exception as error:
            said = (str(error).splitlines() or [repr(error)])[0]
            try:
                self.engine.infer(self.zeros())
            except Exception as broken:
                raise RequestError(500, f"the device cannot run the model any more: {said}") from broken
            raise RequestError(400, f"the model refuses these inputs: {said}") from error
