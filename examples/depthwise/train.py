"""Train a small MobileNet-like network, whose channels are as unlike each other as those of the real ones.

    python examples/depthwise/train.py FOLDER

writes `depthwise.onnx`, `depthwise-test.npz` (540 labelled digits that training never saw) and
`depthwise-calibration.npz` (300 of the training part). It takes half a minute on two cores.

After training, channels between the layers are scaled up and down, and what reads them the other way round: the network
computes the same in floating point. In MobileNets, the folded batch normalizations leave channels like that, and it is
why 8 bits for a whole tensor lose so much of them (Nagel et al., Data-Free Quantization, 2019, figure 2). So the
default INT8 recipe fails here, and a recovery has something to show.
"""

import argparse
import sys
from collections.abc import Iterator
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
SIDE = 16
CLASSES = 10
EPOCHS = 10
BATCH = 32
OPSET = 17
STEM = 24
# Output channels and stride of each pair of a depthwise 3x3 and a pointwise convolution.
BLOCKS = ((64, 2), (128, 1), (128, 2), (256, 1))
SPREAD = 1.4

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Layer = tuple[jax.Array, jax.Array]
Weights = list[Layer]


def load() -> tuple[Floats, Floats, Integers, Integers]:
    """Return scikit-learn's digits, enlarged to `[N, 1, 16, 16]`: images for training and testing, then labels."""
    images, labels = load_digits(return_X_y=True)
    small = jnp.asarray(images, dtype=jnp.float32).reshape(-1, 1, 8, 8) / 16.0
    large = np.asarray(jax.image.resize(small, (len(labels), 1, SIDE, SIDE), method="linear"), dtype=np.float32)
    parts: tuple[Floats, Floats, Integers, Integers] = tuple(
        train_test_split(large, labels.astype(np.int64), test_size=540, stratify=labels, random_state=SEED)
    )
    return parts


def initial(key: jax.Array) -> Weights:
    """Return He-initialised weights: the stem's, a depthwise and a pointwise kernel a block, the classifier's."""
    shapes = [(STEM, 1, 3, 3)]
    channels = STEM
    for wide, _ in BLOCKS:
        shapes += [(channels, 1, 3, 3), (wide, channels, 1, 1)]
        channels = wide
    weights: Weights = []
    for shape in shapes:
        key, part = jax.random.split(key)
        scale = (2.0 / float(np.prod(shape[1:]))) ** 0.5
        weights.append((jax.random.normal(part, shape) * scale, jnp.zeros(shape[0])))
    weights.append((jax.random.normal(key, (channels, CLASSES)) * (1.0 / channels) ** 0.5, jnp.zeros(CLASSES)))
    return weights


def strides() -> list[int]:
    """Return the stride of each convolution."""
    return [1, *(each for _, stride in BLOCKS for each in (stride, 1))]


def logits(weights: Weights, images: jax.Array) -> jax.Array:
    """Return the class scores `[N, 10]` of images `[N, 1, 16, 16]`."""
    x = images
    for (kernel, bias), stride in zip(weights[:-1], strides(), strict=True):
        groups = x.shape[1] // kernel.shape[1]
        padding = kernel.shape[2] // 2
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((padding, padding), (padding, padding)), feature_group_count=groups
        )
        x = jax.nn.relu(x + bias[None, :, None, None])
    dense, bias = weights[-1]
    return x.mean(axis=(2, 3)) @ dense + bias


def loss(weights: Weights, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy, with smoothed labels."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), 0.05)
    return jnp.asarray(optax.softmax_cross_entropy(logits(weights, images), targets).mean())


def batches(images: Floats, labels: Integers, random: np.random.Generator) -> Iterator[tuple[Floats, Integers]]:
    """Yield one epoch of shuffled batches."""
    order = random.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


def train(images: Floats, labels: Integers) -> Weights:
    """Return the trained weights; says on stderr how each epoch went."""
    weights = initial(jax.random.key(SEED))
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = optax.adamw(optax.cosine_decay_schedule(5e-3, steps), weight_decay=1e-3)
    state = optimizer.init(weights)

    @jax.jit
    def step(weights: Weights, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Weights, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(weights, images, labels)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, value

    random = np.random.default_rng(SEED)
    for epoch in range(EPOCHS):
        value = jnp.zeros(())
        for batch, truth in batches(images, labels, random):
            weights, state, value = step(weights, state, batch, truth)
        sys.stderr.write(f"epoch {epoch + 1}/{EPOCHS}: loss {float(value):.4f}\n")
    return weights


def unlike(weights: Weights, spread: float) -> Weights:
    """Return weights of the same function whose channels differ: each pointwise output by a factor of its own.

    ReLU passes a positive factor on, a depthwise convolution too; the next pointwise convolution takes it back.
    """
    random = np.random.default_rng(SEED)
    found = list(weights)
    for wider in range(0, len(found) - 3, 2):
        (kernel, bias), (depthwise, shift), (reader, after) = found[wider : wider + 3]
        factors = jnp.asarray(np.exp(spread * random.standard_normal(len(bias))), dtype=jnp.float32)
        found[wider] = kernel * factors[:, None, None, None], bias * factors
        found[wider + 1] = depthwise, shift * factors
        found[wider + 2] = reader / factors[None, :, None, None], after
    return found


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """Return the network as ONNX: `image` `[batch, 1, 16, 16]` in, `scores` `[batch, 10]` out."""
    nodes, name, channels = [], "image", 1
    constants: dict[str, Floats] = {}
    for index, ((kernel, bias), stride) in enumerate(zip(weights[:-1], strides(), strict=True)):
        constants |= {f"kernel{index}": np.asarray(kernel), f"bias{index}": np.asarray(bias)}
        size = kernel.shape[2]
        nodes += [
            helper.make_node(
                "Conv",
                [name, f"kernel{index}", f"bias{index}"],
                [f"conv{index}"],
                name=f"conv{index}",
                kernel_shape=[size, size],
                pads=[size // 2] * 4,
                strides=[stride, stride],
                group=channels // kernel.shape[1],
            ),
            helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"], name=f"relu{index}"),
        ]
        name, channels = f"relu{index}", kernel.shape[0]
    dense, bias = weights[-1]
    constants |= {"dense": np.asarray(dense), "dense_bias": np.asarray(bias)}
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="features", axis=1),
        helper.make_node("Gemm", ["features", "dense", "dense_bias"], ["scores"], name="scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), each) for each, value in constants.items()],
    )
    # IR version 8 is what runtimes of the last years read; the newest one shuts older devices out.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spread", type=float, default=SPREAD, help="how unlike the channels are; 0: as trained")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    train_images, test_images, train_labels, test_labels = load()
    weights = unlike(train(train_images, train_labels), arguments.spread)
    found = np.asarray(jax.jit(logits)(weights, jnp.asarray(test_images))).argmax(axis=1)
    parameters = sum(kernel.size + bias.size for kernel, bias in weights)
    right = 100 * float(np.mean(found == test_labels))
    sys.stderr.write(f"{parameters} parameters, {right:.2f} % of the held-out digits right\n")
    onnx.save(to_onnx(weights), folder / "depthwise.onnx")
    np.savez_compressed(folder / "depthwise-test.npz", image=test_images, labels=test_labels)
    np.savez_compressed(folder / "depthwise-calibration.npz", image=train_images[:300], labels=train_labels[:300])


if __name__ == "__main__":
    main()
