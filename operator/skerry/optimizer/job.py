"""The optimization Job: its surroundings in, progress lines, exit code and result out; see `skerry.api.jobcontract`."""

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from pydantic import ValidationError

from skerry.accelerators.catalogue import Catalogue, catalogue, checked
from skerry.api import jobcontract as contract
from skerry.api.jobcontract import ExitCode, JobResult, Progress, Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, ModelFacts
from skerry.optimizer.errors import (
    BadDataError,
    ConfigurationError,
    DeadlineError,
    OptimizationError,
    OutOfDiskError,
    OutOfMemoryError,
    UnsupportedFormatError,
)
from skerry.optimizer.pipeline import Surroundings, optimize, threads_here
from skerry.optimizer.toolshed import toolshed
from skerry.optimizer.transfer import Destination, Transfer
from skerry.store.errors import AccessError, DigestMismatchError, NotFoundError, StoreError, UnreachableError
from skerry.store.settings import Credentials, StoreSettings


class LineReporter:
    """Writes progress lines to a stream that nothing else writes to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.stage = Stage.WAITING
        self._percent = 0

    def progress(
        self,
        stage: Stage,
        percent: int,
        *,
        candidate: str | None = None,
        message: str = "",
        model: ModelFacts | None = None,
        result: CandidateResult | None = None,
    ) -> None:
        """Write one line."""
        self.stage, self._percent = stage, percent
        line = Progress(
            stage=stage, percent=percent, candidate=candidate, message=message, model=model, result=result
        ).line()
        print(line, file=self._stream, flush=True)

    def remark(self, message: str) -> None:
        """Write a line about the stage that goes on."""
        self.progress(self.stage, self._percent, message=message)


def _progress_stream() -> TextIO:
    """Return a stream to what was stdout, and turn stdout itself to stderr for all libraries and children."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return stream


