"""Which candidates to try: the decision matrix, cut down to what model, data, tools and hardware allow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from skerry.accelerators.catalogue import AcceleratorEntry
from skerry.accelerators.recipes import MAIN_GROUP, REFERENCE, Book, Need, Recipe, Recovery, Tool, book
from skerry.api.types import CandidateRequest, Framework, ModelFormat, ModelKind, ModelSource, Precision

LANGUAGE_FORMATS: Final = frozenset({ModelFormat.HUGGING_FACE, ModelFormat.SAFETENSORS, ModelFormat.GGUF})
"""Formats in which language models come."""

_MISSING: Final = {
    Need.CALIBRATION: "quantizing activations needs calibration or evaluation data",
    Need.LABELS: (
        "accuracy-aware quantization needs labels in the calibration data: it must not see the samples that it is "
        "measured on"
    ),
}
_NAME_LIMIT: Final = 63
_ENDINGS: Final = {
    ".gguf": ModelFormat.GGUF,
    ".tflite": ModelFormat.TFLITE,
    ".safetensors": ModelFormat.SAFETENSORS,
    ".pt2": ModelFormat.TORCH_EXPORT,
    ".keras": ModelFormat.KERAS,
    ".onnx": ModelFormat.ONNX,
}


class CandidateError(ValueError):
    """A candidate that was asked for cannot be made; the message says why."""


@dataclass(frozen=True)
class Available:
    """What there is to work with.

    Attributes:
        model_format: Format of the source model.
        calibration: Whether there are samples to calibrate with.
        calibration_labels: Whether those samples have labels.
        kind: What the model is built of.
        tools: Tools that can be used here.
    """

    model_format: ModelFormat
    calibration: bool
    calibration_labels: bool
    kind: ModelKind = ModelKind.OTHER
    tools: frozenset[str] = frozenset({"openvino", "onnxruntime"})


@dataclass(frozen=True)
class Planned:
    """One candidate to try.

    Attributes:
        name: Its name, unique in the search.
        request: What is to be made.
        recipe: How.
        tool: The tool that makes it.
        reason: Why it is tried.
        source: Where that is known from.
        recovers: Name of the candidate that kept too little accuracy; empty for those that are tried anyway.
    """

    name: str
    request: CandidateRequest
    recipe: Recipe
    tool: Tool
    reason: str = ""
    source: str = ""
    recovers: str = ""


@dataclass(frozen=True)
class Plan:
    """The candidates to try, cheap and safe ones first.

    Attributes:
        candidates: The candidates.
        left_out: For each that is left out the reason.
        asked: Whether they were asked for, so that nothing else is tried.
    """

    candidates: tuple[Planned, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False


def recipe_of(request: CandidateRequest) -> Recipe:
    """Return the recipe of a request.

    Raises:
        CandidateError: No tool has that combination.
    """
    recipes = book().recipes
    found = recipes.get((request.framework, request.precision, request.technique))
    if found is None:
        words = ", ".join(
            f"{precision} {technique}" for framework, precision, technique in recipes if framework is request.framework
        )
        message = (
            f"{request.framework} has no candidate {request.precision} {request.technique}; those it has are "
            f"{words or 'none in this version'}"
        )
        raise CandidateError(message)
    return found


def name_of(request: CandidateRequest) -> str:
    """Return a candidate's name, for example openvino-int8-ptq.

    Raises:
        CandidateError: No tool has that combination.
    """
    recipe = recipe_of(request)
    words = (request.options.get(name, "") for name, option in recipe.options.items() if option.names)
    return "-".join([recipe.name, *(word.lower().replace("_", "-") for word in words if word)])[:_NAME_LIMIT]


def from_name(name: str, options: Mapping[str, str] | None = None) -> CandidateRequest:
    """Return the request that a recipe's name stands for, checked.

    Raises:
        CandidateError: There is no such name, or it has no such option.
    """
    recipes = book().recipes
    recipe = next((recipe for recipe in recipes.values() if recipe.name == name), None)
    if recipe is None:
        message = f"there is no candidate {name!r}; there are {', '.join(each.name for each in recipes.values())}"
        raise CandidateError(message)
    request = CandidateRequest(
        framework=recipe.framework,
        precision=recipe.precision,
        technique=recipe.technique,
        options=dict(options or {}),
    )
    check(request)
    return request


def check(request: CandidateRequest) -> None:
    """Refuse a combination that no tool has, and options that it does not know.

    Raises:
        CandidateError: With what would be possible.
    """
    recipe = recipe_of(request)
    for name, value in request.options.items():
        option = recipe.options.get(name)
        if option is None:
            words = f"its options are {', '.join(sorted(recipe.options))}" if recipe.options else "it has none"
            message = f"candidate {recipe.name} has no option {name!r}; {words}"
            raise CandidateError(message)
        if (told := option.trouble(value)) is not None:
            message = f"candidate {recipe.name}: option {name} is {value!r}; {told}"
            raise CandidateError(message)


def measurable(entry: AcceleratorEntry) -> bool:
    """Tell whether a backend can load models on an accelerator: figures of another device would be bent ones."""
    return any(_measurable_in(entry, framework) for framework in entry.devices)


def servable(entry: AcceleratorEntry) -> bool:
    """Tell whether a server can run models on an accelerator: else an optimization for it would be of no use."""
    known = book()
    runners = ((known.runner(framework), device) for framework, device in entry.devices.items())
    return any(runner is not None and device in runner.serves for runner, device in runners)


def _measurable_in(entry: AcceleratorEntry, framework: Framework) -> bool:
    """Tell whether the framework's backend can load models on an accelerator, or in the emulator of it."""
    runner = book().runner(framework)
    return runner is not None and entry.devices[framework] in runner.devices


