"""The client, with an API server of a few canned answers."""

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from skerry.kube.client import LIST_ATTEMPTS, Client
from skerry.kube.errors import UnavailableError
from skerry.kube.resources import PODS

if TYPE_CHECKING:
    from kubernetes.aio.client.api_client import ApiClient

EXPIRED = (410, {"message": "The provided continue parameter is too old"})


def page(name: str, token: str = "") -> tuple[int, Any]:
    return 200, {"items": [{"metadata": {"name": name}}], "metadata": {"continue": token}}


class CannedApi:
    """Stands for the library's client: what it was asked, and what it answers in order."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.asked: list[dict[str, str]] = []
        self._answers = list(answers)

    async def param_serialize(self, *_: Any, query_params: list[tuple[str, str]], **__: Any) -> tuple[()]:
        self.asked.append(dict(query_params))
        return ()

    async def call_api(self, **_: Any) -> Any:
        self.status, self._body = self._answers.pop(0)
        return self

    async def read(self) -> bytes:
        return json.dumps(self._body).encode()


async def test_a_list_whose_token_expired_is_begun_anew() -> None:
    api = CannedApi(page("a", "t1"), EXPIRED, page("a", "t2"), page("b"))
    found = await Client(cast("ApiClient", api)).list(PODS)
    assert [each["metadata"]["name"] for each in found] == ["a", "b"]
    assert [asked.get("continue") for asked in api.asked] == [None, "t1", None, "t2"]


async def test_a_list_whose_tokens_expire_again_and_again_is_tried_later() -> None:
    api = CannedApi(*[page("a", "t"), EXPIRED] * LIST_ATTEMPTS)
    with pytest.raises(UnavailableError, match="too old; 3 times"):
        await Client(cast("ApiClient", api)).list(PODS)
