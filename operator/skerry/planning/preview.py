"""What would be tried for a model, before anything is made: for `skerry plan`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from skerry.accelerators.catalogue import AcceleratorEntry, Catalogue
from skerry.accelerators.recipes import book
from skerry.api.types import CandidateRequest, ModelFormat
from skerry.planning.candidates import Available, CandidateError, Planned, measurable, plan, recoveries, servable

PERCENT: Final = 100.0
ALONE: Final = "only by `skerry optimize`: no server of this version runs models on it, so no cluster optimizes for it"
FORMATS: Final = tuple(found for found in ModelFormat if found is not ModelFormat.AUTO)


@dataclass(frozen=True)
class Row:
    """One candidate as it is shown before.

    Attributes:
        name: Its name.
        when: When it is tried: at once, or what must have happened.
        reason: Why.
        source: Where that is known from.
        size_bytes: Estimated size of its files; None when the model's size is not known.
        memory_bytes: Estimated memory of loading and running it.
        size_percent: The same in percent of the model at FP32.
        memory_percent: The same in percent of the model at FP32.
    """

    name: str
    when: str
    reason: str
    source: str
    size_bytes: int | None
    memory_bytes: int | None
    size_percent: float
    memory_percent: float


@dataclass(frozen=True)
class Preview:
    """What would be tried on one accelerator.

    Attributes:
        accelerator: Its name.
        rows: The candidates in their order.
        left_out: Candidates that would not be tried, with the reason.
        trouble: Why nothing at all can be tried; empty when something can.
        remark: Why a cluster would not try it all the same.
    """

    accelerator: str
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    trouble: str = ""
    remark: str = ""


def preview(
    entries: Catalogue, available: Available, requested: Sequence[CandidateRequest], fp32_bytes: int | None
) -> list[Preview]:
    """Return what would be tried on each accelerator, were all tools there.

    Args:
        entries: The accelerators.
        available: What there is to work with.
        requested: Candidates that were asked for; empty: those of the matrix.
        fp32_bytes: Size of the model's weights at FP32; None when it is not known.
    """
    everything = replace(available, tools=frozenset(book().tools))
    return [_of(entry, everything, requested, fp32_bytes) for entry in entries.values()]


def _of(
    entry: AcceleratorEntry, available: Available, requested: Sequence[CandidateRequest], fp32_bytes: int | None
) -> Preview:
    if not measurable(entry) or not (entry.candidates or requested):
        return Preview(entry.name, (), {}, "this version of Skerry does not optimize for it")
    try:
        found = plan(entry, available, requested)
    except CandidateError as error:
        return Preview(entry.name, (), {}, str(error))
    rows: list[Row] = []
    for planned in found.candidates:
        rows.append(_row(planned, _when(planned), fp32_bytes))
        steps = [] if found.asked else recoveries(planned, available.kind)
        rows += [_row(step, f"when {planned.name} loses too much accuracy", fp32_bytes) for step in steps]
    return Preview(entry.name, tuple(rows), found.left_out, remark="" if servable(entry) else ALONE)


def _when(planned: Planned) -> str:
    if planned.recipe.rescues:
        return f"when {planned.recipe.rescues} loses too much accuracy"
    return "first" if planned.recipe.stage == 1 else "then"


def _row(planned: Planned, when: str, fp32_bytes: int | None) -> Row:
    estimate = planned.recipe.estimate

    def of(percent: float) -> int | None:
        return None if fp32_bytes is None else int(fp32_bytes * percent / PERCENT)

    return Row(
        planned.name,
        when,
        planned.reason,
        planned.source,
        of(estimate.size_percent),
        of(estimate.memory_percent),
        estimate.size_percent,
        estimate.memory_percent,
    )
