"""What comes before any candidate: the data, and the unoptimized model's own figures."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skerry.accelerators.recipes import REFERENCE, book
from skerry.api.optimizationjob import OptimizationJobSpec
from skerry.api.types import DataFormat, EvaluationMetric, Framework, Metric, ModelKind
from skerry.optimizer import backends, boundary, child, data, language_bench, measure, streams
from skerry.optimizer.accuracy import Scored
from skerry.optimizer.backends.base import BASELINE_DEVICE, BASELINE_SETTINGS, Source
from skerry.optimizer.bench import Subject
from skerry.optimizer.child import Place, Remote, Standing
from skerry.optimizer.errors import BadDataError, BadModelError, OptimizationError
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.language import Surprise
from skerry.optimizer.language_bench import DEFAULT_PROMPTS, Texts
from skerry.optimizer.measure import Conditions, LanguageConditions
from skerry.optimizer.streams import NOT_MEASURED
from skerry.optimizer.trial import BASELINE, Baseline, Ground
from skerry.optimizer.trials import Inputs

_CALIBRATION_FILE = "calibration.txt"
_CALIBRATION_SHARE = 4
_MEANINGS = frozenset({None, EvaluationMetric.PERPLEXITY})
TEXT_SECONDS = 1200.0
"""How long scoring text may take for one model."""


def ground(inputs: Inputs, inspected: Inspected, folder: Path) -> Ground:
    """Read the data and settle what all candidates share.

    Raises:
        BadDataError: The data does not fit the model.
    """
    language = inspected.source.kind is ModelKind.LANGUAGE
    _check_formats(inputs.spec, DataFormat.TEXT if language else DataFormat.NPZ)
    if language:
        return _language_ground(inputs, inspected, folder)
    spec, tensors = inputs.spec, (inspected.facts.inputs, inspected.facts.outputs)
    limit = inputs.max_data_bytes
    evaluation = data.samples(inputs.evaluation, *tensors, max_bytes=limit) if inputs.evaluation else None
    calibration = data.samples(inputs.calibration, *tensors, minimum=1, max_bytes=limit) if inputs.calibration else None
    metric = None
    if evaluation is not None:
        wanted = spec.evaluation.metric if spec.evaluation is not None else None
        metric = wanted or data.default_metric(evaluation)
        data.check_metric(metric, evaluation)
    most = spec.calibration.max_samples if spec.calibration is not None else data.DEFAULT_CALIBRATION
    held_out = calibration is None and evaluation is not None
    if calibration is not None:
        calibration = calibration.part(np.arange(min(most, len(calibration))))
    elif evaluation is not None:
        calibration, evaluation = data.split(evaluation, most)
    samples = measure.inputs_for(inspected.facts.inputs, evaluation or calibration)
    conditions = Conditions(samples, measure.write_warm_model(folder / "warm"))
    return Ground(inspected, calibration, evaluation, held_out, metric, conditions)


def _check_formats(spec: OptimizationJobSpec, wanted: DataFormat) -> None:
    """Refuse data that is said to be in a format that the model does not take.

    Raises:
        BadDataError: With the format that it takes.
    """
    for name, given in (("calibration", spec.calibration), ("evaluation", spec.evaluation)):
        if given is not None and given.format not in {DataFormat.AUTO, wanted}:
            message = f"spec.{name}.format is {given.format}, but for this model it must be {wanted}"
            raise BadDataError(message)


def _language_ground(inputs: Inputs, inspected: Inspected, folder: Path) -> Ground:
    """Read the text; without some of its own, calibration gets the first quarter of the evaluation's."""
    wanted = inputs.spec.evaluation.metric if inputs.spec.evaluation is not None else None
    if wanted not in _MEANINGS:
        message = f"the metric {wanted} is not for language models; theirs is {EvaluationMetric.PERPLEXITY}"
        raise BadDataError(message)
    calibration = inputs.calibration
    if calibration is not None:
        language_bench.read_text(calibration)
    if inputs.evaluation is None:
        conditions = LanguageConditions(Texts((), DEFAULT_PROMPTS))
        return Ground(inspected, None, None, False, None, conditions, calibration_text=calibration)  # noqa: FBT003
    text = language_bench.read_text(inputs.evaluation)
    held_out = calibration is None
    if held_out:
        cut = len(text) // _CALIBRATION_SHARE
        calibration = folder / _CALIBRATION_FILE
        folder.mkdir(parents=True, exist_ok=True)
        calibration.write_text(text[:cut], encoding="utf-8")
        text = text[cut:]
    texts = language_bench.texts(text)
    conditions = LanguageConditions(texts)
    return Ground(
        inspected,
        None,
        None,
        held_out,
        EvaluationMetric.PERPLEXITY,
        conditions,
        texts=texts,
        calibration_text=calibration,
    )


