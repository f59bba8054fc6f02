"""How to reach things: which registries speak plain HTTP, what is trusted, who we are."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skerry.api import jobcontract
from skerry.store.errors import AccessError, UnreachableError

DOCKER_CONFIG: Final = ".dockerconfigjson"
_GIB: Final = 1024**3


@dataclass(frozen=True)
class Login:
    """A user and a password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """Logins by `host[:port]`: a password is never shown to another server than the one that it is for."""

    by_host: Mapping[str, Login] = field(default_factory=dict)

    def login(self, host: str) -> Login | None:
        """Return the login for `host[:port]`."""
        return self.by_host.get(host)

    def merged(self, other: "Credentials") -> "Credentials":
        """Return both; this one's count first."""
        return Credentials({**other.by_host, **self.by_host})

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
        """Read a mounted Secret: `.dockerconfigjson`, or `username` and `password`; nothing when there is no folder.

        Args:
            folder: Where the Secret is mounted.
            host: `host[:port]` that `username` and `password` are for.

        Raises:
            UnreachableError: The folder is empty: the Secret does not exist yet.
            AccessError: The folder holds neither.
        """
        if folder is None:
            return Credentials()
        if (config := folder / DOCKER_CONFIG).is_file():
            return Credentials.from_docker_config(config.read_text(encoding="utf-8"))
        user, password = folder / "username", folder / "password"
        if user.is_file() and password.is_file():
            # A Secret made from a file ends in the newline that the editor left.
            texts = (path.read_text(encoding="utf-8").rstrip("\r\n") for path in (user, password))
            return Credentials({host: Login(*texts)})
        if not any(folder.glob("[!.]*")):
            message = "the Secret with the credentials does not exist yet, or is empty"
            raise UnreachableError(message)
        message = (
            "the credentials Secret must be of type kubernetes.io/dockerconfigjson, or kubernetes.io/basic-auth with "
            "username and password"
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
    """

    insecure: frozenset[str] = frozenset()
    allow_http: bool = False
    ca_bundle: str = ""
    pvc_root: Path | None = None
    max_bytes: int = 16 * _GIB
    patience_seconds: float = 300.0

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> "StoreSettings":
        """Read the variables of `skerry.api.jobcontract`."""
        hosts = environ.get(jobcontract.ENV_INSECURE_REGISTRIES, "").split(",")
        return StoreSettings(
            insecure=frozenset(host.strip() for host in hosts if host.strip()),
            allow_http=environ.get(jobcontract.ENV_ALLOW_HTTP, "").lower() == "true",
            ca_bundle=environ.get(jobcontract.ENV_CA_BUNDLE, ""),
            pvc_root=Path(root) if (root := environ.get(jobcontract.ENV_PVC_ROOT)) else None,
        )
