"""Settings from the environment."""

import json

import pytest

from skerry.controllers.settings import Settings, SettingsError

INSTALLATION = {
    "optimizerImage": "optimizer:1",
    "serverImage": "server:1",
    "registry": {"push": "registry.skerry-system:5000", "pull": "localhost:30500"},
}
LEAST = {"SKERRY_INSTALLATION": json.dumps(INSTALLATION), "SKERRY_NAMESPACE": "skerry-system"}


def test_the_least_settings_have_defaults_for_the_rest() -> None:
    settings = Settings.from_env(LEAST)

    assert settings.installation.registry.prefix == "models"
    assert (settings.watch, settings.resync_seconds, settings.workers) == ((), 300, 4)


def test_namespaces_are_separated_by_commas() -> None:
    assert Settings.from_env({**LEAST, "SKERRY_WATCH_NAMESPACES": "a, b,"}).watch == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SKERRY_INSTALLATION": "{"}, "SKERRY_INSTALLATION must hold the installation's settings as JSON"),
        ({"SKERRY_INSTALLATION": "{}"}, "SKERRY_INSTALLATION: optimizerImage: Field required"),
        ({"SKERRY_NAMESPACE": ""}, "SKERRY_NAMESPACE must name the operator's own namespace"),
        ({"SKERRY_WORKERS": "many"}, "SKERRY_WORKERS must be a whole number of at least 1, not 'many'"),
        ({"SKERRY_RESYNC_SECONDS": "1"}, "SKERRY_RESYNC_SECONDS must be a whole number of at least 10"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_env({**LEAST, **change})
