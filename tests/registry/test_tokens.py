"""A registry that wants tokens of a token server, as hosted registries do."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from skerry.store import image
from skerry.store.errors import AccessError
from skerry.store.image import Layer
from skerry.store.registry import Registry
from skerry.store.settings import Credentials, Login, StoreSettings
from tests.registry.running import RunningRegistry

pytestmark = pytest.mark.registry
EDGE = Login("edge", "letmein")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class TokenServer:
    """Gives tokens to one user, and to everybody the right to pull."""

    port: int
    folder: Path
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    scopes: list[str] = field(default_factory=list)

    def rotate(self) -> None:
        """Sign with another key from now on; a registry that is started then knows only this one."""
        self.key = rsa.generate_private_key(65537, 2048)
        self.write_keys()

    def write_keys(self) -> Path:
        """Write the public key as the registry wants it."""
        numbers = self.key.public_key().public_numbers()
        entry = {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": "1",
            "n": b64(numbers.n.to_bytes(256, "big")),
            "e": b64(numbers.e.to_bytes(3, "big")),
        }
        path = self.folder / "jwks.json"
        path.write_text(json.dumps({"keys": [entry]}), encoding="utf-8")
        return path

    def token(self, scope: str, *, known: bool) -> str:
        """Return a signed token for a scope as repository:NAME:ACTION,ACTION."""
        kind, name, actions = scope.split(":")
        granted = [action for action in actions.split(",") if known or action == "pull"]
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": "tokens",
            "sub": "edge",
            "aud": "registry",
            "nbf": now - 5,
            "iat": now - 5,
            "exp": now + 300,
            "jti": str(len(self.scopes)),
            "access": [{"type": kind, "name": name, "actions": granted}],
        }
        header = {"typ": "JWT", "alg": "RS256", "kid": "1"}
        signed = ".".join(b64(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{b64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scope = parse_qs(urlsplit(self.path).query)["scope"][0]
            sent = self.headers.get("Authorization")
            pair = base64.b64encode(f"{EDGE.username}:{EDGE.password}".encode()).decode()
            running.scopes.append(scope)
            if sent not in {None, f"Basic {pair}"}:
                self.send_response(401)
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"token": running.token(scope, known=sent is not None)}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = TokenServer(server.server_address[1], tmp_path)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        server.shutdown()
        thread.join()


@pytest.fixture
def hosted(launch: Callable[..., RunningRegistry], tokens: TokenServer) -> RunningRegistry:
    return launch(
        auth={
            "token": {
                "realm": f"http://127.0.0.1:{tokens.port}/token",
                "service": "registry",
                "issuer": "tokens",
                "jwks": str(tokens.write_keys()),
                "signingalgorithms": ["RS256"],
            }
        }
    )


@pytest.fixture
def settings(hosted: RunningRegistry, tokens: TokenServer) -> StoreSettings:
    return StoreSettings(insecure=frozenset({hosted.address, f"127.0.0.1:{tokens.port}"}), patience_seconds=0)


def push(hosted: RunningRegistry, settings: StoreSettings, login: Login | None, model: Path, work: Path) -> str:
    return image.push_image(
        [Layer({"model.xml": model})],
        hosted.reference("models/a:1"),
        artifact_type="application/vnd.skerry.source.v1",
        annotations={},
        settings=settings,
        credentials=Credentials({hosted.address: login} if login else {}),
        work=work,
    ).digest


def test_round_trip(
    hosted: RunningRegistry, settings: StoreSettings, tokens: TokenServer, model: dict[str, Path], tmp_path: Path
) -> None:
    digest = push(hosted, settings, EDGE, model["model.xml"], tmp_path)
    reference = hosted.reference("models/a:1")
    assert image.pull(reference, tmp_path / "out", settings=settings, credentials=Credentials()) == digest
    # One token for all requests of a push, one for those of a pull.
    assert tokens.scopes == ["repository:models/a:pull,push", "repository:models/a:pull"]


def test_who_may_not_push(
    hosted: RunningRegistry, settings: StoreSettings, model: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match=r"denied access \(401\)"):
        push(hosted, settings, None, model["model.xml"], tmp_path)
    with pytest.raises(AccessError, match=r"token for .*denied access \(401\)"):
        push(hosted, settings, Login("edge", "guess"), model["model.xml"], tmp_path)


def test_a_token_that_is_no_longer_good_is_renewed(
    hosted: RunningRegistry, settings: StoreSettings, tokens: TokenServer, model: dict[str, Path], tmp_path: Path
) -> None:
    push(hosted, settings, EDGE, model["model.xml"], tmp_path)
    reference = hosted.reference("models/a:1")
    with Registry(reference.host, settings, Credentials()) as registry:
        _, before = registry.manifest(reference)
        hosted.stop()
        tokens.rotate()
        hosted.start()
        _, after = registry.manifest(reference)
    assert before == after


def test_a_token_server_with_plain_http_must_be_trusted(
    hosted: RunningRegistry, model: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match=r"would be asked by plain HTTP .* not allowed"):
        push(hosted, hosted.settings, EDGE, model["model.xml"], tmp_path)
