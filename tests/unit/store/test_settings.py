"""Credentials and settings."""

import base64
import json
from pathlib import Path

import pytest

from skerry.api import jobcontract
from skerry.store.errors import AccessError, UnreachableError
from skerry.store.settings import Credentials, Login, StoreSettings


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_logins_are_found_by_host_and_port() -> None:
    auths = {
        "registry:5000": {"auth": encoded("a", "p:with:colons")},
        "https://other/v2/": {"username": "b", "password": "2"},
        "https://index.docker.io/v1/": {"auth": encoded("c", "3")},
        "helped": {},
        "both": {"auth": "", "username": "d", "password": "4"},
    }
    credentials = Credentials.from_docker_config(json.dumps({"auths": auths, "credsStore": "desktop"}))
    assert credentials.login("registry:5000") == Login("a", "p:with:colons")
    assert credentials.login("other") == Login("b", "2")
    assert credentials.login("docker.io") == Login("c", "3")
    assert credentials.login("both") == Login("d", "4")
    assert credentials.login("helped") is None
    assert credentials.login("registry") is None
    assert credentials.login("registry:5001") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"auths": []}', '{"auths": {"a": {"auth": "%"}}}', '{"auths": {"a": 1}}']
)
def test_what_is_no_docker_configuration(text: str) -> None:
    with pytest.raises(AccessError, match="not a Docker configuration with auths"):
        Credentials.from_docker_config(text)


@pytest.mark.parametrize("text", ["{}", '{"credsStore": "desktop"}', '{"auths": {}, "credHelpers": {}}'])
def test_a_machine_that_keeps_its_passwords_in_a_helper_has_none_to_show(text: str) -> None:
    assert Credentials.of_machine(text) == Credentials()


def test_a_machine_s_configuration_is_read_as_any_other() -> None:
    auths = json.dumps({"auths": {"host": {"auth": encoded("a", "b")}}})
    assert Credentials.of_machine(auths).login("host") == Login("a", "b")
    with pytest.raises(AccessError, match="not a Docker configuration"):
        Credentials.of_machine("[1]")


def test_secrets_of_both_types(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()  # what the kubelet keeps in every mounted Secret
    with pytest.raises(UnreachableError, match="does not exist yet, or is empty"):
        Credentials.from_folder(tmp_path, "host")
    (tmp_path / "username").write_text("edge\n", encoding="utf-8")
    with pytest.raises(AccessError, match=r"dockerconfigjson, or kubernetes\.io/basic-auth"):
        Credentials.from_folder(tmp_path, "host")
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    assert Credentials.from_folder(tmp_path, "host").login("host") == Login("edge", "secret")
    assert Credentials.from_folder(tmp_path, "host").login("elsewhere") is None
    config = {"auths": {"host": {"username": "a", "password": "b"}}}
    (tmp_path / ".dockerconfigjson").write_text(json.dumps(config), encoding="utf-8")
    assert Credentials.from_folder(tmp_path, "other").login("other") is None
    assert Credentials.from_folder(tmp_path, "other").login("host") == Login("a", "b")
    assert Credentials.from_folder(None, "host") == Credentials()


def test_of_two_credentials_the_first_counts() -> None:
    first = Credentials({"a": Login("1", "1")})
    second = Credentials({"a": Login("2", "2"), "b": Login("2", "2")})
    merged = first.merged(second)
    assert [merged.login(host) for host in "abc"] == [Login("1", "1"), Login("2", "2"), None]


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials({"a": Login("edge", "secret")}))


def test_settings_from_the_environment() -> None:
    environ = {
        jobcontract.ENV_INSECURE_REGISTRIES: "a:5000, b,",
        jobcontract.ENV_ALLOW_HTTP: "true",
        jobcontract.ENV_CA_BUNDLE: "PEM",
        jobcontract.ENV_PVC_ROOT: "/claims",
    }
    settings = StoreSettings.from_env(environ)
    assert settings.insecure == {"a:5000", "b"}
    assert settings.allow_http
    assert (settings.ca_bundle, settings.pvc_root) == ("PEM", Path("/claims"))
    assert StoreSettings.from_env({}) == StoreSettings()
