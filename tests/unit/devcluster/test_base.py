"""The bases of images: which Debian, with which settings."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devcluster import base
from devcluster.engine import Engine


@dataclass(frozen=True)
class Store(Engine):
    """An engine that can pull Debian, and keeps what it is told to build."""

    name: str = "podman"
    env: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def has_image(self, reference: str) -> bool:
        return reference in self.made

    def pull(self, reference: str) -> bool:
        return reference.startswith("docker.io/library/debian:")

    def build(self, recipe: str, context: Path, reference: str) -> None:
        self.made[reference] = recipe, {path.name: path.read_text() for path in context.iterdir()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "cache_folder", lambda: tmp_path)


@pytest.mark.usefixtures("folder")
def test_a_sid_that_is_behind_is_not_refused_as_expired() -> None:
    store = Store()
    recipe, files = store.made[base.base(store, "sid")]
    assert files == {"apt.conf": 'Acquire::Check-Valid-Until "false";\n'}
    assert "\nCOPY apt.conf /etc/apt/apt.conf.d/50devcluster\nRUN apt-get update" in recipe


@pytest.mark.parametrize("names", [("sid", ['Acquire::Check-Valid-Until "false";\n']), ("trixie", [])])
def test_made_from_packages_it_has_the_same_settings_and_no_leftovers(
    tmp_path: Path, names: tuple[str, list[str]]
) -> None:
    suite, wanted = names
    (tmp_path / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/mirror").touch()
    base.settle(tmp_path, suite)
    assert [file.read_text() for file in (tmp_path / "etc").rglob("*devcluster")] == wanted
    assert list((tmp_path / "var/lib/apt/lists").iterdir()) == []
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_releases_are_taken_as_they_are(suite: str) -> None:
    store = Store()
    recipe, files = store.made[base.base(store, suite)]
    assert recipe.startswith(f"FROM docker.io/library/debian:{suite}-slim\nRUN apt-get update")
    assert files == {}


def test_the_reference_of_a_base_stands_for_its_packages_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.reference_of("sid")
    assert before.startswith("localhost/devcluster-base:sid-")
    monkeypatch.setitem(base.APT_SETTINGS, "sid", 'Acquire::Check-Valid-Until "true";\n')
    assert base.reference_of("sid") != before
    before = base.reference_of("trixie")
    monkeypatch.setitem(base.PACKAGES, "trixie", ("ca-certificates", "curl"))
    assert base.reference_of("trixie") != before