def measured_baseline(
    inputs: Inputs, shared: Ground, stack: contextlib.ExitStack, folder: Path
) -> tuple[Standing[Any], Baseline]:
    """Measure the source model in its reference runtime as it is, and keep its process for the rounds to come.

    Raises:
        BadModelError: It loads, but cannot be run on the inputs.
    """
    source = shared.inspected.source
    framework = REFERENCE[source.format]
    place = inputs.tools.running(framework)
    if source.kind is ModelKind.LANGUAGE:
        source = _prepared(source, place, folder)
        boundary.check_source(source, inputs.roots)
    device, settings = BASELINE_DEVICE[framework], BASELINE_SETTINGS[framework]
    subject = Subject(BASELINE, framework, source.path, dict(settings), inputs.threads, device)

    def opened() -> Remote[Any]:
        return shared.conditions.open("running the unoptimized model", subject, place)

    try:
        starts = measure.starts(subject, shared.conditions, place=place)
        standing = stack.enter_context(Standing(opened))
        bench = standing.remote
        outputs = measure.outputs(bench, shared.evaluation) if shared.evaluation is not None else None
        scores = surprises(bench, shared.texts.parts) if shared.texts else []
        timings = measure.alone(bench)
        starts.append(bench.call("start"))
    except OptimizationError as error:
        if type(error) is not OptimizationError:
            raise
        message = f"the unoptimized model cannot be run on these inputs: {error}"
        raise BadModelError(message) from error
    scored = shared.score(outputs, outputs) if outputs is not None else _perplexity(scores)
    size = shared.inspected.facts.size_bytes
    several = NOT_MEASURED
    if source.kind is not ModelKind.LANGUAGE:
        several = streams.of_baseline(bench, inputs.threads, timings.value(Metric.LATENCY_P50))
    tools = _packages(framework, place)
    return standing, Baseline(subject, starts, timings, scored, outputs, size, scores, source, tools, several)


def _packages(framework: Framework, place: Place) -> dict[str, str]:
    """Return the versions of the packages that run a framework."""
    tool = book().runner(framework)
    if tool is None:
        return {}
    found = child.call(f"asking {tool.tool} for its version", backends.versions, tool.tool, place=place)
    return {name: version for name, version in found.items() if name in tool.packages}


def _prepared(source: Source, place: Place, folder: Path) -> Source:
    """Return a language model as its reference runtime loads it."""
    target = folder / "prepared"
    target.mkdir(parents=True, exist_ok=True)
    framework = REFERENCE[source.format]
    return child.call("converting the unoptimized model", backends.prepare, framework, source, target, place=place)


def surprises(bench: Remote[Any], parts: Sequence[str]) -> list[Surprise]:
    """Return what the text is to the model, part by part, as far as that can be afforded for each candidate as well."""
    found: list[Surprise] = []
    started = time.monotonic()
    for part in parts:
        found.append(bench.call("surprise", part))
        if 2 * (time.monotonic() - started) > TEXT_SECONDS:  # the next part is as long as all before it
            break
    return found


def _perplexity(surprises: list[Surprise]) -> Scored | None:
    """Return the perplexity over all parts of the text; None without text.

    Raises:
        BadModelError: It is not a number.
    """
    if not surprises:
        return None
    each = np.concatenate([part.nll / part.tokens for part in surprises])
    if not np.isfinite(each).all():
        message = "the unoptimized model's perplexity is not a number"
        raise BadModelError(message)
    return Scored(each, float(np.exp(each.mean())))
