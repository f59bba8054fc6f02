"""Runs in a pod of the tests: `python fileserver.py FOLDER CERTIFICATE KEY USER PASSWORD` serves files over HTTPS."""

import base64
import ssl
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Guarded(SimpleHTTPRequestHandler):
    """Shows files to those who know the password."""

    def __init__(self, wanted: str, *arguments: object, directory: str) -> None:
        self.wanted = wanted
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer 401 to strangers."""
        if self.headers.get("Authorization") == self.wanted:
            super().do_GET()
        else:
            self.send_error(401)


def main(folder: str, certificate: str, key: str, user: str, password: str) -> None:
    """Serve until the end."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    server = ThreadingHTTPServer(("", 8443), partial(Guarded, wanted, directory=folder))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
