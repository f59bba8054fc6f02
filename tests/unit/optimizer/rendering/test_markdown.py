"""The report in short, read by a real Markdown parser."""

from collections.abc import Iterator, Sequence

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from skerry.optimizer.rendering import markdown
from skerry.optimizer.rendering.words import clean
from tests.unit.optimizer.rendering.samples import HOSTILE, SAMPLES, several

PLAIN = {"inline", "text", "softbreak", "code_inline", "fence"}
STRUCTURE = {"heading", "paragraph", "strong", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item"}


def tokens(found: Sequence[Token]) -> Iterator[Token]:
    for token in found:
        yield token
        yield from tokens(token.children or ())


def parsed(text: str) -> list[Token]:
    return list(tokens(MarkdownIt("commonmark").enable("table").parse(text)))


@pytest.mark.parametrize("name", SAMPLES)
def test_it_has_no_other_structure_than_ours(name: str) -> None:
    report = SAMPLES[name]()
    found = parsed(markdown.render(report))
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in found}
    assert kinds <= PLAIN | STRUCTURE
    rows = sum(token.type == "tr_open" for token in found)
    assert rows == len(report.candidates) + 2
    cells = sum(token.type in {"td_open", "th_open"} for token in found)
    assert cells % rows == 0


def test_what_others_wrote_is_only_text() -> None:
    text = markdown.render(SAMPLES["hostile"]())
    shown = "".join(token.content for token in parsed(text) if token.type in {"text", "code_inline"})
    assert shown.count("{{ 7*7 }}") >= 5
    assert clean(HOSTILE) in shown.replace("\N{ZERO WIDTH SPACE}", "")
    assert "@all" not in "".join(token.content for token in parsed(text) if token.type == "text")


@pytest.mark.parametrize("name", ["a|b", "`", "``a`", " a ", "a\nb"])
def test_names_are_code(name: str) -> None:
    (found,) = (token.content for token in parsed(markdown.code(name)) if token.type == "code_inline")
    assert found == " ".join(name.split())


def test_it_says_the_same_in_short() -> None:
    text = markdown.render(several())
    assert "**quick was chosen, because of the 2 out of 4 candidates that passed all 3 gates it has the lowest" in text
    assert "| **`quick`** | ✓ Passed | 89 (\N{MINUS SIGN}1 points) | 1 (0.25\N{MULTIPLICATION SIGN}) |" in text
    assert "- `broken`: Inverse is not known" in text
    assert "- `openvino-int8-aware`: it needs labels" in text
    assert "\nskerry optimize oci://registry:5000/models/digits:1.0" in text
    assert (
        "- `quick`: 200 (2\N{MULTIPLICATION SIGN}) with 1 stream, 450 (3\N{MULTIPLICATION SIGN}) with 2 streams" in text
    )
    assert "- `vague`: not measured: memory ran out" in text