def _required(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    message = f"the environment variable {name} is missing"
    raise ConfigurationError(message)


def _folder(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(value) if (value := environ.get(name)) else None


def _words(environ: Mapping[str, str], name: str) -> list[str]:
    return [word for word in environ.get(name, "").split(",") if word]


def _count(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name)
    if not value:
        return None
    if not value.isdecimal() or int(value) == 0:
        message = f"the environment variable {name} is {value!r}; a whole number above 0 is expected"
        raise ConfigurationError(message)
    return int(value)


def _spec(environ: Mapping[str, str]) -> OptimizationJobSpec:
    text = _required(environ, contract.ENV_SPEC)
    try:
        return OptimizationJobSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "spec"
        message = f"the spec is not valid: {where}: {first['msg']}"
        raise ConfigurationError(message) from error


def _catalogue(environ: Mapping[str, str]) -> Catalogue:
    """Return the entry that the operator gives, which may be the site's own; without one all built-in entries."""
    text = environ.get(contract.ENV_ACCELERATOR)
    return checked([json.loads(text)]) if text else catalogue()


_FAILURES: Final[tuple[tuple[type[Exception], ExitCode, JobReason], ...]] = (
    (DigestMismatchError, ExitCode.BAD_INPUT, JobReason.DIGEST_MISMATCH),
    (UnreachableError, ExitCode.UNAVAILABLE, JobReason.SOURCE_UNREACHABLE),
    (NotFoundError, ExitCode.UNAVAILABLE, JobReason.SOURCE_NOT_FOUND),
    (AccessError, ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION),
    (ConfigurationError, ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION),
    (UnsupportedFormatError, ExitCode.BAD_INPUT, JobReason.UNSUPPORTED_FORMAT),
    (BadDataError, ExitCode.BAD_INPUT, JobReason.BAD_DATA),
    (OutOfMemoryError, ExitCode.BAD_INPUT, JobReason.OUT_OF_MEMORY),
    (OutOfDiskError, ExitCode.BAD_INPUT, JobReason.OUT_OF_DISK),
    (DeadlineError, ExitCode.BAD_INPUT, JobReason.DEADLINE_EXCEEDED),
    (Exception, ExitCode.BAD_INPUT, JobReason.BAD_MODEL),
)
"""How errors end the Job; the first that fits counts."""


def failure(error: OptimizationError | StoreError, stage: Stage) -> tuple[ExitCode, JobReason]:
    """Return how an error ends the Job."""
    code, reason = next((code, reason) for kind, code, reason in _FAILURES if isinstance(error, kind))
    if reason is JobReason.SOURCE_UNREACHABLE and stage is Stage.PUBLISHING:
        reason = JobReason.REGISTRY_UNREACHABLE
    return code, reason


def run(environ: Mapping[str, str], reporter: LineReporter) -> tuple[ExitCode, JobResult]:
    """Do the Job's work; every foreseen error becomes an exit code and a result."""
    try:
        return ExitCode.FINISHED, _optimized(environ, reporter)
    except (OptimizationError, StoreError) as error:
        code, reason = failure(error, reporter.stage)
        return code, JobResult(reason=reason, message=str(error))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        message = "the work folder is full; raise the ephemeral-storage limit in spec.optimization.resources"
        return ExitCode.BAD_INPUT, JobResult(reason=JobReason.OUT_OF_DISK, message=message)


def _optimized(environ: Mapping[str, str], reporter: LineReporter) -> JobResult:
    spec = _spec(environ)
    source = spec.model.uri.partition("://")[2].partition("/")[0]
    repository = _required(environ, contract.ENV_PUSH_REPOSITORY)
    registry = repository.partition("/")[0]
    transfer = Transfer(
        settings=StoreSettings.from_env(environ),
        read=Credentials.from_folder(_folder(environ, contract.ENV_SOURCE_CREDENTIALS), source),
        write=Credentials.from_folder(_folder(environ, contract.ENV_PUSH_CREDENTIALS), registry),
        notify=reporter.remark,
    )
    where = Destination(
        repository,
        _required(environ, contract.ENV_PULL_REPOSITORY),
        _required(environ, contract.ENV_TAG),
    )
    work = _required(environ, contract.ENV_WORK)
    here = Surroundings(
        work=Path(work),
        node=environ.get(contract.ENV_NODE, ""),
        threads=threads_here(_count(environ, contract.ENV_CPU_LIMIT)),
        clock=lambda: datetime.now(UTC),
        memory_bytes=_count(environ, contract.ENV_MEMORY_LIMIT),
        catalogue=_catalogue(environ),
        ledger=transfer.ledger(where, Path(work) / "ledger", environ.get(contract.ENV_RUN, "")),
        shared=Path(work) / contract.SHARED_FOLDER,
        tools=toolshed(
            Path(work) / contract.SHARED_FOLDER / contract.WORKERS_FOLDER, _words(environ, contract.ENV_WORKERS)
        ),
    )
    outcome = optimize(spec, transfer, reporter, here)
    for result in outcome.results:
        reporter.progress(Stage.MEASURING, 92, candidate=result.name, result=result)
    reporter.progress(Stage.PUBLISHING, 95)
    published = transfer.publish(outcome, where, here.work)
    reporter.progress(Stage.DONE, 100, message=outcome.message[:2000])
    return JobResult(
        reason=outcome.reason,
        message=outcome.message,
        source_sha256=outcome.report.source_sha256,
        artifact=published.artifact,
        report_artifact=published.report,
        chosen=outcome.chosen,
        host=outcome.host,
    )


def main() -> int:
    """Run the Job; a defect ends it with a traceback in the log and exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    reporter = LineReporter(_progress_stream())
    log = Path(os.environ.get(contract.ENV_TERMINATION_LOG, "/dev/termination-log"))
    try:
        code, result = run(os.environ, reporter)
    except Exception as error:  # noqa: BLE001 - the last frame: say it where the operator looks
        traceback.print_exc()
        message = f"a defect of Skerry, please report it: {type(error).__name__}: {error}"
        log.write_text(
            JobResult(reason=JobReason.INTERNAL_ERROR, message=message).termination_message(), encoding="utf-8"
        )
        return 1
    log.write_text(result.termination_message(), encoding="utf-8")
    sys.stderr.write(f"{result.reason}: {result.message}\n")
    return code
