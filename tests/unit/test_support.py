"""docs/support.md says of everything that there is how far it was tested, and what it names exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from skerry.accelerators.catalogue import catalogue
from skerry.accelerators.recipes import MAIN_GROUP, book
from skerry.api.types import ModelFormat

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
STATES: Final = {"works", "simulated", "not tested"}
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def rows(title: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below a title."""
    section = TEXT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(",") if word.strip()]


def makes(cell: str) -> set[tuple[str, str]]:
    """Return the frameworks with the precisions that a cell lists for each."""
    found = set()
    for part in cell.split(";"):
        framework, _, precisions = part.strip().partition(" ")
        found |= {(framework, precision) for precision in words(precisions)}
    return found


def stated() -> Iterator[tuple[str, str, str]]:
    """Yield each row's first cell, its state and its last cell."""
    for row in rows("Tools"):
        yield row[0], row[4], row[5]
    for title in ("What counts energy", "Formats of source models"):
        for row in rows(title):
            yield row[0], row[2], row[3]


def test_each_tool_has_a_row_with_all_that_it_makes() -> None:
    written = {row[0]: (row[1], makes(row[2])) for row in rows("Tools")}
    there = {}
    for name, tool in book().tools.items():
        image = "optimizer" if tool.group == MAIN_GROUP else f"optimizer-{tool.group}"
        there[name] = (image, {(str(recipe.framework), str(recipe.precision)) for recipe in tool.recipes})
    assert written == there


def test_each_accelerator_is_somewhere() -> None:
    made = {name for row in rows("Tools") for name in words(row[3])}
    missing = {name for row in rows("Accelerators for which nothing is made yet") for name in words(row[0])}
    assert made | missing == set(catalogue())


def test_accelerators_with_candidates_have_a_row() -> None:
    tools = {row[0]: words(row[3]) for row in rows("Tools")}
    for entry in catalogue().values():
        for request in entry.candidates:
            makers = {
                book().makers[recipe.name].tool
                for recipe in book().recipes.values()
                if recipe.way == (request.framework, request.precision, request.technique)
            }
            assert any(entry.name in tools[maker] for maker in makers), (entry.name, request)


def test_each_format_has_a_row_with_its_readers() -> None:
    written = {row[0]: set(words(row[1])) for row in rows("Formats of source models")}
    there = {
        str(each): {name for name, tool in book().tools.items() if each in (*tool.reads, *tool.converts)}
        for each in ModelFormat
        if each is not ModelFormat.AUTO
    }
    assert written == there


@pytest.mark.parametrize(("name", "state", "last"), list(stated()), ids=lambda value: value[:20])
def test_a_state_is_proven_or_explained(name: str, state: str, last: str) -> None:
    assert state in STATES, name
    assert bool(NAMED.search(last)) is (state != "not tested"), f"{name}: tests prove, words explain"


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(TEXT))))
def test_what_is_named_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