def hint(source: ModelSource) -> ModelFormat:
    """Return a model's format as far as its source says it, before anybody has looked into it; else Auto."""
    if source.format is not ModelFormat.AUTO:
        return source.format
    ending = next((found for end, found in _ENDINGS.items() if source.uri.endswith(end)), None)
    return ending or (ModelFormat.HUGGING_FACE if source.uri.startswith("hf://") else ModelFormat.AUTO)


def groups(entry: AcceleratorEntry, hint: ModelFormat, requested: Sequence[CandidateRequest]) -> tuple[str, ...]:
    """Return the groups of tools that an optimization needs beside the main one, in the order of the matrix.

    Args:
        entry: The accelerator.
        hint: Format of the source model, or Auto when nobody said it; it counts as ONNX then, as most are.
        requested: Candidates that were asked for; empty: those of the matrix.
    """
    known = book()
    likely = ModelFormat.ONNX if hint is ModelFormat.AUTO else hint
    found: list[str] = []
    ways = [(request.framework, request.precision, request.technique) for request in requested or entry.candidates]
    recipes = [known.recipes[way] for way in ways if way in known.recipes]
    if not requested or any(hint not in known.makers[recipe.name].reads for recipe in recipes):
        found += [tool.group for tool in known.tools.values() if hint in tool.converts]
    runner = known.runner(REFERENCE[hint]) if hint in REFERENCE else None
    as_it_is = not found or any(hint in known.makers[recipe.name].reads for recipe in recipes)
    if runner is not None and as_it_is:
        found.append(runner.group)  # the model itself is measured there, whatever is made of it
    for recipe in recipes:
        maker, runner = known.makers[recipe.name], known.runner(recipe.framework)
        if requested or _tried(maker, likely):
            found += [maker.group, runner.group if runner else maker.group]
    return tuple(group for group in dict.fromkeys(found) if group != MAIN_GROUP)


def _tried(tool: Tool, model_format: ModelFormat) -> bool:
    """Tell whether a tool's recipes are tried for a format though nobody asked for them."""
    return model_format in (tool.tries or tool.reads)


