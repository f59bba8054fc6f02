"""The entry of the optimization Job: `python -m skerry.optimizer`; see `skerry.api.jobcontract`."""

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from pydantic import ValidationError

from skerry.api import jobcontract as contract
from skerry.api.jobcontract import ExitCode, JobResult, Progress, Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, ModelFacts
from skerry.optimizer.child import quiet_libraries
from skerry.optimizer.errors import (
    BadDataError,
    ChildDiedError,
    ConfigurationError,
    OptimizationError,
    UnsupportedFormatError,
)
from skerry.optimizer.pipeline import Surroundings, optimize, threads_here
from skerry.optimizer.transfer import Destination, Transfer
from skerry.store.errors import BadInputError, DigestMismatchError, StoreError, UnreachableError
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


# The first entry that fits an error counts.
_REASONS: Final[tuple[tuple[type[Exception], ExitCode, JobReason], ...]] = (
    (DigestMismatchError, ExitCode.BAD_INPUT, JobReason.DIGEST_MISMATCH),
    (UnreachableError, ExitCode.UNAVAILABLE, JobReason.SOURCE_UNREACHABLE),
    (UnsupportedFormatError, ExitCode.BAD_INPUT, JobReason.UNSUPPORTED_FORMAT),
    (BadDataError, ExitCode.BAD_INPUT, JobReason.BAD_DATA),
    (ConfigurationError, ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION),
    (BadInputError, ExitCode.BAD_INPUT, JobReason.BAD_MODEL),
    (OptimizationError, ExitCode.BAD_INPUT, JobReason.BAD_MODEL),
)


def _failure(error: Exception, stage: Stage) -> tuple[ExitCode, JobReason]:
    """Return how an error ends the Job."""
    if isinstance(error, UnreachableError) and stage is Stage.PUBLISHING:
        return ExitCode.UNAVAILABLE, JobReason.REGISTRY_UNREACHABLE
    if isinstance(error, ChildDiedError) and error.out_of_memory:
        return ExitCode.BAD_INPUT, JobReason.OUT_OF_MEMORY
    fitting = ((code, reason) for kind, code, reason in _REASONS if isinstance(error, kind))
    return next(fitting, (ExitCode.BAD_CONFIGURATION, JobReason.BAD_CONFIGURATION))


def run(environ: Mapping[str, str], reporter: LineReporter) -> tuple[ExitCode, JobResult]:
    """Do the Job's work; every foreseen error becomes an exit code and a result."""
    try:
        spec = OptimizationJobSpec.model_validate_json(_required(environ, contract.ENV_SPEC))
        transfer = Transfer(
            settings=StoreSettings.from_env(environ),
            read=Credentials.from_folder(_folder(environ, contract.ENV_SOURCE_CREDENTIALS)),
            write=Credentials.from_folder(_folder(environ, contract.ENV_PUSH_CREDENTIALS)),
            notify=reporter.remark,
        )
        where = Destination(
            _required(environ, contract.ENV_PUSH_REPOSITORY),
            _required(environ, contract.ENV_PULL_REPOSITORY),
            _required(environ, contract.ENV_TAG),
        )
        here = Surroundings(
            work=Path(_required(environ, contract.ENV_WORK)),
            node=environ.get(contract.ENV_NODE, ""),
            threads=threads_here(environ.get(contract.ENV_CPU_LIMIT)),
            clock=lambda: datetime.now(UTC),
        )
        outcome = optimize(spec, transfer, reporter, here)
        for result in outcome.results:
            reporter.progress(Stage.MEASURING, 92, candidate=result.name, result=result)
        reporter.progress(Stage.PUBLISHING, 95)
        published = transfer.publish(outcome, where, here.work)
        reporter.progress(Stage.DONE, 100, message=outcome.message[:2000])
        return ExitCode.FINISHED, JobResult(
            reason=outcome.reason,
            message=outcome.message,
            source_sha256=outcome.report.source_sha256,
            artifact=published.artifact,
            report_artifact=published.report,
            chosen=outcome.chosen,
            host=outcome.host,
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"the spec is not valid: {place}: {first['msg']}"
        return ExitCode.BAD_CONFIGURATION, JobResult(reason=JobReason.BAD_CONFIGURATION, message=message)
    except (OptimizationError, StoreError) as error:
        code, reason = _failure(error, reporter.stage)
        return code, JobResult(reason=reason, message=str(error))


def main() -> int:
    """Run the Job; a defect ends it with a traceback in the log and exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    quiet_libraries()
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


if __name__ == "__main__":
    raise SystemExit(main())
