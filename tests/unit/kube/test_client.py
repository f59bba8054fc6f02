"""Large lists are read page by page, and nothing of them is held."""

import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from skerry.kube.client import POD_BYTES, Client
from skerry.kube.errors import GoneError, UnavailableError
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

    def __init__(self) -> None:
        super().__init__(ApiClient(Configuration()))
        self.asked: list[dict[str, str]] = []
        self.most_held = 0
        self.held: weakref.WeakSet[Spec] = weakref.WeakSet()

    async def _json(self, method: str, path: str, **arguments: Any) -> Document:
        assert (method, path) == ("GET", "/api/v1/namespaces/a/pods")
        query = dict(arguments["query"])
        self.asked.append(query)
        page = int(query.get("continue", "0"))
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


async def test_a_list_whose_token_expires_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Paged()
    answer = client._json  # noqa: SLF001 - what the class itself replaces

    async def expiring(method: str, path: str, **arguments: Any) -> Document:
        if dict(arguments["query"]).get("continue") == "2":
            message = "410 the provided continue parameter is too old"
            raise GoneError(message)
        return await answer(method, path, **arguments)

    monkeypatch.setattr(client, "_json", expiring)
    with pytest.raises(UnavailableError, match="too old"):
        await client.list(PODS, "a")
    await client.close()


@pytest.fixture
async def pods() -> AsyncIterator[Client]:
    """A client of a real HTTP server whose pods answer at length."""
    routes = {"small": b"x" * 1000, "endless": b"x" * (POD_BYTES + 1)}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=routes[request.match_info["pod"]])

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/a/pods/{pod}:8080/proxy/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    client = Client(ApiClient(Configuration(host=f"http://{host}:{port}")))
    yield client
    await client.close()
    await runner.cleanup()


async def test_a_pod_is_read_and_not_for_ever(pods: Client) -> None:
    assert await pods.pod_get("a", "small", 8080, "/x") == b"x" * 1000
    with pytest.raises(UnavailableError, match="longer than"):
        await pods.pod_get("a", "endless", 8080, "/x")
