"""An optimization from URI to outcome: what the Job and the command line have in common."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from skerry.accelerators import cpu
from skerry.accelerators.catalogue import Catalogue, catalogue
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import CalibrationData, EvaluationData
from skerry.optimizer import child
from skerry.optimizer.conclude import Origin, Outcome, conclude
from skerry.optimizer.data import MAX_BYTES
from skerry.optimizer.errors import BadDataError, ConfigurationError
from skerry.optimizer.ledger import Ledger, NoLedger
from skerry.optimizer.redaction import public_uri
from skerry.optimizer.search import Reporter, StageClock, search
from skerry.optimizer.toolshed import Toolshed, toolshed
from skerry.optimizer.trials import Inputs
from skerry.store.errors import BadInputError, DigestMismatchError, NotFoundError
from skerry.store.fetch import Fetched

_SHOWN: Final = 5


class Fetcher(Protocol):
    """Brings sources here."""

    def fetch(self, uri: str, sha256: str | None, folder: Path) -> Fetched:
        """Bring a source into a folder of its own, verified.

        Raises:
            StoreError: It cannot be had, or is not what was named.
        """
        ...


@dataclass(frozen=True)
class Surroundings:
    """Where an optimization runs.

    Attributes:
        work: Folder for what workers must not see: records and the variant that is published.
        node: Name of the machine.
        threads: Number of threads that models run with.
        clock: Tells the time, with its zone.
        memory_bytes: Memory limit; None when there is none.
        catalogue: The accelerators that can be optimized for.
        tools: Where the tools are.
        ledger: What was measured before an interruption.
        shared: Folder that workers share: sources, data, candidates; None: the work folder.
    """

    work: Path
    node: str
    threads: int
    clock: Callable[[], datetime]
    memory_bytes: int | None = None
    catalogue: Catalogue = field(default_factory=catalogue)
    tools: Toolshed = field(default_factory=toolshed)
    ledger: Ledger = field(default_factory=NoLedger)
    shared: Path | None = None

    @property
    def common(self) -> Path:
        """Folder for everything that workers see as well."""
        return self.shared or self.work

    @property
    def max_data_bytes(self) -> int:
        """Most bytes of one data file, unpacked."""
        return MAX_BYTES if self.memory_bytes is None else min(MAX_BYTES, self.memory_bytes // 4)


def threads_here(limit: int | None) -> int:
    """Return how many threads models run with: the CPU limit in whole cores, at most what the machine has."""
    usable = len(os.sched_getaffinity(0))
    return usable if limit is None else max(1, min(usable, limit))


def optimize(spec: OptimizationJobSpec, fetcher: Fetcher, reporter: Reporter, here: Surroundings) -> Outcome:
    """Fetch, search and conclude; publishing is the caller's.

    Raises:
        OptimizationError: Model, data or configuration is bad.
        StoreError: A source cannot be had.
    """
    entry = here.catalogue.get(spec.accelerator)
    if entry is None:
        message = f"no accelerator {spec.accelerator!r} in the catalogue: there is {', '.join(here.catalogue)}"
        raise ConfigurationError(message)
    child.prepare_environment(here.work, here.threads)
    clock = StageClock()

    def fetched(data: CalibrationData | EvaluationData | None, name: str) -> Fetched | None:
        if data is None:
            return None
        reporter.progress(Stage.FETCHING, 4, message=data.uri)
        try:
            found = fetcher.fetch(data.uri, data.sha256, here.common / name)
        except (DigestMismatchError, NotFoundError):
            raise
        except BadInputError as error:
            raise BadDataError(str(error)) from error
        if found.path.is_dir():
            files = sorted(path.relative_to(found.path).as_posix() for path in found.path.rglob("*") if path.is_file())
            message = f"{data.uri} has several files ({', '.join(files[:_SHOWN])}); data is one file: name that alone"
            raise BadDataError(message)
        return found

    with clock.timed(Stage.FETCHING):
        reporter.progress(Stage.FETCHING, 0, message=spec.model.uri)
        model = fetcher.fetch(spec.model.uri, spec.model.sha256, here.common / "source")
        calibration = fetched(spec.calibration, "calibration")
        evaluation = fetched(spec.evaluation, "evaluation")
    inputs = Inputs(
        spec=spec,
        model=model.path,
        calibration=calibration.path if calibration else None,
        evaluation=evaluation.path if evaluation else None,
        entry=entry,
        cpu=cpu.read(),
        threads=here.threads,
        max_data_bytes=here.max_data_bytes,
        tools=here.tools,
        digests={
            name: fetched.sha256
            for name, fetched in (("model", model), ("calibration", calibration), ("evaluation", evaluation))
            if fetched is not None
        },
        ledger=here.ledger,
        roots=(model.path if model.path.is_dir() else model.path.parent, here.common),
    )
    found = search(inputs, reporter, here.common / "candidates", clock)
    origin = Origin(
        model=(public_uri(spec.model.uri), model.sha256),
        calibration=(public_uri(spec.calibration.uri), calibration.sha256)
        if spec.calibration and calibration
        else None,
        evaluation=(public_uri(spec.evaluation.uri), evaluation.sha256) if spec.evaluation and evaluation else None,
        node=here.node,
    )
    return conclude(inputs, found, origin, here.work, here.clock(), clock.seconds)
