"""What is known of a served variant, whatever its kind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from skerry.api.artifact import FACTS_FILE, VariantFacts
from skerry.api.types import TensorFacts
from skerry.server.errors import ArtifactError


def read_facts(folder: Path) -> VariantFacts:
    """Return the facts of the variant in a folder.

    Raises:
        ArtifactError: There is none.
    """
    file = folder / FACTS_FILE
    try:
        facts = VariantFacts.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        message = f"{folder} has no {FACTS_FILE}: the volume is empty or holds no Skerry variant"
        raise ArtifactError(message) from error
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file} cannot be read: {error}"
        raise ArtifactError(message) from error
    if not (folder / facts.model_file).is_file():
        message = f"{folder} has no {facts.model_file}, which its {FACTS_FILE} names"
        raise ArtifactError(message)
    return facts


class Executor(Protocol):
    """What executes a model."""

    @property
    def device(self) -> str:
        """The device that really executes, in the framework's words."""
        ...

    @property
    def precision(self) -> str:
        """The precision in which it was told to compute."""
        ...


@dataclass(frozen=True)
class Served:
    """A variant that is loaded.

    Attributes:
        name: Under which clients ask for it.
        facts: What is known of it.
        executor: What executes it.
    """

    name: str
    facts: VariantFacts
    executor: Executor

    @property
    def device(self) -> str:
        """The device that really executes it, in the framework's words."""
        return self.executor.device

    @property
    def verified(self) -> bool:
        """Whether the device that executes is the one that the variant was made for."""
        return self.device == self.facts.device

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the Open Inference Protocol, with what Skerry knows of it under `skerry`."""
        facts = self.facts
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": f"{facts.framework.lower()}_{facts.model_file.rsplit('.', 1)[-1]}",
            "inputs": [_described(tensor) for tensor in facts.inputs],
            "outputs": [_described(tensor) for tensor in facts.outputs],
            "skerry": {
                "variant": facts.name,
                "framework": facts.framework,
                "precision": facts.precision,
                "technique": facts.technique,
                "accelerator": facts.accelerator,
                "executionDevice": self.device,
                "expectedDevice": facts.device,
                "executionPrecision": self.executor.precision,
                "sourceSha256": facts.provenance.source_sha256,
            },
        }


def _described(tensor: TensorFacts) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape}
