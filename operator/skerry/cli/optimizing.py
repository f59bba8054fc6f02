"""The work of `skerry optimize`: options into a spec, the optimization itself, and what is left on disk."""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from skerry.accelerators.catalogue import catalogue
from skerry.api.jobcontract import Stage
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.pods import OptimizationSettings
from skerry.api.types import (
    CalibrationData,
    CandidateRequest,
    DataFormat,
    EvaluationData,
    EvaluationMetric,
    Gate,
    Goal,
    InputShape,
    Metric,
    ModelFormat,
    ModelSource,
    Objective,
    WhenNoneQualifies,
    default_gates,
)
from skerry.cli.artifacts import credentials_for, parse_reference, settings_with
from skerry.cli.errors import CommandError
from skerry.cli.optimize import Access, Wishes
from skerry.cli.optimize_view import Screen, libraries_to_log
from skerry.optimizer import boundary, pipeline
from skerry.optimizer.conclude import Outcome
from skerry.optimizer.errors import ConfigurationError, OptimizationError
from skerry.optimizer.ledger import FolderLedger
from skerry.optimizer.rendering.files import report_files
from skerry.optimizer.toolshed import toolshed
from skerry.optimizer.transfer import Destination, Transfer
from skerry.optimizer.worker import listening
from skerry.planning import candidates
from skerry.store import trees
from skerry.store.errors import DigestMismatchError
from skerry.store.fetch import Fetched
from skerry.store.references import SCHEME
from skerry.store.settings import Credentials, StoreSettings

