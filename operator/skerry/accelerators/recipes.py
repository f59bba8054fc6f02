"""What the tools can make: the recipes of `recipes/`, one file a tool, each with the backend module of that name.

A recipe is one way to make a candidate. Which recipes are worth trying on which hardware is the catalogue's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated, Final, Self

import yaml
from pydantic import Field, model_validator

from skerry.api.meta import ApiModel, Name
from skerry.api.types import Framework, ModelFormat, ModelKind, Precision, Technique

MAIN_GROUP: Final = "openvino"
"""The group whose image runs the search itself; others join it as workers."""

REFERENCE: Final = {
    ModelFormat.ONNX: Framework.ONNX_RUNTIME,
    ModelFormat.OPENVINO: Framework.OPENVINO,
    ModelFormat.HUGGING_FACE: Framework.LLAMA_CPP,
    ModelFormat.SAFETENSORS: Framework.LLAMA_CPP,
    ModelFormat.GGUF: Framework.LLAMA_CPP,
    ModelFormat.TFLITE: Framework.LITERT,
}
"""The framework in which a source model of a format is the baseline."""

Text = Annotated[str, Field(min_length=1, max_length=512)]
Options = dict[str, Annotated[str, Field(max_length=256)]]
Way = tuple[Framework, Precision, Technique]


class Need(StrEnum):
    """What a recipe cannot do without."""

    CALIBRATION = "Calibration"
    LABELS = "Labels"


class Option(ApiModel):
    """One option of a recipe: one of some words, a number between bounds, or any text.

    Attributes:
        values: The words; empty for a number or a text.
        lowest: Least number.
        highest: Largest number.
        default: What counts when nothing is said; for people.
        names: Whether a value becomes part of the candidate's name.
        description: What it does.
    """

    values: list[str] = Field(default_factory=list)
    lowest: float | None = None
    highest: float | None = None
    default: str = ""
    names: bool = False
    description: Text

    def trouble(self, value: str) -> str | None:
        """Return what is wrong with a value, or None."""
        if self.values:
            return None if value in self.values else f"it may be {', '.join(self.values)}"
        if self.lowest is None or self.highest is None:
            return None
        try:
            fits = self.lowest <= float(value) <= self.highest
        except ValueError:
            fits = False
        return None if fits else f"it must be a number from {self.lowest:g} to {self.highest:g}"


class Estimate(ApiModel):
    """How much is left of the source model at FP32, in percent: a rule of thumb, before anything is made."""

    size_percent: Annotated[float, Field(gt=0, le=200)]
    memory_percent: Annotated[float, Field(gt=0, le=400)]


class Recovery(ApiModel):
    """A change of options that is tried when the recipe keeps too little accuracy.

    Attributes:
        suffix: What the candidate's name gets.
        options: The options that change.
        models: Kinds of models that it helps; empty: all.
        reason: Why it helps.
        source: Where that is known from.
    """

    suffix: Annotated[str, Field(pattern=r"^[a-z0-9]+$", max_length=16)]
    options: Options
    models: list[ModelKind] = Field(default_factory=list)
    reason: Text
    source: Text


class Recipe(ApiModel):
    """One way to make a candidate.

    Attributes:
        name: Name of the candidate, for example openvino-int8-ptq.
        framework: The runtime that executes it.
        precision: The precision of its weights.
        technique: How it is made.
        stage: 1 for what is cheap and safe and comes first, 2 for what takes longer, 3 for the last resort.
        needs: What it cannot do without.
        options: Its options.
        estimate: What is left of the model.
        reason: Why it is worth a try.
        source: Where that is known from.
        rescues: Name of a recipe that must have lost too much accuracy before this one is worth a try.
        recovery: What is tried when it keeps too little accuracy, in this order.
    """

    name: Name
    framework: Framework
    precision: Precision
    technique: Technique
    stage: Annotated[int, Field(ge=1, le=3)] = 1
    needs: list[Need] = Field(default_factory=list)
    options: dict[str, Option] = Field(default_factory=dict)
    estimate: Estimate
    reason: Text
    source: Text
    rescues: str = ""
    recovery: list[Recovery] = Field(default_factory=list)

    @property
    def way(self) -> Way:
        """What identifies it in a spec."""
        return self.framework, self.precision, self.technique

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for step in self.recovery:
            for option, value in step.options.items():
                if option not in self.options or (told := self.options[option].trouble(value)) is not None:
                    message = f"{self.name}: recovery {step.suffix}: {option}={value} is no option: {told}"
                    raise ValueError(message)
        return self


class Tool(ApiModel):
    """A tool with its recipes.

    Attributes:
        tool: Its name, which is that of its module in `skerry.optimizer.backends`.
        group: Group of tools that share an image, `optimizer-<group>` (the main one's is `optimizer`).
        packages: Python packages without which it does not run here.
        programs: Programs without which it does not run here.
        reads: Formats of source models that it can work on.
        tries: Formats for which its recipes are tried though nobody asked for them; empty: all that it reads.
        runs: Frameworks that its module loads models in.
        converts: Formats of source models of which its group makes ONNX models before all else.
        serves: Devices on which Skerry's servers run its frameworks, in their words.
        devices: Devices that it can load them on to measure them, in the frameworks' words.
        recipes: What it can make.
    """

    tool: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    group: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
    packages: list[str] = Field(default_factory=list)
    programs: list[str] = Field(default_factory=list)
    reads: list[ModelFormat] = Field(default_factory=list)
    tries: list[ModelFormat] = Field(default_factory=list)
    runs: list[Framework] = Field(default_factory=list)
    converts: list[ModelFormat] = Field(default_factory=list)
    serves: list[str] = Field(default_factory=list)
    devices: list[str] = Field(default_factory=lambda: ["CPU"])
    recipes: list[Recipe] = Field(default_factory=list)


@dataclass(frozen=True)
class Book:
    """All tools and recipes.

    Attributes:
        tools: Tools by name.
        recipes: Recipes by what identifies them in a spec, in the order of the files.
        makers: The tool of each recipe, by the recipe's name.
    """

    tools: Mapping[str, Tool]
    recipes: Mapping[Way, Recipe]
    makers: Mapping[str, Tool]

    def runner(self, framework: Framework) -> Tool | None:
        """Return the tool that loads models in a framework."""
        return next((tool for tool in self.tools.values() if framework in tool.runs), None)


class RecipeError(ValueError):
    """The files contradict each other."""


@cache
def book() -> Book:
    """Return what the files say.

    Raises:
        RecipeError: Two recipes have the same name or the same way, or two tools run the same framework.
    """
    folder = resources.files("skerry.accelerators") / "recipes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return bound([Tool.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files])


def bound(tools: list[Tool]) -> Book:
    """Return the tools as one book.

    Raises:
        RecipeError: Two recipes have the same name or the same way, or two tools run the same framework.
    """
    recipes: dict[Way, Recipe] = {}
    makers: dict[str, Tool] = {}
    runners: dict[Framework, str] = {}
    for tool in tools:
        for framework in tool.runs:
            if framework in runners:
                message = f"{framework} is run by both {runners[framework]} and {tool.tool}"
                raise RecipeError(message)
            runners[framework] = tool.tool
        for recipe in tool.recipes:
            if recipe.way in recipes or recipe.name in makers:
                message = f"{recipe.name} of {tool.tool} is there already, by its name or as {' '.join(recipe.way)}"
                raise RecipeError(message)
            recipes[recipe.way], makers[recipe.name] = recipe, tool
    return Book({tool.tool: tool for tool in tools}, recipes, makers)
