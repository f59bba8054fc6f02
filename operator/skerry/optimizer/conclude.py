"""The last decision: which candidate is served, and the report that says why."""

import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from skerry.accelerators.recipes import Need
from skerry.api.artifact import FACTS_FILE, Provenance, StreamFigure, VariantFacts
from skerry.api.jobcontract import ChosenVariant
from skerry.api.machines import architecture
from skerry.api.reasons import JobReason
from skerry.api.types import (
    CandidateResult,
    Framework,
    Host,
    Metric,
    MetricFigure,
    Objective,
    Precision,
    Requirements,
    Technique,
    TensorFacts,
    Verdict,
    WhenNoneQualifies,
)
from skerry.optimizer import boundary
from skerry.optimizer.backends.base import Source
from skerry.optimizer.data import Samples, distribution
from skerry.optimizer.histogram import latency_histogram
from skerry.optimizer.redaction import public_spec
from skerry.optimizer.report import CandidateReport, DataReport, HostReport, LayerSensitivity, Report
from skerry.optimizer.search import Found
from skerry.optimizer.streams import Streams
from skerry.optimizer.trial import BASELINE, Baseline, Tried, baseline_measurements, baseline_result, decimal
from skerry.optimizer.trials import Inputs, folder_size, native_int8
from skerry.planning.pareto import Point, choose, pareto
from skerry.version import version

_HALF: Final = frozenset({"BF16", "FP16"})
_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_STEM: Final = "model"


@dataclass(frozen=True)
class Origin:
    """Where model and data came from: URI, without what is secret in it, and SHA-256 of each."""

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


def conclude(
    inputs: Inputs, found: Found, origin: Origin, folder: Path, now: datetime, stage_seconds: Mapping[str, float]
) -> Outcome:
    """Choose, and write the chosen variant's files below the folder."""
    spec = inputs.spec
    points = [tried.point for tried in found.tried if tried.point is not None]
    front = pareto(points, found.ground.meaning)
    for tried in found.tried:
        tried.result = tried.result.model_copy(update={"pareto": tried.result.name in front})
    subject = found.baseline.subject
    best = choose(points, spec.objective, found.ground.meaning)
    winner = next((tried for tried in found.tried if tried.result.name == best), None)
    facts: VariantFacts | None = None
    target = folder / "variant"
    if winner is not None:
        reason, message = JobReason.SUCCEEDED, _success(winner)
        facts = _winner_facts(inputs, found, winner, origin, now)
        _lay_out(facts, boundary.regular_files(winner.folder), target)
    elif spec.when_none_qualifies is WhenNoneQualifies.SERVE_BASELINE and (subject.framework in inputs.entry.devices):
        reason = JobReason.BASELINE_ONLY
        message = ", so the unoptimized model is served. ".join(_unchosen(found, points, spec.objective))
        facts = _baseline_facts(inputs, found, origin, now)
        _lay_out(facts, _renamed(_served(found)), target)
    else:
        reason, message = JobReason.GATES_FAILED, ". ".join(_unchosen(found, points, spec.objective))
        if spec.when_none_qualifies is WhenNoneQualifies.SERVE_BASELINE:
            message += (
                f"; the unoptimized model cannot be served: {subject.framework} does not run on {spec.accelerator}"
            )
    host = _host(inputs, origin)
    report = Report(
        skerry_version=version(),
        created_at=now,
        source_uri=origin.model[0],
        source_sha256=origin.model[1],
        spec=public_spec(spec),
        model=found.ground.inspected.facts,
        machine=_machine(inputs, host),
        evaluation_metric=found.ground.metric,
        evaluation=_evaluation_report(found, origin),
        calibration=_calibration_report(found, origin),
        gates=spec.gates,
        objective=spec.objective,
        baseline=_baseline_report(found),
        candidates=[_candidate_report(tried) for tried in found.tried],
        left_out=found.left_out,
        pareto=sorted(front),
        chosen=facts.name if facts else None,
        reason=reason,
        message=message,
        stage_seconds={stage: round(seconds, 2) for stage, seconds in stage_seconds.items()},
    )
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
    latency = figures.get(Metric.LATENCY_P95)
    if latency is None:
        size = figures[Metric.ARTIFACT_SIZE]
        text = f"{winner.result.name} has {size.value} MiB against {size.baseline} MiB, its speed is not known"
    else:
        faster = float(latency.baseline or 0) / float(latency.value)
        text = f"{winner.result.name} is {faster:.1f}x as fast at p95: {latency.value} ms against {latency.baseline} ms"
    if (accuracy := figures.get(Metric.ACCURACY)) is not None:
        text += f", accuracy {accuracy.value} against {accuracy.baseline} {accuracy.unit}".rstrip()
    return text


