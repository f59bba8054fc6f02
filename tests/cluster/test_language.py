"""A language model, from the registry to the answers of OpenAI's API, on the real cluster."""

import json
from collections.abc import Iterator

import httpx
import pytest

from devcluster import Cluster
from tests.support.installation import REGISTRY, condition, forwarded, install, push
from tests.support.language import write_gguf, write_text
from tests.support.workspace import Workspace, edge_deployment, edge_model, workspace

pytestmark = pytest.mark.cluster

NAMESPACE = "skerry-language"
NAME = "writer"
OPTIMIZE_SECONDS, SERVE_SECONDS = 900, 300
EIGHT_BITS = [{"framework": "LlamaCpp", "precision": "INT8", "technique": "WeightsOnly"}]


@pytest.fixture(scope="module")
def node(skerry: Cluster) -> str:
    """The one node that has the images with the tools, which take 2 GB."""
    return skerry.nodes[1]


@pytest.fixture(scope="module")
def space(skerry: Cluster, node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """An empty namespace, and a model of random weights and text in the registry."""
    work = tmp_path_factory.mktemp("language")
    install(skerry, tools={"optimizer-llamacpp": [node], "server-llamacpp": [node]})
    files = {"models/writer:1": write_gguf(work / "model.gguf"), "data/writer:1": write_text(work / "test.txt")}
    push(skerry, files, work)
    with workspace(skerry, NAMESPACE) as space:
        yield space
    install(skerry)


@pytest.fixture(scope="module")
def client(space: Workspace, node: str) -> Iterator[httpx.Client]:
    """The served model, as clients in the cluster reach it."""
    selector = {"kubernetes.io/hostname": node}
    model = edge_model(
        NAME,
        f"oci://{REGISTRY}/models/writer:1",
        evaluation={"uri": f"oci://{REGISTRY}/data/writer:1"},
        candidates=EIGHT_BITS,
        optimization={"nodeSelector": selector},
    )
    space.apply(model, edge_deployment(NAME, NAME, nodeSelector=selector))
    space.until("edgemodel", NAME, "Optimized", seconds=OPTIMIZE_SECONDS)
    space.until("edgedeployment", NAME, "Serving", seconds=SERVE_SECONDS)
    with (
        forwarded(space.cluster, NAMESPACE, NAME, 8080) as port,
        httpx.Client(base_url=f"http://localhost:{port}", timeout=120) as made,
    ):
        yield made


def test_the_variant_is_llama_cpp_s_and_its_device_is_verified(space: Workspace, client: httpx.Client) -> None:
    (variant,) = space.get("edgemodel", NAME)["status"]["variants"]
    assert variant["framework"] == "LlamaCpp"
    assert "@sha256:" in variant["artifact"]
    deployment = space.get("edgedeployment", NAME)
    assert condition(deployment, "AccelerationVerified")[0] == "True"
    assert deployment["status"]["devices"] == "CPU:1"
    described = client.get(f"/v2/models/{NAME}").json()
    assert described["inputs"] == []
    assert described["skerry"]["executionDevice"] == "CPU"


def test_texts_are_continued(client: httpx.Client) -> None:
    asking = {"model": NAME, "prompt": "the sea", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    answer = client.post("/v1/completions", json=asking).raise_for_status().json()
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["model"] == NAME
    assert "skerry_server_generated_tokens_total" in client.get("/metrics").text


def test_chats_are_streamed(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "what is a skerry"}]
    asking = {"model": NAME, "messages": messages, "max_tokens": 8, "ignore_eos": True, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=asking) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    parts = [json.loads(line)["choices"][0]["delta"].get("content") for line in lines[:-1]]
    assert sum(bool(part) for part in parts) > 1
