"""What a Job measured outlives its pod in the registry, and is that Job's alone."""

from pathlib import Path

import pytest

from skerry.optimizer.backends.base import Made
from skerry.optimizer.ledger import MOST_ATTEMPTS, Record, made_record
from skerry.optimizer.transfer import Destination, RegistryLedger, Transfer
from skerry.store.settings import Credentials
from tests.registry.running import RunningRegistry


class Pods:
    """Pods of Jobs, one after the other; each begins with an empty folder."""

    def __init__(self, registry: RunningRegistry, folder: Path) -> None:
        self.told: list[str] = []
        self._folder = folder
        self._where = Destination(f"{registry.address}/models/m", "unused", "cpu-1")
        self._transfer = Transfer(registry.settings, Credentials(), Credentials(), self.told.append)
        self._count = 0

    def pod(self, run: str) -> RegistryLedger:
        self._count += 1
        work = self._folder / str(self._count)
        work.mkdir()
        return self._transfer.ledger(self._where, work / "ledger", run)


@pytest.fixture
def pods(registry: RunningRegistry, tmp_path: Path) -> Pods:
    return Pods(registry, tmp_path)


RECORD = Record(
    key="a" * 64,
    name="one",
    made=made_record(Made("model.onnx", {}, "FP32", {})),
    comparisons={},
    measurements=[],
    histogram=None,
    samples=1,
    samples_at_most=1,
    size_bytes=1,
    seconds=1.0,
    files_sha256="b" * 64,
)


def test_the_next_pod_of_the_job_knows_what_was_measured(pods: Pods) -> None:
    pods.pod("uid-1").note(RECORD)
    assert not pods.told
    assert pods.pod("uid-1").recall(RECORD.key) == RECORD
    assert pods.told == ["going on after an interruption: 1 candidates were measured already"]


def test_a_job_made_anew_measures_anew(pods: Pods) -> None:
    pods.pod("uid-1").note(RECORD)
    second = pods.pod("uid-2")
    assert second.recall(RECORD.key) is None
    second.begin("c" * 64)
    assert pods.pod("uid-1").recall(RECORD.key) is None, "what was there before is not kept for ever"


def test_what_was_begun_and_what_failed_is_known_to_the_next_pod(pods: Pods) -> None:
    wanted = "c" * 64
    for _ in range(MOST_ATTEMPTS):
        pod = pods.pod("uid-1")
        assert pod.trouble(wanted) is None
        pod.begin(wanted)
    assert f"it was begun {MOST_ATTEMPTS} times" in str(pods.pod("uid-1").trouble(wanted))
    pods.pod("uid-1").fail(RECORD.key, "it has NaN")
    assert pods.pod("uid-1").trouble(RECORD.key) == "it has NaN"


def test_while_the_registry_is_away_nothing_ends_and_nothing_is_overwritten(
    registry: RunningRegistry, pods: Pods
) -> None:
    pods.pod("uid-1").note(RECORD)
    registry.stop()
    pod = pods.pod("uid-1")
    assert pods.told[-1].startswith("what an earlier try measured cannot be read now")
    pod.begin("c" * 64)
    registry.start()
    pod.begin("d" * 64)
    assert pods.pod("uid-1").recall(RECORD.key) == RECORD