def _unchosen(found: Found, points: Sequence[Point], objective: Objective) -> tuple[str, str]:
    """Return why nothing was chosen, and what to do."""
    passed = {point.name for point in points if point.passed}
    if not passed:
        return "no candidate passed the gates", _failures(found)
    remarks = dict.fromkeys(tried.result.message for tried in found.tried if tried.result.name in passed)
    why = f"no candidate that passed the gates has a figure for the objective {objective}"
    return why, f"{'; '.join(filter(None, remarks))}. Choose the objective Accuracy, ArtifactSize or Balanced"


_ADVICE: Final = "Loosen the gates, or choose to serve the unoptimized model where none qualifies (ServeBaseline)"


def _failures(found: Found) -> str:
    """Return which gates each candidate missed, and what exactly the one missed that came nearest.

    What is only not certain is nearer than what failed.
    """
    if not found.tried:
        return "There was none to try."

    def distance(tried: Tried) -> tuple[bool, int, int, float]:
        figures = {figure.name: figure for figure in tried.result.metrics}
        failed = sum(figure.verdict is Verdict.FAILED for figure in figures.values())
        latency = figures.get(Metric.LATENCY_P95)
        return tried.made is None, failed, len(tried.missed), float(latency.value) if latency else math.inf

    nearest = min(found.tried, key=distance)
    each = "; ".join(
        f"{tried.result.name} ({', '.join(tried.missed) if tried.made else 'could not be made'})"
        for tried in found.tried
    )
    if nearest.made is None:
        return "; ".join(f"{tried.result.name}: {tried.result.message}" for tried in found.tried)
    return f"Nearest was {nearest.result.name}: {nearest.result.message}. Missed gates: {each}. {_ADVICE}"


def _requires(inputs: Inputs, execution: str, elsewhere: str = "") -> Requirements:
    """Return what a node must have to run a variant as it was measured here, or on another architecture."""
    if elsewhere:
        return Requirements(architecture=elsewhere, cpu_features=[])
    wanted: list[str] = []
    if execution == "INT8":
        best = native_int8(inputs.entry, inputs.cpu)
        wanted = [best] if best else []
    elif execution in _HALF:
        halves = (half.feature for half in inputs.entry.native_half)
        wanted = [feature for feature in halves if feature in inputs.cpu.features][:1]
    return Requirements(architecture=architecture(), cpu_features=wanted)


def _provenance(
    inputs: Inputs, origin: Origin, now: datetime, tools: Mapping[str, str], winner: Tried | None = None
) -> Provenance:
    calibrated = winner is not None and Need.CALIBRATION in winner.planned.recipe.needs
    data = origin.calibration or origin.evaluation  # a part of the latter, where there is nothing of its own
    return Provenance(
        source_uri=origin.model[0],
        source_sha256=origin.model[1],
        created_at=now,
        skerry_version=version(),
        tools=dict(tools),
        options=dict(winner.planned.request.options) if winner else {},
        calibration_sha256=data[1] if data and calibrated else None,
        evaluation_sha256=origin.evaluation[1] if origin.evaluation else None,
        host=_host(inputs, origin),
    )


def _host(inputs: Inputs, origin: Origin) -> Host:
    return Host(node=origin.node, cpu_model=inputs.cpu.model, accelerator=inputs.spec.accelerator)


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
        settings=dict(made.settings),
        inputs=_batched(model.inputs, one_by_one=made.one_by_one),
        outputs=_batched(model.outputs, one_by_one=made.one_by_one),
        requires=_requires(inputs, made.execution_precision, made.architecture),
        evaluation_metric=found.ground.metric,
        metrics=result.metrics,
        streams=_stream_figures(winner.streams),
        provenance=_provenance(inputs, origin, now, made.tools, winner),
    )


def _stream_figures(streams: Streams) -> list[StreamFigure]:
    """Return the throughput by number of streams as `skerry.json` has it."""
    return [
        StreamFigure(streams=each.streams, baseline=decimal(each.baseline), value=decimal(each.value))
        for each in streams.figures
    ]


def _batched(tensors: Sequence[TensorFacts], *, one_by_one: bool) -> list[TensorFacts]:
    """Return the facts of tensors, a free batch as 1 where nothing else can be run."""
    if not one_by_one:
        return list(tensors)
    return [
        tensor.model_copy(update={"shape": [1, *tensor.shape[1:]]}) if tensor.shape[:1] == [-1] else tensor
        for tensor in tensors
    ]


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
        model_file=_main_name(_served(found)),
        device=inputs.entry.devices[subject.framework],
        settings=dict(subject.settings),
        inputs=model.inputs,
        outputs=model.outputs,
        requires=_requires(inputs, "FP32"),
        evaluation_metric=found.ground.metric,
        metrics=baseline_result(found.baseline, found.ground).metrics,
        streams=_stream_figures(found.baseline.streams),
        provenance=_provenance(inputs, origin, now, found.baseline.tools),
    )