NONE_PASSED: Final = 1
"""Exit code when no candidate passes the gates: all went well, but there is nothing to serve."""
LOG_FILE: Final = "optimize.log"
VARIANT_FOLDER: Final = "variant"
REPORT_JSON: Final = "report.json"
_NEW: Final = ".new"
PROGRESS_FOLDER: Final = "progress"
_LOCAL: Final = "file://"
_WORDS_OF_A_GATE: Final = 3
_OPTION: Final = re.compile(r"(?:[^,\\]|\\.)+", re.DOTALL)
_UNESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SHA256: Final = re.compile("[0-9a-f]{64}")
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True)
class _Fetcher:
    """Reads local files where they are, and gets everything else through the store.

    Attributes:
        transfer: How things cross the network.
        copies: Whether local files are copied, because workers see the work folder alone.
    """

    transfer: Transfer
    copies: bool

    def fetch(self, uri: str, sha256: str | None, folder: Path) -> Fetched:
        """Return a source's files, verified."""
        if not uri.startswith(_LOCAL):
            return self.transfer.fetch(uri, sha256, folder)
        path = Path(uri.removeprefix(_LOCAL))
        found = trees.sha256(path)
        if sha256 is not None and found != sha256:
            raise DigestMismatchError(str(path), sha256, found)
        if self.copies:
            path = self._copied(path, folder)
        return Fetched(path, found, trees.size(path))

    def _copied(self, path: Path, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            for name, file in boundary.regular_files(path).items():
                boundary.copy(file, folder / name)
            return folder
        target = folder / path.name
        boundary.copy(path.resolve(), target)
        return target


def run(wishes: Wishes, access: Access) -> int:
    """Optimize as wished, show how it goes, and return the exit code.

    Raises:
        CommandError: An option, the model or the data is wrong.
        StoreError: A source or the registry cannot be reached.
    """
    spec = spec_of(wishes)
    transfer, destination = _transfer(wishes, access)
    folder = _out_folder(wishes)
    with (
        _alone(folder),
        tempfile.TemporaryDirectory(prefix="skerry-optimize-", dir=wishes.workers) as work,
        libraries_to_log(folder / LOG_FILE) as (stdout, stderr),
    ):
        with Screen(stderr) as screen:
            here = _surroundings(wishes, Path(work), folder)
            outcome = _optimize(spec, _Fetcher(transfer, copies=wishes.workers is not None), screen, here)
            published = None
            if destination is not None:
                screen.progress(Stage.PUBLISHING, 95, message=destination.push_repository)
                published = transfer.publish(outcome, destination, Path(work))
            screen.progress(Stage.DONE, 100)
        report = _write(outcome, folder)
        if wishes.as_json:
            stdout.write(report)
        else:
            screen.summary(stdout, outcome, folder, published)
    return 0 if outcome.chosen is not None else NONE_PASSED


def _surroundings(wishes: Wishes, work: Path, folder: Path) -> pipeline.Surroundings:
    """Return where the optimization runs, with the tools of workers as well."""
    workers = wishes.workers
    groups = [] if workers is None else listening(workers)
    if workers is not None and not groups:
        message = f"no worker listens in {workers}: start one, as docs/tools.md says, and look at what it prints"
        raise CommandError(message, os.EX_UNAVAILABLE)
    records = folder / PROGRESS_FOLDER
    if not wishes.resume:
        shutil.rmtree(records, ignore_errors=True)
    return pipeline.Surroundings(
        work=work,
        node=platform.node(),
        threads=pipeline.threads_here(wishes.threads),
        clock=lambda: datetime.now(UTC),
        tools=toolshed(workers, groups),
        ledger=FolderLedger(records),
    )


def _optimize(spec: OptimizationJobSpec, fetcher: _Fetcher, screen: Screen, here: pipeline.Surroundings) -> Outcome:
    try:
        return pipeline.optimize(spec, fetcher, screen, here)
    except KeyboardInterrupt:
        screen.line("interrupted; what was measured is kept: the same command with --resume goes on")
        raise
    except ConfigurationError as error:
        raise CommandError(str(error), os.EX_USAGE) from error
    except OptimizationError as error:
        raise CommandError(str(error), os.EX_DATAERR) from error


def _transfer(wishes: Wishes, access: Access) -> tuple[Transfer, Destination | None]:
    """Return how things cross the network, and where the result goes; the options speak of one registry."""
    push = wishes.push
    sources = (text for text in (wishes.model, wishes.data, wishes.calibration) if text and text.startswith(SCHEME))
    registry = push or next(sources, None)
    personal = Credentials.from_env(os.environ)
    hosts = _hosts(personal) if access.insecure else set()
    if registry is None:
        settings = settings_with(hosts, ca_file=access.ca_file, patience=access.patience)
        return Transfer(settings, personal, Credentials()), None
    reference = parse_reference(registry)
    if push is not None and (reference.tag is None or reference.digest is not None):
        message = f"--push {push!r} needs a tag and no digest: oci://REGISTRY[:PORT]/REPOSITORY:TAG"
        raise CommandError(message, os.EX_USAGE)
    hosts |= {reference.host} if access.insecure else set()
    settings = settings_with(hosts, ca_file=access.ca_file, patience=access.patience)
    credentials = credentials_for(
        reference, access.username, access.credentials_file, password_stdin=access.password_stdin
    )
    transfer = Transfer(settings, credentials.merged(personal), credentials)
    if push is None or reference.tag is None:
        return transfer, None
    return transfer, Destination(reference.repository, reference.repository, reference.tag)


def _hosts(personal: Credentials) -> set[str]:
    """Return the `host[:port]` of the S3 endpoint and of the mirror of the hub that the environment names."""
    urls = [personal.s3.endpoint if personal.s3 else "", StoreSettings.from_env(os.environ).hub_endpoint]
    return {urlsplit(url).netloc for url in urls if url}


def _out_folder(wishes: Wishes) -> Path:
    """Return the folder for results: new, empty, or that of an earlier run, whose results stay until there are new."""
    name = wishes.model.rstrip("/").rsplit("/", 1)[-1].partition(":")[0]
    if "://" in wishes.model:
        name = name.partition("@")[0]
    folder = wishes.out or Path(f"{Path(name).stem}-optimized")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / LOG_FILE).is_file())):
        message = f"{folder} exists and is not the result of an earlier run; name another one with --out"
        raise CommandError(message, os.EX_CANTCREAT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder} cannot be made: {error.strerror}; name another one with --out"
        raise CommandError(message, os.EX_CANTCREAT) from error
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other searches out of a folder for results.

    Raises:
        CommandError: There is one.
    """
    with (folder / LOG_FILE).open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another search writes its results into {folder}; name another folder with --out"
            raise CommandError(message, os.EX_CANTCREAT) from error
        yield


def _write(outcome: Outcome, folder: Path) -> str:
    """Leave the variant and the report in a folder, instead of those of an earlier run, and return the JSON."""
    files, new, variant = report_files(outcome.report), folder / _NEW, folder / VARIANT_FOLDER
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for file in files:
            (new / file.name).write_bytes(file.content)
        if outcome.folder is not None:
            shutil.copytree(outcome.folder, new / VARIANT_FOLDER)
        shutil.rmtree(variant, ignore_errors=True)
        for path in sorted(new.iterdir(), key=lambda path: (path.name != VARIANT_FOLDER, path.name == REPORT_JSON)):
            path.rename(folder / path.name)
        new.rmdir()
    except OSError as error:
        message = f"the results cannot be written into {folder}: {error.strerror}"
        raise CommandError(message, os.EX_CANTCREAT) from error
    return files[0].content.decode()


def spec_of(wishes: Wishes) -> OptimizationJobSpec:
    """Return what the options ask for.

    Raises:
        CommandError: An option is wrong, or a local file is not there.
    """
    _check_combinations(wishes)
    evaluation = None
    if wishes.data is not None:
        meaning = _word(EvaluationMetric, wishes.metric, "--metric") if wishes.metric else None
        digest = _digest(wishes.data_sha256, "--data-sha256")
        form = _word(DataFormat, wishes.data_format, "--data-format")
        evaluation = EvaluationData(uri=_uri(wishes.data), sha256=digest, format=form, metric=meaning)
    calibration = None
    if wishes.calibration is not None:
        digest = _digest(wishes.calibration_sha256, "--calibration-sha256")
        calibration = CalibrationData(
            uri=_uri(wishes.calibration),
            sha256=digest,
            format=_word(DataFormat, wishes.calibration_format, "--calibration-format"),
            max_samples=wishes.calibration_samples,
        )
    return OptimizationJobSpec(
        model=ModelSource(
            uri=_uri(wishes.model),
            sha256=_digest(wishes.sha256, "--sha256"),
            format=_word(ModelFormat, wishes.model_format, "--format"),
        ),
        inputs=[_shape(text) for text in wishes.shapes],
        accelerator=_accelerator(wishes.accelerator),
        calibration=calibration,
        evaluation=evaluation,
        gates=[] if wishes.no_gates else [_gate(text) for text in wishes.gates] or default_gates(),
        objective=_word(Objective, wishes.objective, "--objective"),
        candidates=[_candidate(text) for text in wishes.candidates],
        when_none_qualifies=_word(WhenNoneQualifies, wishes.when_none_qualifies, "--when-none-qualifies"),
        optimization=OptimizationSettings(budget_minutes=wishes.budget_minutes, max_candidates=wishes.max_candidates),
    )


def _check_combinations(wishes: Wishes) -> None:
    given = {
        "--metric needs --data: there is nothing to measure it on": wishes.metric and not wishes.data,
        "--data-sha256 needs --data": wishes.data_sha256 and not wishes.data,
        "--calibration-sha256 needs --calibration": wishes.calibration_sha256 and not wishes.calibration,
        "--no-gates and --gate contradict each other": wishes.no_gates and wishes.gates,
    }
    for message, wrong in given.items():
        if wrong:
            raise CommandError(message, os.EX_USAGE)


def _digest(text: str | None, option: str) -> str | None:
    if text is not None and _SHA256.fullmatch(text) is None:
        message = f"{option}: {text!r} is not a SHA-256 of 64 hexadecimal digits, as `skerry digest` prints it"
        raise CommandError(message, os.EX_USAGE)
    return text


def _accelerator(text: str) -> str:
    known = catalogue()
    if text not in known:
        message = f"--accelerator: {text!r} is none of {', '.join(known)}"
        raise CommandError(message, os.EX_USAGE)
    return text


def _uri(text: str) -> str:
    """Return a URI as it is, and a local path as a URI that only this command understands."""
    if "://" in text:
        return text
    path = Path(text)
    if not path.exists():
        message = f"{text}: there is no such file or folder"
        raise CommandError(message, os.EX_NOINPUT)
    return _LOCAL + str(path.resolve())


def _word(kind: type[Word], text: str, option: str) -> Word:
    try:
        return kind(text)
    except ValueError:
        message = f"{option}: {text!r} is none of {', '.join(kind)}"
        raise CommandError(message, os.EX_USAGE) from None


def _gate(text: str) -> Gate:
    words = text.split(":")
    if len(words) != _WORDS_OF_A_GATE:
        message = f"--gate {text!r} is not METRIC:GOAL:VALUE, as in LatencyP95:PercentMinImprovement:50"
        raise CommandError(message, os.EX_USAGE)
    metric, goal, value = _word(Metric, words[0], "--gate"), _word(Goal, words[1], "--gate"), words[2]
    try:
        return Gate(metric=metric, goal=goal, value=value)
    except ValidationError:
        message = f"--gate {text!r}: {value!r} is not a decimal number"
        raise CommandError(message, os.EX_USAGE) from None


def _candidate(text: str) -> CandidateRequest:
    name, _, options = text.partition(":")
    pairs = [_UNESCAPED.sub(r"\1", option).partition("=") for option in _OPTION.findall(options)]
    if any(not equals for _, equals, _ in pairs):
        message = f"--candidate {text!r} is not NAME:OPTION=VALUE,…"
        raise CommandError(message, os.EX_USAGE)
    try:
        return candidates.from_name(name, {key: value for key, _, value in pairs})
    except candidates.CandidateError as error:
        raise CommandError(str(error), os.EX_USAGE) from error


def _shape(text: str) -> InputShape:
    name, _, sizes = text.rpartition("=")
    try:
        return InputShape(name=name, shape=[int(size) for size in sizes.split(",")])
    except (ValueError, ValidationError):
        message = f"--input {text!r} is not NAME=1,3,224,224"
        raise CommandError(message, os.EX_USAGE) from None
