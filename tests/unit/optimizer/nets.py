"""The networks of `examples/depthwise` and `examples/encoder` without training: random layers and a linear readout."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from examples.depthwise import train as depthwise
from examples.encoder import train as encoder
from tests.unit.optimizer.models import Array

CALIBRATION = 100
EVALUATION = 240
SEED = 3


def write_depthwise(folder: Path, spread: float) -> Path:
    """Write `depthwise.onnx` whose channels are so unlike each other, and data for it; return the folder."""
    train_images, test_images, train_labels, test_labels = depthwise.load()
    weights = depthwise.initial(jax.random.key(SEED))
    # Biases well above 0 keep random ReLUs alive, and are what bias correction corrects.
    weights = [(kernel, bias + 0.1) for kernel, bias in weights[:-1]]
    width = weights[-1][0].shape[0]
    features = depthwise.logits([*weights, (jnp.eye(width), jnp.zeros(width))], jnp.asarray(train_images))
    readout = _readout(np.asarray(features), train_labels)
    made = depthwise.to_onnx(depthwise.unlike([*weights, readout], spread))
    _write(folder, "depthwise", made)
    _write_data(folder, "image", train_images, train_labels, test_images, test_labels)
    return folder


def write_encoder(folder: Path, factor: float) -> Path:
    """Write `encoder.onnx` with outliers that large, and data for it; return the folder."""
    train_rows, test_rows, train_labels, test_labels = encoder.load()
    weights = encoder.initial(jax.random.key(SEED))
    wide = {"classify": jnp.eye(encoder.WIDTH), "classify.bias": jnp.zeros(encoder.WIDTH)}
    features = encoder.logits({**weights, **wide}, jnp.asarray(train_rows))
    dense, bias = _readout(np.asarray(features), train_labels)
    made = encoder.to_onnx(encoder.with_outliers({**weights, "classify": dense, "classify.bias": bias}, factor))
    _write(folder, "encoder", made)
    _write_data(folder, "rows", train_rows, train_labels, test_rows, test_labels)
    return folder


def _readout(features: Array, labels: Array) -> tuple[jax.Array, jax.Array]:
    """Return the linear layer that fits the labels best."""
    wide = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    found = np.linalg.solve(wide.T @ wide + 1e-3 * np.eye(wide.shape[1]), wide.T @ np.eye(10)[labels])
    return jnp.asarray(found[:-1]), jnp.asarray(found[-1])


def _write(folder: Path, name: str, made: onnx.ModelProto) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(made, folder / f"{name}.onnx")


def _write_data(folder: Path, name: str, train: Array, train_labels: Array, test: Array, test_labels: Array) -> None:
    parts: dict[str, Any] = {
        "calibration": (train[:CALIBRATION], train_labels[:CALIBRATION]),
        "test": (test[:EVALUATION], test_labels[:EVALUATION]),
    }
    for part, (arrays, labels) in parts.items():
        np.savez(folder / f"{part}.npz", allow_pickle=True, **{name: arrays, "labels": labels})