def _served(found: Found) -> Source:
    """Return the unoptimized model as its runtime loads it."""
    return found.baseline.source or found.ground.inspected.source


def _main_name(source: Source) -> str:
    """Return the name under which a source's main file is served: a safe one, but parts of a GGUF keep theirs."""
    return source.path.name if len(source.files) > 1 and source.path.suffix == ".gguf" else _STEM + source.path.suffix


def _renamed(source: Source) -> dict[str, Path]:
    """Return the source's files, the main one (and an IR's weights, which go by its name) under names that are safe."""
    if _main_name(source) == source.path.name:
        return dict(source.files)
    main = source.path.stem
    own = {source.path.name, f"{main}.bin"} if source.path.suffix == ".xml" else {source.path.name}
    return {_STEM + path.suffix if name in own else name: path for name, path in source.files.items()}


def _lay_out(facts: VariantFacts, files: Mapping[str, Path], target: Path) -> None:
    """Put a variant's files and `skerry.json` into an empty folder."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, copy in boundary.targets(target, files).items():
        boundary.copy(files[name], copy)
    text = facts.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    (target / FACTS_FILE).write_text(text, encoding="utf-8")


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


def _machine(inputs: Inputs, host: Host) -> HostReport:
    governor = _GOVERNOR.read_text(encoding="ascii").strip() if _GOVERNOR.is_file() else ""
    return HostReport(
        host=host,
        architecture=architecture(),
        cpu_cores=inputs.cpu.cores,
        cpu_features=list(inputs.cpu.features),
        cpu_governor=governor,
        threads=inputs.threads,
        python=platform.python_version(),
        kernel=platform.release(),
    )


def _data_report(samples: Samples, where: tuple[str, str], remark: str) -> DataReport:
    uri, sha256 = where
    return DataReport(uri=uri, sha256=sha256, samples=len(samples), distribution=distribution(samples), remark=remark)


def _text_report(parts: Sequence[str], baseline: Baseline, where: tuple[str, str], *, held_out: bool) -> DataReport:
    """Return what there is to say of text: its samples are the windows that are scored."""
    scored, whole = (sum(map(len, some)) for some in (parts[: len(baseline.surprises)], parts))
    remark = f"windows of text: {scored:,} characters"
    if scored < whole:
        remark += f" of {whole:,}; scoring more would take each candidate too long"
    if held_out:
        remark += ", without the first quarter, which calibration used"
    return DataReport(uri=where[0], sha256=where[1], samples=baseline.samples, remark=remark)


def _evaluation_report(found: Found, origin: Origin) -> DataReport | None:
    ground = found.ground
    if ground.texts is not None and origin.evaluation is not None:
        return _text_report(ground.texts.parts, found.baseline, origin.evaluation, held_out=ground.held_out)
    if ground.evaluation is None or origin.evaluation is None:
        return None
    remark = "without the samples that calibration used" if ground.held_out else ""
    return _data_report(ground.evaluation, origin.evaluation, remark)


def _calibration_report(found: Found, origin: Origin) -> DataReport | None:
    ground, where = found.ground, origin.calibration or origin.evaluation
    if ground.calibration_text is not None and where is not None:
        remark = "the first quarter of the evaluation text" if ground.held_out else "all of the text"
        return DataReport(uri=where[0], sha256=where[1], samples=1, remark=remark)
    if ground.calibration is None or where is None:
        return None
    remark = (
        "taken out of the evaluation data: a fixed random part in which each class has its share"
        if ground.held_out
        else "the first samples of the file"
    )
    return _data_report(ground.calibration, where, remark)


def _baseline_report(found: Found) -> CandidateReport:
    baseline = found.baseline
    return CandidateReport(
        result=baseline_result(baseline, found.ground),
        measurements=baseline_measurements(baseline, found.ground),
        settings=dict(baseline.subject.settings),
        tools=dict(baseline.tools),
        size_bytes=baseline.size_bytes,
        latency_histogram=latency_histogram(baseline.timings),
        streams=list(baseline.streams.figures),
        streams_remark=baseline.streams.remark,
    )


def _candidate_report(tried: Tried) -> CandidateReport:
    return CandidateReport(
        result=tried.result,
        measurements=tried.measurements,
        options=tried.planned.request.options,
        settings=dict(tried.made.settings) if tried.made else {},
        tools=dict(tried.made.tools) if tried.made else {},
        tool_metrics=dict(tried.made.tool_metrics) if tried.made else {},
        size_bytes=tried.size_bytes,
        seconds_to_make=round(tried.seconds, 2),
        latency_histogram=tried.histogram,
        sensitivity=[
            LayerSensitivity(name=name, degradation=percent)
            for name, percent in (tried.made.sensitivity if tried.made else ())
        ],
        streams=list(tried.streams.figures),
        streams_remark=tried.streams.remark,
    )