def _impossible(recipe: Recipe, known: Book, entry: AcceleratorEntry, available: Available) -> str | None:
    """Return why a candidate cannot be made from what there is, or not be measured."""
    tool, runner = known.makers[recipe.name], known.runner(recipe.framework)
    if not _measurable_in(entry, recipe.framework):
        return f"this version of Skerry cannot measure models in {recipe.framework} on {entry.name}"
    if available.model_format not in tool.reads:
        return f"{tool.tool} does not read {available.model_format} models"
    missing = [each.tool for each in (tool, runner) if each is not None and each.tool not in available.tools]
    if missing:
        return f"{missing[0]} is not here: it belongs to the image of the group {known.tools[missing[0]].group}"
    if Need.CALIBRATION in recipe.needs and not available.calibration:
        return _MISSING[Need.CALIBRATION]
    if Need.LABELS in recipe.needs and not available.calibration_labels:
        return _MISSING[Need.LABELS]
    return None


def _unasked(recipe: Recipe, known: Book, available: Available) -> str | None:
    """Return why a tool that reads a format does not work on it by itself."""
    tool = known.makers[recipe.name]
    if available.model_format not in tool.reads or _tried(tool, available.model_format):
        return None
    return f"{tool.tool} is tried for {available.model_format} models only when it is asked for"


def _unwise(recipe: Recipe, available: Available) -> str | None:
    """Return why a candidate that nobody asked for is not tried."""
    if recipe.precision is not Precision.FP32 and not available.calibration:
        return "without data nobody could tell what the lower precision costs"
    return None


def plan(entry: AcceleratorEntry, available: Available, requested: Sequence[CandidateRequest]) -> Plan:
    """Return what to try on an accelerator: what was requested, else the matrix as far as it makes sense.

    Raises:
        CandidateError: A requested candidate does not exist, or cannot be made from what there is; or nothing can be
            measured on the accelerator.
    """
    known = book()
    if not measurable(entry):
        message = f"this version of Skerry cannot measure models on {entry.name}, so that it does not optimize for it"
        raise CandidateError(message)
    for request in requested:
        check(request)
        if request.framework not in entry.devices:
            message = (
                f"candidate {name_of(request)} was asked for, but {request.framework} does not run on {entry.name}"
            )
            raise CandidateError(message)
        if (reason := _impossible(recipe_of(request), known, entry, available)) is not None:
            message = f"candidate {name_of(request)} was asked for, but {reason}"
            raise CandidateError(message)
    if requested:
        return Plan(_named([(request, "it was asked for", "") for request in requested]), asked=True)
    left_out: dict[str, str] = {}
    chosen: list[tuple[CandidateRequest, str, str]] = []
    for row in entry.candidates:
        if not row.suits(available.kind):
            continue
        recipe = recipe_of(row)
        reason = (
            _unasked(recipe, known, available)
            or _impossible(recipe, known, entry, available)
            or _unwise(recipe, available)
        )
        if reason is None:
            chosen.append((row.request, row.reason or recipe.reason, row.source or recipe.source))
        else:
            left_out[name_of(row)] = reason
    planned = _named(chosen)
    return Plan(tuple(sorted(planned, key=lambda each: each.recipe.stage)), left_out)


def _named(requests: Iterable[tuple[CandidateRequest, str, str]]) -> tuple[Planned, ...]:
    """Name candidates; the second with the same name (but other options) ends with -2, and so on."""
    known = book()
    counts: dict[str, int] = {}
    named = []
    for request, reason, source in requests:
        name, recipe = name_of(request), recipe_of(request)
        counts[name] = counts.get(name, 0) + 1
        unique = name if counts[name] == 1 else f"{name}-{counts[name]}"
        named.append(Planned(unique, request, recipe, known.makers[recipe.name], reason, source))
    return tuple(named)


def recoveries(failed: Planned, kind: ModelKind) -> list[Planned]:
    """Return what to try, in this order, when a candidate keeps too little accuracy.

    Steps that would change nothing are left out, and so are those for other kinds of models.
    """
    return [
        _recovery(failed, step)
        for step in failed.recipe.recovery
        if (not step.models or kind in step.models) and not step.options.items() <= failed.request.options.items()
    ]


def _recovery(failed: Planned, step: Recovery) -> Planned:
    options = {**failed.request.options, **step.options}
    request = failed.request.model_copy(update={"options": options})
    name = f"{failed.name}-{step.suffix}"[:_NAME_LIMIT]
    return Planned(name, request, failed.recipe, failed.tool, step.reason, step.source, recovers=failed.name)
