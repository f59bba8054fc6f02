"""An optimization from URI to outcome: what the Job and the command line have in common."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from skerry.accelerators import cpu
from skerry.accelerators.catalogue import catalogue
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CalibrationData, EvaluationData
from skerry.optimizer.conclude import Origin, Outcome, conclude
from skerry.optimizer.errors import ConfigurationError
from skerry.optimizer.search import Inputs, Reporter, search
from skerry.optimizer.transfer import Transfer


@dataclass(frozen=True)
class Surroundings:
    """Where an optimization runs.

    Attributes:
        work: Folder for everything that is written.
        node: Name of the machine.
        threads: Number of threads that models run with.
        clock: Tells the time, with its zone.
    """

    work: Path
    node: str
    threads: int
    clock: Callable[[], datetime]


def threads_here(limit: str | None) -> int:
    """Return how many threads models run with: the CPU limit in whole cores, else what the machine has."""
    usable = len(os.sched_getaffinity(0))
    return max(1, min(usable, int(limit))) if limit else usable


def optimize(spec: OptimizationJobSpec, transfer: Transfer, reporter: Reporter, here: Surroundings) -> Outcome:
    """Fetch, search and conclude; publishing is the caller's.

    Raises:
        OptimizationError: Model, data or configuration is bad.
        StoreError: A source cannot be had.
    """
    entry = catalogue().get(spec.accelerator)
    if entry is None:
        message = f"no accelerator {spec.accelerator!r} in the catalogue: there are {', '.join(catalogue())}"
        raise ConfigurationError(message)
    reporter.progress(Stage.FETCHING, 0, message=spec.model.uri)
    model = transfer.fetch(spec.model.uri, spec.model.sha256, here.work / "source")

    def fetched(data: CalibrationData | EvaluationData | None, name: str) -> tuple[Path, str] | None:
        if data is None:
            return None
        reporter.progress(Stage.FETCHING, 4, message=data.uri)
        found = transfer.fetch(data.uri, data.sha256, here.work / name)
        return found.path, found.sha256

    calibration = fetched(spec.calibration, "calibration")
    evaluation = fetched(spec.evaluation, "evaluation")
    inputs = Inputs(
        spec=spec,
        model=model.path,
        calibration=calibration[0] if calibration else None,
        evaluation=evaluation[0] if evaluation else None,
        entry=entry,
        cpu=cpu.read(),
        threads=here.threads,
    )
    found = search(inputs, reporter, here.work / "candidates")
    origin = Origin(
        model=(spec.model.uri, model.sha256),
        calibration=(spec.calibration.uri, calibration[1]) if spec.calibration and calibration else None,
        evaluation=(spec.evaluation.uri, evaluation[1]) if spec.evaluation and evaluation else None,
        node=here.node,
    )
    return conclude(inputs, found, origin, here.work, here.clock())
