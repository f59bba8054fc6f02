"""The last decision: which candidate is served, and the report that says why."""

import platform
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from skerry.accelerators.cpu import architecture
from skerry.api.artifact import FACTS_FILE, Provenance, VariantFacts
from skerry.api.jobcontract import ChosenVariant
from skerry.api.reasons import JobReason
from skerry.api.types import (
    CandidateResult,
    EvaluationMetric,
    Framework,
    Host,
    Metric,
    MetricFigure,
    Precision,
    Requirements,
    Technique,
    Verdict,
    WhenNoneQualifies,
)
from skerry.optimizer.data import distribution
from skerry.optimizer.report import METHOD, CandidateReport, DataReport, HostReport, Report
from skerry.optimizer.search import BASELINE, Found, Inputs, Tried, baseline_result, folder_size
from skerry.planning.pareto import Point, choose, pareto
from skerry.version import version

_HALF: Final = {"BF16", "FP16"}


@dataclass(frozen=True)
class Origin:
    """Where model and data came from: URI and SHA-256 of each."""

    model: tuple[str, str]
    calibration: tuple[str, str] | None
    evaluation: tuple[str, str] | None
    node: str


@dataclass(frozen=True)
class Outcome:
    """What came of an optimization.

    Attributes:
        reason: Succeeded, BaselineOnly or GatesFailed.
        message: A sentence for people.
        report: The full report.
        chosen: The variant to serve; None when nothing qualified.
        facts: Content of its `skerry.json`.
        folder: Folder with its files, `skerry.json` among them.
        results: Every candidate with its place in the Pareto set.
    """

    reason: JobReason
    message: str
    report: Report
    chosen: ChosenVariant | None
    facts: VariantFacts | None
    folder: Path | None
    results: list[CandidateResult]
    host: Host


def conclude(inputs: Inputs, found: Found, origin: Origin, folder: Path, now: datetime) -> Outcome:
    """Choose, and write the chosen variant's files below the folder."""
    spec = inputs.spec
    metric = found.ground.metric or EvaluationMetric.ACCURACY
    points = [
        Point(
            tried.result.name,
            {measured.metric: measured.value for measured in tried.measurements},
            tried.result.verdict is Verdict.PASSED,
        )
        for tried in found.tried
        if tried.made is not None
    ]
    front = pareto(points, metric)
    for tried in found.tried:
        tried.result = tried.result.model_copy(update={"pareto": tried.result.name in front})
    best = choose(points, spec.objective, metric)
    winner = next((tried for tried in found.tried if tried.result.name == best), None)
    host = Host(node=origin.node, cpu_model=inputs.cpu.model, accelerator=spec.accelerator)
    facts: VariantFacts | None = None
    target = folder / "variant"
    if winner is not None:
        reason, message = JobReason.SUCCEEDED, _success(winner)
        facts = _winner_facts(inputs, found, winner, origin, now)
        _lay_out(facts, winner.folder, target)
    elif spec.when_none_qualifies is WhenNoneQualifies.SERVE_BASELINE:
        reason, message = (
            JobReason.BASELINE_ONLY,
            f"no candidate passed, so the unoptimized model is served. {_failures(found)}",
        )
        facts = _baseline_facts(inputs, found, origin, now)
        _lay_out(facts, found.ground.inspected.source.path, target)
    else:
        reason, message = JobReason.GATES_FAILED, f"no candidate passed the gates. {_failures(found)}"
    report = _report(inputs, found, origin, now, host, facts.name if facts else None, (reason, message))
    return Outcome(
        reason=reason,
        message=message,
        report=report,
        chosen=_chosen(facts, target) if facts else None,
        facts=facts,
        folder=target if facts else None,
        results=[baseline_result(found.baseline, found.ground), *(tried.result for tried in found.tried)],
        host=host,
    )


def _success(winner: Tried) -> str:
    figures = {figure.name: figure for figure in winner.result.metrics}
    latency = figures[Metric.LATENCY_P95]
    faster = float(latency.baseline or 0) / float(latency.value)
    text = f"{winner.result.name} is {faster:.1f}x as fast at p95 ({latency.value} against {latency.baseline} ms)"
    if (accuracy := figures.get(Metric.ACCURACY)) is not None:
        text += f", accuracy {accuracy.value} against {accuracy.baseline} {accuracy.unit}".rstrip()
    return text


def _failures(found: Found) -> str:
    """Return why each candidate was refused, the most promising (in order of trial) first."""
    return " | ".join(f"{tried.result.name}: {tried.result.message}" for tried in found.tried)


def _requires(inputs: Inputs, execution: str) -> Requirements:
    """Return what a node must have to run a variant as it was measured here."""
    wanted: list[str] = []
    if execution == "INT8":
        wanted = [feature for feature in inputs.entry.native_int8 if feature in inputs.cpu.features][:1]
    elif execution in _HALF:
        halves = (half.feature for half in inputs.entry.native_half)
        wanted = [feature for feature in halves if feature in inputs.cpu.features][:1]
    return Requirements(architecture=architecture(), cpu_features=wanted)


