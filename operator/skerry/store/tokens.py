"""Answers to a registry's `WWW-Authenticate` challenge: Basic credentials, or a Bearer token from its token server."""

import base64
import re
from typing import Final

import httpx

from skerry.store import transport
from skerry.store.errors import AccessError
from skerry.store.settings import Login

_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')


class Tokens:
    """The authorizations for one registry, by repository and actions; a token that expired is asked for again."""

    def __init__(self, host: str, client: httpx.Client, login: Login | None) -> None:
        self._host = host
        self._client = client
        self._login = login
        self._known: dict[str, str] = {}

    def header(self, repository: str, actions: tuple[str, ...]) -> dict[str, str]:
        """Return the header that worked before, if any."""
        value = self._known.get(_scope(repository, actions))
        return {"Authorization": value} if value else {}

    def answer(self, response: httpx.Response, repository: str, actions: tuple[str, ...]) -> bool:
        """Get what the challenge of a 401 asks for; tell whether there is something new to try with.

        Raises:
            AccessError: The challenge or the token server's answer cannot be used.
        """
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        scope = _scope(repository, actions)
        before = self._known.get(scope)
        if kind.lower() == "basic" and self._login is not None:
            pair = f"{self._login.username}:{self._login.password}".encode()
            self._known[scope] = "Basic " + base64.b64encode(pair).decode()
        elif kind.lower() == "bearer":
            self._known[scope] = "Bearer " + self._token(dict(_CHALLENGE.findall(rest)), scope)
        return self._known.get(scope) != before

    def _token(self, challenge: dict[str, str], scope: str) -> str:
        if "realm" not in challenge:
            message = f"{self._host}: the registry asks for a token but does not say where to get one"
            raise AccessError(message)
        what = f"token for {self._host}"
        asked = challenge.get("scope", scope)
        # A HEAD of a push is asked for the right to pull only: get both at once, under the name that the registry uses.
        same = asked.rpartition(":")[0] == scope.rpartition(":")[0]
        query = {"scope": scope if same else asked}
        if "service" in challenge:
            query["service"] = challenge["service"]
        auth = httpx.BasicAuth(self._login.username, self._login.password) if self._login else None
        with transport.mapped(what):
            response = self._client.get(challenge["realm"], params=query, auth=auth)
        transport.check(response, what)
        try:
            body = response.json()
            token = body.get("token") or body["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            message = f"{what}: the answer of {challenge['realm']} holds no token"
            raise AccessError(message) from error
        return str(token)


def _scope(repository: str, actions: tuple[str, ...]) -> str:
    return f"repository:{repository}:{','.join(actions)}"
