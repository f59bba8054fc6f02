"""What a model is built of."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from skerry.api.types import ModelFormat, ModelKind
from skerry.optimizer import child
from skerry.optimizer.inspection import inspect
from skerry.optimizer.kinds import Operation, model_kind
from tests.unit.optimizer import models

if TYPE_CHECKING:
    from collections.abc import Callable


def chain(*names: str) -> list[Operation]:
    """Return operators one after the other; products take a second value that is computed, too."""
    return [Operation(name, [str(index), "side"], [str(index + 1)]) for index, name in enumerate(names)]


ATTENTION = ("MatMul", "Mul", "Add", "Softmax", "MatMul")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("Conv", "Relu", "Conv", "Gemm", "Softmax"), ModelKind.CONVOLUTIONAL),
        (("MatMul", "Add", "Relu", "MatMul", "Softmax"), ModelKind.OTHER),
        (ATTENTION, ModelKind.TRANSFORMER),
        (("Conv", *ATTENTION, *ATTENTION), ModelKind.TRANSFORMER),
        (("Conv",) * 20 + ATTENTION, ModelKind.CONVOLUTIONAL),
        (("LayerNormalization", "Attention", "MatMul"), ModelKind.TRANSFORMER),
        (("Conv", "Conv", "LSTM", "Gemm"), ModelKind.RECURRENT),
        (("GRUSequence",), ModelKind.RECURRENT),
        (("LayerNormalization", "MatMul", "Conv"), ModelKind.CONVOLUTIONAL),
        (("Softmax", "MatMul"), ModelKind.OTHER),
        ((), ModelKind.OTHER),
    ],
)
def test_kinds(names: tuple[str, ...], kind: ModelKind) -> None:
    assert model_kind(chain(*names)) is kind


def test_a_softmax_that_nothing_reads_is_no_attention() -> None:
    assert model_kind(chain("MatMul", "Softmax", "Relu", "MatMul")) is ModelKind.OTHER


def recurrent() -> onnx.ModelProto:
    weights = {name: np.zeros(shape, np.float32) for name, shape in {"w": (1, 16, 3), "r": (1, 16, 4)}.items()}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    shapes: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, [5, 1, 3])}
    return models.model([node], shapes, {"y": (TensorProto.FLOAT, [5, 1, 1, 4])}, weights)


@pytest.mark.parametrize("name", ["classifier", "encoder", "recurrent", "flat"])
def test_real_models_as_onnx_and_as_ir(tmp_path: Path, classifier: Path, encoder: Path, name: str) -> None:
    made: dict[str, Callable[[], tuple[Path, ModelKind]]] = {
        "classifier": lambda: (classifier, ModelKind.CONVOLUTIONAL),
        "encoder": lambda: (encoder / "encoder.onnx", ModelKind.TRANSFORMER),
        "recurrent": lambda: (models.save(tmp_path / "m.onnx", recurrent()), ModelKind.RECURRENT),
        "flat": lambda: (models.save(tmp_path / "m.onnx", models.flat()), ModelKind.OTHER),
    }
    path, kind = made[name]()
    found = child.call("inspecting", inspect, path, ModelFormat.ONNX, [], tmp_path / "pinned")
    assert (found.facts.kind, found.source.kind) == (kind, kind)
    target = tmp_path / "ir" / "model.xml"
    target.parent.mkdir()
    child.call("converting", models.to_ir, path, target)
    found = child.call("inspecting", inspect, target, ModelFormat.OPENVINO, [], tmp_path / "pinned")
    assert (found.facts.kind, found.source.kind) == (kind, kind)
