"""The HTML report: one file that is well-formed, asks for nothing, and shows what it is given."""

import base64
import hashlib
import itertools
import re
from pathlib import Path

import pytest

from skerry.optimizer.rendering import html
from skerry.optimizer.rendering.files import report_files
from skerry.optimizer.rendering.words import clean
from skerry.optimizer.report import Report
from tests.unit.optimizer.rendering.samples import HOSTILE, SAMPLES, several
from tests.unit.optimizer.rendering.strict import Strict

LOADING = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background", "ping"}
STYLE = Path(html.__file__).parent / "templates" / "report.css"


@pytest.fixture(params=SAMPLES)
def document(request: pytest.FixtureRequest) -> str:
    return html.render(SAMPLES[request.param]())


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - {"nowhere a number"}))
def test_what_is_kept_is_all_that_it_needs(name: str) -> None:
    made = SAMPLES[name]()
    files = {file.name: file.content for file in report_files(made)}
    again = Report.model_validate_json(files["report.json"])
    assert again == made
    assert html.render(again).encode() == files["report.html"]


def test_it_is_well_formed(document: str) -> None:
    found = Strict(document)
    assert found.doctype == "DOCTYPE html"
    names = [name for element in found.elements if (name := element.attributes.get("id"))]
    assert len(names) == len(set(names))
    for element in found.elements:
        for name in (element.attributes.get("aria-labelledby") or "").split():
            assert name in names


def test_it_asks_for_nothing(document: str) -> None:
    found = Strict(document)
    for element in found.elements:
        assert not LOADING & element.attributes.keys(), element
        assert not any(name.startswith("on") for name in element.attributes), element
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    styles = "".join(
        [*(it.text for it in found.all("style")), *(it.attributes.get("style") or "" for it in found.elements)]
    )
    assert not re.search(r"url\(|@import|expression", styles)


def test_the_browser_is_told_to_run_nothing_but_the_script_within(document: str) -> None:
    found = Strict(document)
    (policy,) = (it.attributes["content"] for it in found.all("meta") if "http-equiv" in it.attributes)
    (script,) = (it.text for it in found.all("script"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_who_does_not_see_it_can_read_it(document: str) -> None:
    found = Strict(document)
    for drawing in found.all("svg"):
        if drawing.attributes.get("role") == "img":
            assert [child.tag for child in drawing.children][:2] == ["title", "desc"]
            assert all(child.text for child in drawing.children[:2])
        else:
            assert drawing.attributes["aria-hidden"] == "true"
    assert all(it.attributes.get("scope") in {"row", "col"} for it in found.all("th"))
    levels = [int(it.tag[1]) for it in found.elements if re.fullmatch("h[1-6]", it.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_what_others_wrote_is_only_text() -> None:
    text = html.render(SAMPLES["hostile"]())
    found = Strict(text)
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert not found.all("img")
    body = found.all("body")[0].text
    assert body.count(clean(HOSTILE)) >= 20
    assert not re.search("[\x00\x1b\u202e]", text)
    assert "{{ 7*7 }}" in body


def test_a_row_for_each_with_its_verdict_in_words() -> None:
    found = Strict(html.render(several()))
    bodies = [it for it in found.all("tbody") if it.parent and it.parent.attributes.get("id") == "table"]
    words = [" ".join(body.text.split()) for body in bodies]
    assert [re.sub(r" .*", "", line.removeprefix(f"{place} ")) for place, line in enumerate(words)] == [
        "baseline",
        "quick",
        "exact",
        "vague",
        "broken",
    ]
    assert "chosen" in words[1]
    assert "✓ Passed" in words[1]
    assert "0.25\N{MULTIPLICATION SIGN}" in words[1]
    assert "0.95 to 1.05" in words[1]
    assert "? Inconclusive" in words[3]
    assert "✗ Failed" in words[4]
    assert "Inverse is not known" in words[4]
    assert "it needs labels" in found.all("body")[0].text


def test_streams_have_a_table_of_their_own_where_there_are_figures() -> None:
    def tables(text: str) -> list[str]:
        regions = [it for it in Strict(text).all("section") if it.attributes.get("aria-labelledby") == "streams"]
        return [" ".join(it.text.split()) for it in regions]

    (words,) = tables(html.render(several()))
    assert "2 streams" in words
    assert "quick 200 2\N{MULTIPLICATION SIGN} 180 to 200 450 3\N{MULTIPLICATION SIGN}" in words
    assert "vague not measured: memory ran out" in words
    assert tables(html.render(SAMPLES["language"]())) == []


def test_marks_differ_in_shape_not_only_in_colour() -> None:
    found = Strict(html.render(several()))
    shapes = {
        kind: {it.tag for it in found.elements if it.attributes.get("class") == f"mark {kind}"}
        for kind in ("passed", "failed", "inconclusive")
    }
    assert shapes == {"passed": {"circle"}, "failed": {"rect"}, "inconclusive": {"path"}}


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_has_contrast(theme: int) -> None:
    colours = _colours(re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), re.DOTALL)[theme])
    for text in ("ink", "quiet", "good", "bad", "doubt", "base", "accent"):
        for ground in ("card", "paper", "soft"):
            bright, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_the_report_of_a_real_optimization(optimized: Path) -> None:
    report = Report.model_validate_json((optimized / "report.json").read_text(encoding="utf-8"))
    text = (optimized / "report.html").read_text(encoding="utf-8")
    assert text == html.render(report)
    body = Strict(text).all("body")[0].text
    for candidate in (report.baseline, *report.candidates):
        assert candidate.result.name in body
        assert candidate.latency_histogram is not None
        assert sum(candidate.latency_histogram.counts) > 0
    assert "How long single inferences took" in body
    layers = [layer.name for candidate in report.candidates for layer in candidate.sensitivity]
    assert layers
    assert all(name in body for name in layers)
    assert "skerry optimize" in body
    assert report.source_sha256 in body
