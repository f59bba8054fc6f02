"""Train the digits classifier and write what the example needs.

    python examples/digits/train.py FOLDER

writes `digits.onnx` (a convolutional classifier), `digits-test.npz` (540 labelled digits that training never saw) and
`digits-calibration.npz` (300 labelled digits of the training part, for quantization). The digits are scikit-learn's,
scaled from 8x8 to 32x32, which makes the network large enough that integer arithmetic shows. It takes a minute on two
cores.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import onnx
import optax
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20261121
SIDE = 32
CLASSES = 10
EPOCHS = 12
BATCH = 32
OPSET = 17
# Input channels, output channels, stride of each 3x3 convolution: 0.54 million parameters in all.
CONVOLUTIONS = ((1, 32, 1), (32, 64, 2), (64, 128, 1), (128, 128, 2), (128, 256, 2))

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Weights = list[tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Digits:
    """Images `[N, 1, 32, 32]` in 0..1 and class ids `[N]`, for training and for testing."""

    train_images: Floats
    train_labels: Integers
    test_images: Floats
    test_labels: Integers


def load() -> Digits:
    """Return scikit-learn's digits, enlarged, with a fixed stratified part held out."""
    images, labels = load_digits(return_X_y=True)
    small = jnp.asarray(images, dtype=jnp.float32).reshape(-1, 1, 8, 8) / 16.0
    large = np.asarray(jax.image.resize(small, (len(labels), 1, SIDE, SIDE), method="linear"), dtype=np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        large, labels.astype(np.int64), test_size=540, stratify=labels, random_state=SEED
    )
    return Digits(train_x, train_y, test_x, test_y)


def initial(key: jax.Array) -> Weights:
    """Return He-initialised weights: `[out, in, 3, 3]` and `[out]` for each convolution, then the classifier's."""
    weights: Weights = []
    for fan_in, fan_out, _ in CONVOLUTIONS:
        key, part = jax.random.split(key)
        scale = (2.0 / (fan_in * 9)) ** 0.5
        weights.append((jax.random.normal(part, (fan_out, fan_in, 3, 3)) * scale, jnp.zeros(fan_out)))
    last = CONVOLUTIONS[-1][1]
    weights.append((jax.random.normal(key, (last, CLASSES)) * (1.0 / last) ** 0.5, jnp.zeros(CLASSES)))
    return weights


def logits(weights: Weights, images: jax.Array) -> jax.Array:
    """Return the class scores `[N, 10]` of images `[N, 1, 32, 32]`."""
    x = images
    for (kernel, bias), (_, _, stride) in zip(weights[:-1], CONVOLUTIONS, strict=True):
        x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)))
        x = jax.nn.relu(x + bias[None, :, None, None])
    dense, bias = weights[-1]
    return x.mean(axis=(2, 3)) @ dense + bias


def loss(weights: Weights, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy, with smoothed labels."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), 0.05)
    return jnp.asarray(optax.softmax_cross_entropy(logits(weights, images), targets).mean())


def batches(data: Digits, random: np.random.Generator) -> Iterator[tuple[Floats, Integers]]:
    """Yield one epoch of shuffled batches, each image moved by up to two pixels."""
    order = random.permutation(len(data.train_labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        moves = random.integers(-2, 3, size=2)
        yield np.roll(data.train_images[chosen], moves, axis=(2, 3)), data.train_labels[chosen]


def train(data: Digits) -> Weights:
    """Return the trained weights; says on stderr how each epoch went."""
    weights = initial(jax.random.key(SEED))
    steps = EPOCHS * (len(data.train_labels) // BATCH)
    optimizer = optax.adamw(optax.cosine_decay_schedule(1.5e-3, steps), weight_decay=1e-3)
    state = optimizer.init(weights)

    @jax.jit
    def step(weights: Weights, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Weights, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(weights, images, labels)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, value

    random = np.random.default_rng(SEED)
    for epoch in range(EPOCHS):
        value = jnp.zeros(())
        for images, labels in batches(data, random):
            weights, state, value = step(weights, state, images, labels)
        sys.stderr.write(f"epoch {epoch + 1}/{EPOCHS}: loss {float(value):.4f}\n")
    return weights


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """Return the network as ONNX: `image` `[batch, 1, 32, 32]` in, `scores` `[batch, 10]` out."""
    nodes, initializers, name = [], [], "image"
    for index, ((kernel, bias), (_, _, stride)) in enumerate(zip(weights[:-1], CONVOLUTIONS, strict=True)):
        initializers += [
            numpy_helper.from_array(np.asarray(kernel, dtype=np.float32), f"kernel{index}"),
            numpy_helper.from_array(np.asarray(bias, dtype=np.float32), f"bias{index}"),
        ]
        nodes += [
            helper.make_node(
                "Conv",
                [name, f"kernel{index}", f"bias{index}"],
                [f"conv{index}"],
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
                strides=[stride, stride],
            ),
            helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]),
        ]
        name = f"relu{index}"
    dense, bias = weights[-1]
    initializers += [
        numpy_helper.from_array(np.asarray(dense, dtype=np.float32), "dense"),
        numpy_helper.from_array(np.asarray(bias, dtype=np.float32), "dense_bias"),
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "dense", "dense_bias"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers,
    )
    # IR version 8 is what runtimes of the last years read; the newest one shuts older devices out.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    data = load()
    weights = train(data)
    found = np.asarray(jax.jit(logits)(weights, jnp.asarray(data.test_images))).argmax(axis=1)
    parameters = sum(kernel.size + bias.size for kernel, bias in weights)
    right = 100 * float(np.mean(found == data.test_labels))
    sys.stderr.write(f"{parameters} parameters, {right:.2f} % of the held-out digits right\n")
    onnx.save(to_onnx(weights), folder / "digits.onnx")
    np.savez_compressed(folder / "digits-test.npz", image=data.test_images, labels=data.test_labels)
    np.savez_compressed(
        folder / "digits-calibration.npz", image=data.train_images[:300], labels=data.train_labels[:300]
    )


if __name__ == "__main__":
    main()
