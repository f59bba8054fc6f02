"""How to reach things: which registries speak plain HTTP, what is trusted, who we are."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skerry.api import jobcontract
from skerry.store.errors import AccessError, UnreachableError

DOCKER_CONFIG: Final = ".dockerconfigjson"
S3_NAMES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)
HUB_TOKEN: Final = "HF_TOKEN"  # noqa: S105 - its name
HUB_ENDPOINT: Final = "https://huggingface.co"
_ENDPOINT: Final = re.compile(r"https?://[^/@?#\s]+")
_GIB: Final = 1024**3


@dataclass(frozen=True)
class Login:
    """A user and a password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class S3Access:
    """Which S3 service is asked, and as whom; the names are those of Amazon's tools.

    Attributes:
        endpoint: http(s)://host[:port] of the service; empty: Amazon's own.
        region: The bucket's region.
        access_key: Name of the key; empty: nobody in particular.
        secret_key: The key itself.
        session_token: What makes a temporary key valid; empty: the key is not temporary.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    @staticmethod
    def of(values: Mapping[str, str]) -> "S3Access | None":
        """Read the usual names, of a Secret or of the environment; nothing when there is none of them.

        Raises:
            AccessError: They do not fit together, or the endpoint is no URL.
        """
        given = {name: values[name] for name in S3_NAMES if values.get(name)}
        if not given:
            return None
        access_key, secret_key = given.get("AWS_ACCESS_KEY_ID", ""), given.get("AWS_SECRET_ACCESS_KEY", "")
        if bool(access_key) is not bool(secret_key):
            message = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: one of them is missing or empty"
            raise AccessError(message)
        endpoint = (given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL", "")).rstrip("/")
        if endpoint and _ENDPOINT.fullmatch(endpoint) is None:
            shown = endpoint.rpartition("@")[2]  # a password may stand before it
            message = f"AWS_ENDPOINT_URL is {shown!r}, but it must look like https://HOST[:PORT], without a path"
            raise AccessError(message)
        region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or S3Access.region
        return S3Access(endpoint, region, access_key, secret_key, given.get("AWS_SESSION_TOKEN", ""))


@dataclass(frozen=True)
class Credentials:
    """Who we are, for each kind of server.

    Attributes:
        by_host: Logins by `host[:port]`: a password is never shown to another server than the one that it is for.
        s3: Who we are for S3, at which endpoint.
        hub_token: Token of the Hugging Face hub, shown to the settings' `hub_endpoint` only.
    """

    by_host: Mapping[str, Login] = field(default_factory=dict)
    s3: S3Access | None = None
    hub_token: str = field(default="", repr=False)

    def login(self, host: str) -> Login | None:
        """Return the login for `host[:port]`."""
        return self.by_host.get(host)

    def merged(self, other: "Credentials") -> "Credentials":
        """Return both; this one's count first."""
        by_host = {**other.by_host, **self.by_host}
        return Credentials(by_host, self.s3 or other.s3, self.hub_token or other.hub_token)

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> "Credentials":
        """Read what people have in their environment for S3 (AWS_…) and for the Hugging Face hub (HF_TOKEN).

        Raises:
            AccessError: The variables for S3 do not fit together.
        """
        return Credentials(s3=S3Access.of(environ), hub_token=environ.get(HUB_TOKEN, "").strip())

    @staticmethod
    def from_docker_config(text: str) -> "Credentials":
        """Read the `auths` of a Docker configuration; entries without a password (it is in a helper) are left out.

        Raises:
            AccessError: It is not JSON of that form.
        """
        return Credentials._read(text, {})

    @staticmethod
    def of_machine(text: str) -> "Credentials":
        """Read Docker's own configuration of a machine; it has no `auths` where all passwords are in a helper.

        Raises:
            AccessError: It is not JSON of that form.
        """
        return Credentials._read(text, {"auths": {}})

    @staticmethod
    def _read(text: str, default: dict[str, Any]) -> "Credentials":
        try:
            auths = {**default, **json.loads(text)}["auths"]
            logins = {_host(key): _login(value) for key, value in auths.items()}
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            message = f"the credentials are not a Docker configuration with auths: {error!r}"
            raise AccessError(message) from error
        return Credentials({host: login for host, login in logins.items() if login is not None})

    @staticmethod
    def from_folder(folder: Path | None, host: str) -> "Credentials":
        """Read a mounted Secret; nothing when there is no folder.

        It may hold several: `.dockerconfigjson`, or `username` and `password`; AWS_… for S3; HF_TOKEN.

        Args:
            folder: Where the Secret is mounted.
            host: `host[:port]` that `username` and `password` are for.

        Raises:
            UnreachableError: The folder is empty: the Secret does not exist yet.
            AccessError: The folder holds nothing of that.
        """
        if folder is None:
            return Credentials()
        names = (DOCKER_CONFIG, "username", "password", HUB_TOKEN, *S3_NAMES)
        # A Secret made from a file ends in the newline that the editor left.
        found = {
            name: (folder / name).read_text(encoding="utf-8").rstrip("\r\n")
            for name in names
            if (folder / name).is_file()
        }
        others = Credentials.from_env(found)
        if DOCKER_CONFIG in found:
            return Credentials.from_docker_config(found[DOCKER_CONFIG]).merged(others)
        if "username" in found and "password" in found:
            return Credentials({host: Login(found["username"], found["password"])}).merged(others)
        if others != Credentials():
            return others
        if not any(folder.glob("[!.]*")):
            message = "the Secret with the credentials does not exist yet, or is empty"
            raise UnreachableError(message)
        message = (
            "the credentials Secret must be of type kubernetes.io/dockerconfigjson, or kubernetes.io/basic-auth with "
            f"username and password; or have {', '.join(S3_NAMES[:2])} and so on for s3://, or {HUB_TOKEN} for hf://"
        )
        raise AccessError(message)