def _provenance(origin: Origin, now: datetime, tools: dict[str, str]) -> Provenance:
    return Provenance(
        source_uri=origin.model[0],
        source_sha256=origin.model[1],
        created_at=now,
        skerry_version=version(),
        tools=tools,
    )


def _winner_facts(inputs: Inputs, found: Found, winner: Tried, origin: Origin, now: datetime) -> VariantFacts:
    if winner.made is None:
        message = f"{winner.result.name} was chosen but never made"
        raise AssertionError(message)
    result, made, model = winner.result, winner.made, found.ground.inspected.facts
    return VariantFacts(
        name=result.name,
        accelerator=inputs.spec.accelerator,
        framework=result.framework,
        precision=result.precision,
        technique=result.technique,
        execution_precision=made.execution_precision,
        model_file=made.model_file,
        device=inputs.entry.devices[result.framework],
        settings=made.settings,
        inputs=model.inputs,
        outputs=model.outputs,
        requires=_requires(inputs, made.execution_precision),
        evaluation_metric=found.ground.metric,
        metrics=result.metrics,
        provenance=_provenance(origin, now, made.tools),
    )


def _baseline_facts(inputs: Inputs, found: Found, origin: Origin, now: datetime) -> VariantFacts:
    subject, model = found.baseline.subject, found.ground.inspected.facts
    onnx = subject.framework is Framework.ONNX_RUNTIME
    return VariantFacts(
        name=BASELINE,
        accelerator=inputs.spec.accelerator,
        framework=subject.framework,
        precision=Precision.FP32,
        technique=Technique.GRAPH_OPTIMIZATION if onnx else Technique.CONVERSION,
        execution_precision="FP32",
        model_file=subject.model.name,
        device=inputs.entry.devices[subject.framework],
        settings=dict(subject.settings),
        inputs=model.inputs,
        outputs=model.outputs,
        requires=_requires(inputs, "FP32"),
        evaluation_metric=found.ground.metric,
        metrics=baseline_result(found.baseline, found.ground).metrics,
        provenance=_provenance(origin, now, {}),
    )


def _lay_out(facts: VariantFacts, source: Path, target: Path) -> None:
    """Put a variant's files and `skerry.json` into an empty folder.

    A source that is a file stands for its folder when it has companions (external data, IR weights).
    """
    shutil.rmtree(target, ignore_errors=True)
    folder = source if source.is_dir() else source.parent
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".*", "*.zip", "*.tar", "*.tgz", "*.tar.gz"))
    (target / FACTS_FILE).write_text(
        facts.model_dump_json(by_alias=True, exclude_none=True, indent=2), encoding="utf-8"
    )


def _chosen(facts: VariantFacts, folder: Path) -> ChosenVariant:
    bare = [
        MetricFigure(
            name=figure.name, baseline=figure.baseline, value=figure.value, unit=figure.unit, verdict=figure.verdict
        )
        for figure in facts.metrics
    ]
    return ChosenVariant(
        name=facts.name,
        framework=facts.framework,
        precision=facts.precision,
        technique=facts.technique,
        execution_precision=facts.execution_precision,
        size_bytes=folder_size(folder),
        metrics=bare,
        requires=facts.requires,
    )


def _report(
    inputs: Inputs,
    found: Found,
    origin: Origin,
    now: datetime,
    host: Host,
    chosen: str | None,
    verdict: tuple[JobReason, str],
) -> Report:
    spec, ground = inputs.spec, found.ground

    def used(samples: object, where: tuple[str, str] | None) -> DataReport | None:
        if samples is None or where is None:
            return None
        return DataReport(uri=where[0], sha256=where[1], samples=len(samples), distribution=distribution(samples))  # type: ignore[arg-type]

    return Report(
        skerry_version=version(),
        created_at=now,
        source_uri=origin.model[0],
        source_sha256=origin.model[1],
        model=ground.inspected.facts,
        machine=HostReport(
            host=host,
            architecture=architecture(),
            cpu_features=list(inputs.cpu.features),
            threads=inputs.threads,
            python=platform.python_version(),
        ),
        evaluation_metric=ground.metric,
        evaluation=used(ground.evaluation, origin.evaluation),
        calibration=used(ground.calibration, origin.calibration or origin.evaluation),
        gates=spec.gates,
        objective=spec.objective,
        method=METHOD,
        baseline=CandidateReport(
            result=baseline_result(found.baseline, ground),
            settings=dict(found.baseline.subject.settings),
            size_bytes=found.baseline.size_bytes,
        ),
        candidates=[
            CandidateReport(
                result=tried.result,
                measurements=tried.measurements,
                settings=tried.made.settings if tried.made else {},
                tools=tried.made.tools if tried.made else {},
                size_bytes=tried.size_bytes,
                seconds_to_make=round(tried.seconds, 2),
            )
            for tried in found.tried
        ],
        left_out=found.left_out,
        chosen=chosen,
        reason=verdict[0],
        message=verdict[1],
        stage_seconds={stage: round(seconds, 2) for stage, seconds in found.stage_seconds.items()},
    )
