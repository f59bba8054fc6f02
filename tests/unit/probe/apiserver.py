"""An API server of loopback that knows one thing: server-side apply of NodeProfiles, over TLS and with a token."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

PREFIX = "/apis/skerry.dev/v1alpha1/nodeprofiles/"


def token_of(node: str | None, serial: int = 1) -> str:
    """Return a token as a kubelet projects it into a pod on a node; None: bound to no node."""
    claims: dict[str, Any] = {"sub": "system:serviceaccount:skerry-system:skerry-probe", "jti": str(serial)}
    if node is not None:
        claims["kubernetes.io"] = {"node": {"name": node, "uid": f"uid-of-{node}"}}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


class ApiServer:
    """The server; `account` is the folder that a pod would have."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.account = folder
        self.token = ""
        self.objects: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, dict[str, Any]]] = []
        self.refusal: tuple[int, str] | None = None
        self.noise = b""
        self.ticket("worker")
        (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = outer.answer(self.path, dict(self.headers), json.loads(body))
                data = outer.noise or json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def ticket(self, node: str | None, serial: int = 1) -> None:
        """Rotate the token that is mounted and that the server takes."""
        self.token = token_of(node, serial)
        (self.account / "token").write_text(self.token, encoding="ascii")

    def answer(self, target: str, headers: dict[str, str], document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Apply a document as an API server would."""
        path, _, query = target.partition("?")
        if headers["Authorization"] != f"Bearer {self.token}":
            return 401, {"message": "Unauthorized"}
        if self.refusal is not None:
            return self.refusal[0], {"message": self.refusal[1]}
        assert query == "fieldManager=skerry-probe&force=true"
        assert headers["Content-Type"] == "application/apply-patch+yaml"
        name, _, subresource = path.removeprefix(PREFIX).partition("/")
        if subresource == "status":
            if name not in self.objects:
                return 404, {"message": f'nodeprofiles.skerry.dev "{name}" not found'}
            self.objects[name]["status"] = document["status"]
        else:
            self.objects.setdefault(name, {}).update(document)
        self.writes.append((path, document))
        return 200, self.objects[name]

    def close(self) -> None:
        """Stop and wait for the end."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