def _host(key: str) -> str:
    host = key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return "docker.io" if host == "index.docker.io" else host


def _login(entry: Mapping[str, str]) -> Login | None:
    if auth := entry.get("auth"):
        user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        return Login(user, password)
    if "username" in entry and "password" in entry:
        return Login(entry["username"], entry["password"])
    return None


@dataclass(frozen=True)
class StoreSettings:
    """How to reach things.

    Attributes:
        insecure: `host[:port]` of registries that speak plain HTTP.
        allow_http: Whether http:// sources are allowed.
        ca_bundle: Certificate authorities trusted beside the system's, in PEM.
        pvc_root: Folder below which claim NAME is mounted as NAME.
        max_bytes: Most bytes of one source, packed or unpacked.
        patience_seconds: For how long an unreachable server is tried again.
        hub_endpoint: URL of the Hugging Face hub, or of a mirror of it.
    """

    insecure: frozenset[str] = frozenset()
    allow_http: bool = False
    ca_bundle: str = ""
    pvc_root: Path | None = None
    max_bytes: int = 16 * _GIB
    patience_seconds: float = 300.0
    hub_endpoint: str = HUB_ENDPOINT

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> "StoreSettings":
        """Read the variables of `skerry.api.jobcontract`."""
        hosts = environ.get(jobcontract.ENV_INSECURE_REGISTRIES, "").split(",")
        return StoreSettings(
            insecure=frozenset(host.strip() for host in hosts if host.strip()),
            allow_http=environ.get(jobcontract.ENV_ALLOW_HTTP, "").lower() == "true",
            ca_bundle=environ.get(jobcontract.ENV_CA_BUNDLE, ""),
            pvc_root=Path(root) if (root := environ.get(jobcontract.ENV_PVC_ROOT)) else None,
            hub_endpoint=environ.get(jobcontract.ENV_HUB_ENDPOINT, "").rstrip("/") or HUB_ENDPOINT,
        )
