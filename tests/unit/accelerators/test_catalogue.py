"""The catalogue: what it says is known to the other parts."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from skerry.accelerators.catalogue import AcceleratorEntry, CatalogueError, catalogue, checked, from_file
from skerry.accelerators.cpu import FEATURES
from skerry.accelerators.recipes import book
from skerry.planning.candidates import check, servable


def test_all_features_and_candidates_of_the_catalogue_exist() -> None:
    for name, entry in catalogue().items():
        assert entry.name == name
        features = {*entry.native_int8, *(half.feature for half in entry.native_half)}
        assert features <= FEATURES.keys()
        for candidate in entry.candidates:
            check(candidate)


def test_only_what_a_server_runs_is_optimized_for_on_a_cluster() -> None:
    """images/server/Dockerfile removes OpenVINO's other plugins, and its ONNX Runtime is that for the CPU."""
    assert [name for name, entry in catalogue().items() if servable(entry)] == ["cpu"]
    served = {device for tool in book().tools.values() for device in tool.serves}
    assert served == {"AUTO", "CPU", "CPUExecutionProvider"}


def test_frameworks_and_devices_must_agree() -> None:
    document = catalogue()["cpu"].wire()
    del document["devices"]["OpenVINO"]
    with pytest.raises(ValidationError, match="candidates must be of frameworks in devices"):
        AcceleratorEntry.model_validate(document)


ENTRY = {
    "name": "mine",
    "description": "A card.",
    "match": [{"pci": {"vendor": "abcd"}}],
    "frameworks": [{"name": "OpenVINO", "reason": "a test", "source": "a test"}],
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"match": []}, "mine: match: there must be a way to recognise it"),
        ({"vendor_resources": ["a.b/c"]}, "mine: vendor_resources: Extra inputs are not permitted"),
        ({"pod": {"env": {"A-B": "x"}}}, "mine: pod.env.A-B"),
        ({"pod": {"runtimeClassName": "BAD NAME"}}, "mine: pod.runtimeClassName"),
        ({"name": "a" * 45}, "name: String should have at most 44 characters"),
    ],
)
def test_a_wrong_entry_is_told_with_its_place(change: dict[str, Any], told: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        checked([{**ENTRY, **change}])
    assert told in str(refused.value)


@pytest.mark.parametrize("document", [[ENTRY], {"accelerators": {"extra": [ENTRY]}}])
def test_a_file_holds_a_list_or_is_one_of_values(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "entries.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert list(from_file(path)) == ["mine"]
