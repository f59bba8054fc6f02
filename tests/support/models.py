"""Small models and data, made of the same numbers every time."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4
FEATURES = 64


def classifier(path: Path, *, seed: int = 1, hidden: int = 256) -> Path:
    """Write a small ONNX classifier: `features` `[batch, 64]` in, `scores` `[batch, 4]` out."""
    random = np.random.default_rng(seed)
    weights = {
        "w0": random.normal(0, 0.2, (FEATURES, hidden)).astype(np.float32),
        "b0": np.zeros(hidden, np.float32),
        "w1": random.normal(0, 0.2, (hidden, CLASSES)).astype(np.float32),
        "b1": np.zeros(CLASSES, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "w0", "b0"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w1", "b1"], ["scores"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def samples(path: Path, *, count: int = 80, features: int = FEATURES) -> Path:
    """Write evaluation data without labels."""
    random = np.random.default_rng(3)
    np.savez(path, features=random.normal(0, 1, (count, features)).astype(np.float32))
    return path
