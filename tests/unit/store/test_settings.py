"""Credentials and settings."""

import base64
import json
from pathlib import Path

import pytest

from skerry.api import jobcontract
from skerry.store.errors import AccessError, UnreachableError
from skerry.store.settings import Credentials, Login, S3Access, StoreSettings


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
    mine, theirs = Credentials(s3=ACCESS), Credentials(s3=S3Access("http://b"), hub_token="hf")
    assert mine.merged(theirs) == Credentials(s3=ACCESS, hub_token="hf")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials({"a": Login("edge", "secret")}))


S3 = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "very-secret",
    "AWS_SESSION_TOKEN": "secret-token",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "https://s3.edge:8333/",
}
ACCESS = S3Access("https://s3.edge:8333", "eu-west-1", "key", "very-secret", "secret-token")


def test_keys_for_s3_and_a_token_of_the_hub(tmp_path: Path) -> None:
    for name, value in {**S3, "HF_TOKEN": "hf_secret"}.items():
        (tmp_path / name).write_text(f"{value}\n", encoding="utf-8")
    found = Credentials.from_folder(tmp_path, "host")
    assert found == Credentials(s3=ACCESS, hub_token="hf_secret")
    assert Credentials.from_env({**S3, "HF_TOKEN": "hf_secret"}) == found
    assert not [secret for secret in ("very-secret", "secret-token", "hf_secret") if secret in repr(found)]
    (tmp_path / "username").write_text("edge", encoding="utf-8")
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    both = Credentials.from_folder(tmp_path, "host")
    assert (both.login("host"), both.s3, both.hub_token) == (Login("edge", "secret"), ACCESS, "hf_secret")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"AWS_REGION": ""}, None),
        ({"AWS_PROFILE": "mine"}, None),
        ({"AWS_ENDPOINT_URL": "http://s3:8333"}, S3Access("http://s3:8333", "us-east-1")),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, S3Access("", "eu-north-1")),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-north-1"}, S3Access("", "eu-west-1")),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"}, S3Access("http://b")),
    ],
)
def test_what_is_left_out_for_s3(given: dict[str, str], expected: S3Access | None) -> None:
    assert Credentials.from_env(given).s3 == expected


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"AWS_ACCESS_KEY_ID": "key"}, "belong together"),
        ({"AWS_SECRET_ACCESS_KEY": "very-secret"}, "belong together"),
        (
            {"AWS_ENDPOINT_URL": "s3.edge:8333"},
            r"AWS_ENDPOINT_URL is 's3\.edge:8333', but it must look like https://HOST",
        ),
        ({"AWS_ENDPOINT_URL": "https://s3.edge/path"}, "without a path"),
    ],
)
def test_what_does_not_fit_together_for_s3(given: dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, value in given.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
    with pytest.raises(AccessError, match=sentence) as caught:
        Credentials.from_folder(tmp_path, "host")
    assert "very-secret" not in str(caught.value)


def test_an_endpoint_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(AccessError, match="must look like") as caught:
        Credentials.from_env({"AWS_ENDPOINT_URL": "https://user:very-secret@s3.edge"})
    assert "very-secret" not in str(caught.value)


def test_settings_from_the_environment() -> None:
    environ = {
        jobcontract.ENV_INSECURE_REGISTRIES: "a:5000, b,",
        jobcontract.ENV_ALLOW_HTTP: "true",
        jobcontract.ENV_CA_BUNDLE: "PEM",
        jobcontract.ENV_PVC_ROOT: "/claims",
        jobcontract.ENV_HUB_ENDPOINT: "https://hub.edge/",
    }
    settings = StoreSettings.from_env(environ)
    assert settings.insecure == {"a:5000", "b"}
    assert settings.allow_http
    assert (settings.ca_bundle, settings.pvc_root) == ("PEM", Path("/claims"))
    assert settings.hub_endpoint == "https://hub.edge"
    assert StoreSettings.from_env({}) == StoreSettings()
