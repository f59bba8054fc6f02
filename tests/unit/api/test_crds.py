"""The CRDs in the repository are those of the models, and obey the rules of the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.crd import KINDS, Kind, definition
from skerry.api.generate import stale

ROOT = Path(__file__).parents[3]
CRD_LIMIT = 64 * 1024


def walk(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "type" in node or "x-kubernetes-int-or-string" in node:
            yield path, node
        for name, child in node.get("properties", {}).items():
            yield from walk(child, f"{path}.{name}")
        for word in ("items", "additionalProperties"):
            if isinstance(node.get(word), dict):
                yield from walk(node[word], f"{path}[]")


def nodes(kind: Kind, part: str) -> list[tuple[str, dict[str, Any]]]:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return list(walk(schema[part], part)) if part in schema else []


@pytest.mark.parametrize("folder", ["crds", "charts/skerry/files/crds"])
def test_files_are_generated_from_the_models(folder: str) -> None:
    assert stale(ROOT / folder) == []


def test_stale_names_a_file_that_was_edited(tmp_path: Path) -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    edited = tmp_path / "edgemodels.skerry.dev.yaml"
    edited.write_text(
        edited.read_text(encoding="utf-8").replace("maxLength: 1024", "maxLength: 1025", 1), encoding="utf-8"
    )
    (tmp_path / "other.yaml").write_text("kind: Other\n", encoding="utf-8")

    assert stale(tmp_path) == ["edgemodels.skerry.dev.yaml", "other.yaml"]


@pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.name)
def test_each_crd_stays_below_64_kib(path: Path) -> None:
    assert path.stat().st_size < CRD_LIMIT


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_schemas_obey_the_rules_of_the_api(kind: Kind, part: str) -> None:
    for path, node in nodes(kind, part):
        assert node.get("type") != "number", f"{path}: floats are forbidden"
        assert "nullable" not in node, f"{path}: nullable is forbidden"
        if node.get("type") == "array":
            assert "maxItems" in node, f"{path}: a list without maxItems"
            assert "x-kubernetes-list-type" in node, f"{path}: a list without a list type"
        if node.get("type") == "string" and "enum" not in node and node.get("format") != "date-time":
            assert "maxLength" in node, f"{path}: a string without maxLength"
        if node.get("type") == "object" and "additionalProperties" in node:
            assert "maxProperties" in node, f"{path}: a map without maxProperties"
        if not path.endswith("[]"):
            assert node.get("description"), f"{path}: a field without description"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_status_has_no_defaults(kind: Kind) -> None:
    assert [path for path, node in nodes(kind, "status") if "default" in node] == []


def test_an_unsupported_choice_is_refused() -> None:
    class Choice(KINDS[0].status):  # type: ignore[misc]
        either: int | str

    with pytest.raises(TypeError, match="structural schema cannot have the choice"):
        definition(Kind("Choice", "choices", "c", "A choice.", status=Choice))
