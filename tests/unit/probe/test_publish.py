"""What the probe writes, to whom, and what it says when that fails."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme

from skerry.probe.publish import Publisher, PublishError
from tests.unit.probe.apiserver import PREFIX, ApiServer

FOUND: dict[str, Any] = {"probeVersion": "1", "memoryBytes": 1024, "accelerators": [{"name": "cpu", "count": 1}]}


@pytest.fixture
def publisher(server: ApiServer) -> Publisher:
    minutes = count()
    return Publisher("127.0.0.1", server.port, server.account, now=lambda: f"2026-11-21T08:{next(minutes):02}:00Z")


def test_a_profile_belongs_to_its_node_and_is_ready(server: ApiServer, publisher: Publisher) -> None:
    publisher.publish("worker", FOUND)

    profile = server.objects["worker"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "worker", "uid": "uid-of-worker"}
    assert profile["metadata"] == {"name": "worker", "ownerReferences": [owner]}
    (ready,) = profile["status"].pop("conditions")
    assert (ready["type"], ready["status"], ready["lastTransitionTime"]) == ("Ready", "True", "2026-11-21T08:00:00Z")
    assert profile["status"] == {**FOUND, "observedAt": "2026-11-21T08:00:00Z"}


def test_what_has_not_changed_is_not_written_again(server: ApiServer, publisher: Publisher) -> None:
    publisher.publish("worker", FOUND)
    publisher.publish("worker", FOUND)

    assert [path for path, _ in server.writes] == [f"{PREFIX}worker", f"{PREFIX}worker/status", f"{PREFIX}worker"]


def test_a_change_moves_the_time_of_the_change_only(server: ApiServer, publisher: Publisher) -> None:
    publisher.publish("worker", FOUND)
    publisher.publish("worker", {**FOUND, "memoryBytes": 2048})

    status = server.objects["worker"]["status"]
    assert status["memoryBytes"] == 2048
    assert status["observedAt"] == "2026-11-21T08:01:00Z"
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-21T08:00:00Z"


def test_a_status_that_someone_else_changed_is_put_right(server: ApiServer, publisher: Publisher) -> None:
    publisher.publish("worker", FOUND)
    server.objects["worker"]["status"] = {"memoryBytes": 1}
    publisher.publish("worker", FOUND)

    assert server.objects["worker"]["status"]["memoryBytes"] == 1024


def test_a_token_that_was_rotated_is_used(server: ApiServer, publisher: Publisher) -> None:
    publisher.publish("worker", FOUND)
    server.ticket("worker", serial=2)
    publisher.publish("worker", {**FOUND, "memoryBytes": 2048})

    assert server.objects["worker"]["status"]["memoryBytes"] == 2048


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("other", "this pod's token is of node 'other', but NODE_NAME says 'worker'"),
        (None, "the service account's token names no node: Kubernetes 1.32 or later is needed"),
    ],
)
def test_a_token_of_no_or_another_node_is_not_even_tried(
    server: ApiServer, publisher: Publisher, node: str | None, message: str
) -> None:
    server.ticket(node)

    with pytest.raises(PublishError) as caught:
        publisher.publish("worker", FOUND)

    assert str(caught.value) == message
    assert not server.writes


@pytest.mark.parametrize("token", ["", "not-a-token", "a.b.c", "a.e30.c", "a.bnVsbA.c"])
def test_a_token_that_is_none_is_told(server: ApiServer, publisher: Publisher, token: str) -> None:
    (server.account / "token").write_text(token, encoding="ascii")

    with pytest.raises(PublishError, match="names no node"):
        publisher.publish("worker", FOUND)


def test_a_pod_without_token_is_told(server: ApiServer, publisher: Publisher) -> None:
    (server.account / "token").unlink()

    with pytest.raises(PublishError, match="the pod has no service account token"):
        publisher.publish("worker", FOUND)


def test_a_refusal_says_what_the_api_server_said(server: ApiServer, publisher: Publisher) -> None:
    server.refusal = (403, "the probe of node worker must not write the NodeProfile of boss")

    with pytest.raises(PublishError, match=r"403 to .*/nodeprofiles/worker: .*must not write the NodeProfile of boss"):
        publisher.publish("worker", FOUND)


def test_an_api_server_that_is_away_is_told(server: ApiServer, publisher: Publisher) -> None:
    server.close()

    with pytest.raises(PublishError, match=rf"127\.0\.0\.1:{server.port} cannot be reached"):
        publisher.publish("worker", FOUND)


def test_a_server_of_another_authority_never_sees_the_token(server: ApiServer, publisher: Publisher) -> None:
    (server.account / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())

    with pytest.raises(PublishError, match="CERTIFICATE_VERIFY_FAILED"):
        publisher.publish("worker", FOUND)

    assert not server.writes


def test_something_else_in_the_place_of_the_api_server_is_told(server: ApiServer, publisher: Publisher) -> None:
    server.noise = b"<html>Please log in</html>"

    with pytest.raises(PublishError, match="answered something that is not JSON"):
        publisher.publish("worker", FOUND)


def test_the_account_may_lie_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=str(tmp_path)):
        Publisher("127.0.0.1", 1, tmp_path).publish("worker", FOUND)
