"""What `helm test` does as the operator's account: a policy without effect is noticed."""

from http import HTTPStatus
from typing import Any

import pytest

from skerry.controllers import check_effects
from skerry.controllers.check_effects import Answer, CheckError, check_operator

DENIED = {"message": "denied: the operator may change only what is its own"}


class ApiServer:
    """Answers the operator's account as it would with the chart's policies, or without one of them."""

    def __init__(self, absent: str = "") -> None:
        self.absent = absent
        self.asked: list[tuple[str, str]] = []

    def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        self.asked.append((method, path))
        kind = path.partition("?")[0].split("/")[-2]
        assert "dryRun=All" in path, "nothing is really changed"
        return (HTTPStatus.OK, {}, {}) if kind == self.absent or self.own(kind, body) else (403, {}, DENIED)

    def own(self, kind: str, body: Any) -> bool:
        if kind == "pods":
            return False
        labels = body["metadata"].get("labels", {})
        if kind == "nodes":
            return "spec" not in body and all(name.startswith("skerry.dev/") for name in labels)
        return body["metadata"]["name"].endswith("-push") and bool(labels)


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "nuc")
    monkeypatch.setenv("POD_NAME", "edge-test-operator")
    monkeypatch.setattr(check_effects, "SECONDS", 0)


def test_all_is_well_where_every_policy_has_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ApiServer()
    monkeypatch.setattr(check_effects, "kubernetes", server)
    check_operator("site")

    assert ("DELETE", "/api/v1/namespaces/site/pods/edge-test-operator?dryRun=All") in server.asked


@pytest.mark.parametrize("kind", ["nodes", "secrets", "pods"])
def test_a_policy_without_effect_is_told(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(check_effects, "kubernetes", ApiServer(absent=kind))
    monkeypatch.setattr(check_effects, "POLL_SECONDS", 0)
    with pytest.raises(CheckError, match=r"NOT: the operator may not (write|delete) .*(Nodes|Secrets|pods)"):
        check_operator("site")
