"""AIMET really run in a worker of its image; what it makes is built and run by QNN in the emulator of the HTP."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.api.reasons import JobReason
from skerry.api.types import CandidateResult, Framework, Metric
from skerry.optimizer.toolshed import Toolshed, toolshed
from tests.images.conftest import Worker
from tests.measuring import measure_little, own_environment
from tests.tools.making import make, run, samples, search, work
from tests.unit.optimizer import models

pytestmark = pytest.mark.image

PLAIN = {"framework": "QNN", "precision": "INT8", "technique": "PostTraining"}
EQUALIZED = {"framework": "QNN", "precision": "INT8", "technique": "Workflow"}
AS_GOOD = {"metric": "Accuracy", "goal": "PercentMaxDegradation", "value": "5"}


@pytest.fixture(scope="module", autouse=True)
def _shared() -> Iterator[None]:
    """Let the worker, which is another user, write into folders that are made here: in a pod both are one."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def worker(workers: Callable[[str], Worker]) -> Worker:
    return workers("aimet")


@pytest.fixture(scope="module")
def depthwise(worker: Worker) -> Path:
    """A folder with `depthwise.onnx`, which INT8 by default ruins, `calibration.npz` and `test.npz`."""
    from tests.unit.optimizer import nets  # noqa: PLC0415 - JAX is heavy

    folder = worker.folder / "depthwise"
    folder.mkdir()
    return nets.write_depthwise(folder, spread=1.4)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)
    own_environment(monkeypatch)


def accuracy(result: CandidateResult) -> float:
    return next(float(figure.value) for figure in result.metrics if figure.name is Metric.ACCURACY)


def test_what_8_bits_ruin_is_kept_once_channels_are_alike(worker: Worker, depthwise: Path) -> None:
    """AIMET's image has all that QNN's has, so that one worker stands for both."""
    outcome, lines = search(
        worker.folder / "search",
        Toolshed({**toolshed().places, "aimet": worker.place, "qnn": worker.place}),
        depthwise / "depthwise.onnx",
        depthwise / "test.npz",
        calibration={"uri": str(depthwise / "calibration.npz")},
        accelerator="qualcomm-hexagon",
        objective="Accuracy",
        gates=[AS_GOOD],
        candidates=[PLAIN, EQUALIZED],
    )
    assert outcome.reason is JobReason.SUCCEEDED, outcome.message
    assert outcome.chosen is not None
    assert outcome.chosen.name == "aimet-qnn-int8"
    assert accuracy(lines.results["qnn-int8-ptq"]) < 60
    assert accuracy(lines.results["aimet-qnn-int8"]) > 90
    assert outcome.chosen.execution_precision == "INT8"
    assert outcome.facts is not None
    assert (outcome.facts.framework, outcome.facts.device) == (Framework.QNN, "HTP")


@pytest.mark.parametrize(
    ("options", "execution"),
    [
        ({"weights": "SequentialMse"}, "INT8"),
        ({"activations": "UInt16", "weights": "SequentialMse"}, "A16W8"),
        ({"htpArchitecture": "75"}, "INT8"),
    ],
)
def test_each_way_computes_as_the_source_does(
    worker: Worker, tmp_path: Path, options: dict[str, str], execution: str
) -> None:
    source = models.save(tmp_path / "digits.onnx", models.classifier())
    folder = worker.folder / "-".join(options.values())
    folder.mkdir()
    moved = source.rename(folder / source.name)
    request: dict[str, Any] = {**EQUALIZED, "options": options}
    wanted = work(moved, request, folder / "work" / "candidate", samples())
    made = make(worker.place, "aimet", wanted)
    assert made.execution_precision == execution
    found = run(worker.place, Framework.QNN, "HTP", wanted.folder / made.model_file, made, samples())
    given = samples()
    assert given.labels is not None
    assert np.mean(found.reshape(len(given), -1).argmax(axis=1) == given.labels) > 0.95
