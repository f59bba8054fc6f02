"""Making, running and searching with the tools of a worker."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CandidateRequest, CandidateResult, EvaluationMetric, Framework, ModelFormat
from skerry.optimizer import backends, child
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.bench import Bench, Subject
from skerry.optimizer.child import Place, Remote
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.data import Samples
from skerry.optimizer.measure import write_warm_model
from skerry.optimizer.pipeline import Surroundings, optimize
from skerry.optimizer.toolshed import Toolshed
from skerry.store.fetch import Fetched
from tests.unit.optimizer import models

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
Array = npt.NDArray[Any]


def samples(name: str = "image") -> Samples:
    """Return 50 samples for the classifier."""
    images, labels = models.digits()
    return Samples({name: images[:50]}, labels=labels[:50])


def work(source: Path, request: dict[str, Any], folder: Path, calibration: Samples | None) -> Work:
    """Return the work for one candidate."""
    folder.mkdir(parents=True)
    kind = ModelFormat.TFLITE if source.suffix == ".tflite" else ModelFormat.ONNX
    return Work(
        source=Source(source, kind, {source.name: source}),
        request=CandidateRequest.model_validate(request),
        folder=folder,
        calibration=calibration,
        metric=EvaluationMetric.ACCURACY,
        half_precision=None,
        native_int8=True,
    )


def make(place: Place, tool: str, wanted: Work) -> Made:
    """Make a candidate in a worker."""
    made: Made = child.call("making it", backends.make, tool, wanted, place=place)
    return made


def run(place: Place, framework: Framework, device: str, model: Path, made: Made, wanted: Samples) -> Array:
    """Return the first output of every sample."""
    subject = Subject("it", framework, model, made.settings, 1, device)
    warm = write_warm_model(model.parent.parent / "warm")
    with Remote("running it", Bench, subject, [wanted.sample(0)], warm, place=place) as bench:
        return np.asarray(bench.call("outputs", wanted))


@dataclass
class Results:
    """Keeps the results that are reported."""

    results: dict[str, CandidateResult] = field(default_factory=dict)

    def progress(self, *_: Any, **more: Any) -> None:
        """Take one line of progress."""
        if (result := more.get("result")) is not None:
            self.results[result.name] = result


class LocalFiles:
    """Sources that are files already."""

    def fetch(self, uri: str, sha256: str | None, folder: Path) -> Fetched:
        """Return a file."""
        del sha256, folder
        return Fetched(Path(uri), hashlib.sha256(Path(uri).read_bytes()).hexdigest(), 1)


def search(folder: Path, tools: Toolshed, model: Path, data: Path, **spec: Any) -> tuple[Outcome, Results]:
    """Search with all tools."""
    document = {"model": {"uri": str(model)}, "evaluation": {"uri": str(data)}, **spec}
    lines = Results()
    here = Surroundings(folder / "work", "node-1", 1, lambda: NOW, tools=tools)
    return optimize(OptimizationJobSpec.model_validate(document), LocalFiles(), lines, here), lines
