"""Large lists are read page by page, and nothing of them is held."""

import weakref
from typing import Any

import pytest
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from skerry.kube.client import Client
from skerry.kube.errors import UnavailableError, error_for
from skerry.kube.gateway import Document
from skerry.kube.resources import PODS

PAGES = 3
ON_A_PAGE = 4


class Spec(dict[str, Any]):
    """A part of an object that tells whether the object is still held."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class Paged(Client):
    """A client that is answered pages of pods, and knows how many of them are still held."""

    def __init__(self, *, expires: bool = False) -> None:
        super().__init__(ApiClient(Configuration()))
        self._expires = expires
        self.asked: list[dict[str, str]] = []
        self.most_held = 0
        self.held: weakref.WeakSet[Spec] = weakref.WeakSet()

    async def _json(self, method: str, path: str, **arguments: Any) -> Document:
        assert (method, path) == ("GET", "/api/v1/namespaces/a/pods")
        query = dict(arguments["query"])
        self.asked.append(query)
        page = int(query.get("continue", "0"))
        if self._expires and page:
            raise error_for(410, "The provided continue parameter is too old")
        items = []
        for number in range(ON_A_PAGE):
            spec = Spec(number=number)
            self.held.add(spec)
            items.append({"metadata": {"name": f"{page}-{number}"}, "spec": spec})
        self.most_held = max(self.most_held, len(self.held))
        more = {"continue": str(page + 1)} if page + 1 < PAGES else {}
        return {"metadata": {"resourceVersion": "1", **more}, "items": items}


async def test_all_objects_come_in_order_each_with_its_kind() -> None:
    client = Paged()
    found = await client.list(PODS, "a", "x=y")
    await client.close()

    assert [each["metadata"]["name"] for each in found] == [
        f"{page}-{n}" for page in range(PAGES) for n in range(ON_A_PAGE)
    ]
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "Pod")}
    assert [query.get("continue") for query in client.asked] == [None, "1", "2"]
    assert {query["labelSelector"] for query in client.asked} == {"x=y"}


async def test_no_more_than_a_page_is_held() -> None:
    client = Paged()
    async for _ in client.each(PODS, "a"):
        pass
    await client.close()

    assert client.most_held <= ON_A_PAGE + 1, "the page that comes, and what the reader of the one before has in hand"


async def test_a_list_whose_token_expired_is_tried_again_and_not_taken_for_an_object_that_is_deleted() -> None:
    client = Paged(expires=True)
    with pytest.raises(UnavailableError, match="too old"):
        await client.list(PODS, "a")
    await client.close()
