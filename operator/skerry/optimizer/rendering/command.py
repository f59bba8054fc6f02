"""How to get a report once more: the command line of `skerry optimize` that says what was asked for."""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.pods import OptimizationSettings
from skerry.api.types import DataFormat, ModelFormat
from skerry.optimizer.rendering.words import clean
from skerry.optimizer.report import Report
from skerry.planning.candidates import CandidateError, recipe_of

_LOCAL: Final = "file://"
_ESCAPED: Final = re.compile(r"([,\\])")
_BACKSLASH: Final = r"\\\1"
_CONTINUED: Final = " \\\n  "


def portable(spec: OptimizationJobSpec) -> OptimizationJobSpec:
    """Return a spec without what has a meaning in a cluster only: where the Job runs, and names of Secrets."""
    model = spec.model.model_copy(update={"credentials_secret_name": None})
    limits = spec.optimization.model_dump(include={"budget_minutes", "max_candidates"})
    changes = {"model": model, "optimization": OptimizationSettings(**limits), "suspend": False}
    return spec.model_copy(update=changes)


def pinned(report: Report) -> OptimizationJobSpec | None:
    """Return what was asked for, with the digests of the very bytes that were used; None in reports of old versions."""
    spec = report.spec
    if spec is None:
        return None
    changes: dict[str, object] = {"model": spec.model.model_copy(update={"sha256": report.source_sha256})}
    if spec.evaluation is not None and report.evaluation is not None:
        changes["evaluation"] = spec.evaluation.model_copy(update={"sha256": report.evaluation.sha256})
    if spec.calibration is not None and report.calibration is not None:
        changes["calibration"] = spec.calibration.model_copy(update={"sha256": report.calibration.sha256})
    return portable(spec.model_copy(update=changes))


def arguments(spec: OptimizationJobSpec, threads: int | None = None) -> list[tuple[str, ...]]:
    """Return the words of the command line, grouped as they belong together.

    Raises:
        CandidateError: The spec has a candidate that this version of Skerry does not know.
    """
    model = _place(spec.model.uri)
    if model.startswith("-"):
        return [("skerry", "optimize"), *_options(spec, threads), ("--", model)]
    return [("skerry", "optimize", model), *_options(spec, threads)]


def reproduction(report: Report) -> str | None:
    """Return the command line for a shell, an option a line; None where that cannot be.

    It cannot in reports of other versions, and with names of which something would have to be replaced to show them.
    """
    spec = pinned(report)
    if spec is None:
        return None
    try:
        groups = arguments(spec, report.machine.threads)
    except CandidateError:
        return None
    command = _CONTINUED.join(shlex.join(group) for group in groups)
    return command if clean(command) == command else None


def _options(spec: OptimizationJobSpec, threads: int | None) -> Iterator[tuple[str, ...]]:
    yield from _model(spec)
    yield from _data(spec)
    for gate in spec.gates:
        yield ("--gate", f"{gate.metric}:{gate.goal}:{gate.value}")
    if not spec.gates:
        yield ("--no-gates",)
    yield ("--objective", spec.objective)
    for request in spec.candidates:
        options = ",".join(f"{name}={_ESCAPED.sub(_BACKSLASH, value)}" for name, value in request.options.items())
        name = recipe_of(request).name
        yield ("--candidate", f"{name}:{options}" if options else name)
    yield ("--when-none-qualifies", spec.when_none_qualifies)
    limits = spec.optimization
    if limits.budget_minutes is not None:
        yield ("--budget-minutes", str(limits.budget_minutes))
    if limits.max_candidates is not None:
        yield ("--max-candidates", str(limits.max_candidates))
    if threads is not None:
        yield ("--threads", str(threads))


def _model(spec: OptimizationJobSpec) -> Iterator[tuple[str, ...]]:
    if spec.model.sha256 is not None:
        yield ("--sha256", spec.model.sha256)
    if spec.model.format is not ModelFormat.AUTO:
        yield ("--format", spec.model.format)
    yield ("--accelerator", spec.accelerator)
    for wanted in spec.inputs:
        yield ("--input", f"{wanted.name}={','.join(str(size) for size in wanted.shape)}")


def _data(spec: OptimizationJobSpec) -> Iterator[tuple[str, ...]]:
    if (evaluation := spec.evaluation) is not None:
        yield ("--data", _place(evaluation.uri))
        if evaluation.sha256 is not None:
            yield ("--data-sha256", evaluation.sha256)
        if evaluation.format is not DataFormat.AUTO:
            yield ("--data-format", evaluation.format)
        if evaluation.metric is not None:
            yield ("--metric", evaluation.metric)
    if (calibration := spec.calibration) is not None:
        yield ("--calibration", _place(calibration.uri))
        if calibration.sha256 is not None:
            yield ("--calibration-sha256", calibration.sha256)
        if calibration.format is not DataFormat.AUTO:
            yield ("--calibration-format", calibration.format)
        yield ("--calibration-samples", str(calibration.max_samples))


def _place(uri: str) -> str:
    """Return a URI as it is, and a local one as the path that the command line takes."""
    path = uri.removeprefix(_LOCAL)
    return uri if "://" in path else path
