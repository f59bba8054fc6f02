"""Train a small transformer encoder, with outliers in its activations as large ones have them.

    python examples/encoder/train.py FOLDER

writes `encoder.onnx`, `encoder-test.npz` (540 labelled digits that training never saw) and `encoder-calibration.npz`
(300 of the training part). A digit is a sequence of its 8 rows. It takes half a minute on two cores.

After training, a few of the channels that the layers read are made larger, and the weights that read them smaller by
the same factor: the network computes the same in floating point. Large transformers grow such channels by themselves
(Xiao et al., SmoothQuant, 2023, figure 4), and 8 bits for a whole tensor then leave little to the other channels.
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
SIDE = 8
CLASSES = 10
WIDTH = 64
HEADS = 4
HIDDEN = 128
LAYERS = 3
EPOCHS = 25
BATCH = 32
OPSET = 17
EPSILON = 1e-5
OUTLIERS = 3
FACTOR = 200.0

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Weights = dict[str, jax.Array]


def load() -> tuple[Floats, Floats, Integers, Integers]:
    """Return scikit-learn's digits as sequences of rows `[N, 8, 8]`, for training and testing, then the labels."""
    images, labels = load_digits(return_X_y=True)
    rows = (images.reshape(-1, SIDE, SIDE) / 16.0).astype(np.float32)
    parts: tuple[Floats, Floats, Integers, Integers] = tuple(
        train_test_split(rows, labels.astype(np.int64), test_size=540, stratify=labels, random_state=SEED)
    )
    return parts


def initial(key: jax.Array) -> Weights:
    """Return initial weights by name; those of a layer begin with its number."""
    shapes = {"embed": (SIDE, WIDTH), "position": (SIDE, WIDTH), "classify": (WIDTH, CLASSES)}
    for layer in range(LAYERS):
        shapes |= {f"{layer}.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
        shapes |= {f"{layer}.up": (WIDTH, HIDDEN), f"{layer}.down": (HIDDEN, WIDTH)}
    keys = jax.random.split(key, len(shapes))
    weights = {
        name: jax.random.normal(part, shape) * shape[0] ** -0.5
        for part, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    weights |= {f"{name}.bias": jnp.zeros(shape[1]) for name, shape in shapes.items() if name != "position"}
    for norm in norms():
        weights |= {f"{norm}.scale": jnp.ones(WIDTH), f"{norm}.shift": jnp.zeros(WIDTH)}
    return weights


def norms() -> list[str]:
    """Return the names of the layer normalizations."""
    return [*(f"{layer}.{part}" for layer in range(LAYERS) for part in ("before", "between")), "last"]


def readers(norm: str) -> list[str]:
    """Return the names of the weights that read a layer's normalization."""
    layer, _, part = norm.partition(".")
    return [f"{layer}.{name}" for name in ("query", "key", "value")] if part == "before" else [f"{layer}.up"]


def normalized(weights: Weights, norm: str, x: jax.Array) -> jax.Array:
    """Return a layer normalization of `[N, 8, 64]`."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + EPSILON) * weights[f"{norm}.scale"] + weights[f"{norm}.shift"]


def linear(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """Return a linear layer."""
    return x @ weights[name] + weights[f"{name}.bias"]


def attention(weights: Weights, layer: int, x: jax.Array) -> jax.Array:
    """Return self-attention of `[N, 8, 64]`."""
    count = x.shape[0]
    query, key, value = (
        linear(weights, f"{layer}.{name}", x).reshape(count, SIDE, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)
        for name in ("query", "key", "value")
    )
    scores = jax.nn.softmax(query @ key.transpose(0, 1, 3, 2) * (WIDTH // HEADS) ** -0.5, axis=-1)
    return linear(weights, f"{layer}.out", (scores @ value).transpose(0, 2, 1, 3).reshape(count, SIDE, WIDTH))


def logits(weights: Weights, rows: jax.Array) -> jax.Array:
    """Return the class scores `[N, 10]` of digits `[N, 8, 8]`."""
    x = linear(weights, "embed", rows) + weights["position"]
    for layer in range(LAYERS):
        x = x + attention(weights, layer, normalized(weights, f"{layer}.before", x))
        hidden = jax.nn.gelu(
            linear(weights, f"{layer}.up", normalized(weights, f"{layer}.between", x)), approximate=False
        )
        x = x + linear(weights, f"{layer}.down", hidden)
    return linear(weights, "classify", normalized(weights, "last", x).mean(axis=1))


def loss(weights: Weights, rows: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy, with smoothed labels."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), 0.05)
    return jnp.asarray(optax.softmax_cross_entropy(logits(weights, rows), targets).mean())


def batches(rows: Floats, labels: Integers, random: np.random.Generator) -> Iterator[tuple[Floats, Integers]]:
    """Yield one epoch of shuffled batches."""
    order = random.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield rows[chosen], labels[chosen]


def train(rows: Floats, labels: Integers) -> Weights:
    """Return the trained weights; says on stderr how each epoch went."""
    weights = initial(jax.random.key(SEED))
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, steps), weight_decay=1e-3)
    state = optimizer.init(weights)

    @jax.jit
    def step(weights: Weights, state: Any, rows: jax.Array, labels: jax.Array) -> tuple[Weights, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(weights, rows, labels)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, value

    random = np.random.default_rng(SEED)
    for epoch in range(EPOCHS):
        value = jnp.zeros(())
        for batch, truth in batches(rows, labels, random):
            weights, state, value = step(weights, state, batch, truth)
        sys.stderr.write(f"epoch {epoch + 1}/{EPOCHS}: loss {float(value):.4f}\n")
    return weights


def with_outliers(weights: Weights, factor: float) -> Weights:
    """Return weights of the same function, in which a few channels that the layers read are so much larger."""
    random = np.random.default_rng(SEED)
    found = dict(weights)
    for norm in norms()[:-1]:
        factors = np.ones(WIDTH, np.float32)
        factors[random.choice(WIDTH, OUTLIERS, replace=False)] = factor
        for part in ("scale", "shift"):
            found[f"{norm}.{part}"] = found[f"{norm}.{part}"] * factors
        for name in readers(norm):
            found[name] = found[name] / factors[:, None]
    return found


class Graph:
    """Nodes and constants of an ONNX graph, one after the other."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, which has its name, and return that."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.constants[name] = value
        return name

    def linear(self, name: str, x: str) -> str:
        """Add a linear layer."""
        return self.add("Add", f"{name}.sum", self.add("MatMul", f"{name}.product", x, name), f"{name}.bias")

    def normalized(self, norm: str, x: str) -> str:
        """Add a layer normalization."""
        return self.add("LayerNormalization", norm, x, f"{norm}.scale", f"{norm}.shift", axis=-1, epsilon=EPSILON)

    def heads(self, name: str, x: str, order: list[int]) -> str:
        """Add a linear layer whose channels are divided among the heads."""
        shaped = self.add("Reshape", f"{name}.shaped", self.linear(name, x), "apart")
        return self.add("Transpose", f"{name}.heads", shaped, perm=order)

    def attention(self, layer: int, x: str) -> str:
        """Add self-attention."""
        query = self.heads(f"{layer}.query", x, [0, 2, 1, 3])
        key = self.heads(f"{layer}.key", x, [0, 2, 3, 1])
        value = self.heads(f"{layer}.value", x, [0, 2, 1, 3])
        scores = self.add("MatMul", f"{layer}.scores", query, key)
        scaled = self.add("Mul", f"{layer}.scaled", scores, "attention_scale")
        shares = self.add("Softmax", f"{layer}.shares", scaled, axis=-1)
        mixed = self.add("MatMul", f"{layer}.mixed", shares, value)
        moved = self.add("Transpose", f"{layer}.moved", mixed, perm=[0, 2, 1, 3])
        return self.linear(f"{layer}.out", self.add("Reshape", f"{layer}.joined", moved, "together"))

    def gelu(self, name: str, x: str) -> str:
        """Add the exact GELU."""
        erf = self.add("Erf", f"{name}.erf", self.add("Div", f"{name}.divided", x, "root_of_two"))
        return self.add(
            "Mul", f"{name}.half", self.add("Mul", name, x, self.add("Add", f"{name}.one", erf, "one")), "a_half"
        )


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """Return the network as ONNX: `rows` `[batch, 8, 8]` in, `scores` `[batch, 10]` out."""
    graph = Graph(weights)
    graph.constant("apart", np.array([0, SIDE, HEADS, WIDTH // HEADS], np.int64))
    graph.constant("together", np.array([0, SIDE, WIDTH], np.int64))
    for name, value in {
        "attention_scale": (WIDTH // HEADS) ** -0.5,
        "root_of_two": 2**0.5,
        "one": 1.0,
        "a_half": 0.5,
    }.items():
        graph.constant(name, np.array(value, np.float32))
    x = graph.add("Add", "embedded", graph.linear("embed", "rows"), "position")
    for layer in range(LAYERS):
        attended = graph.attention(layer, graph.normalized(f"{layer}.before", x))
        x = graph.add("Add", f"{layer}.attended", x, attended)
        up = graph.linear(f"{layer}.up", graph.normalized(f"{layer}.between", x))
        x = graph.add("Add", f"{layer}.done", x, graph.linear(f"{layer}.down", graph.gelu(f"{layer}.gelu", up)))
    pooled = graph.add("ReduceMean", "pooled", graph.normalized("last", x), axes=[1], keepdims=0)
    graph.add("Gemm", "scores", pooled, "classify", "classify.bias")
    made = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    # IR version 8 is what runtimes of the last years read; the newest one shuts older devices out.
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--factor", type=float, default=FACTOR, help="how large the outliers are; 1: none")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    train_rows, test_rows, train_labels, test_labels = load()
    weights = with_outliers(train(train_rows, train_labels), arguments.factor)
    found = np.asarray(jax.jit(logits)(weights, jnp.asarray(test_rows))).argmax(axis=1)
    parameters = sum(value.size for value in weights.values())
    right = 100 * float(np.mean(found == test_labels))
    sys.stderr.write(f"{parameters} parameters, {right:.2f} % of the held-out digits right\n")
    onnx.save(to_onnx(weights), folder / "encoder.onnx")
    np.savez_compressed(folder / "encoder-test.npz", rows=test_rows, labels=test_labels)
    np.savez_compressed(folder / "encoder-calibration.npz", rows=train_rows[:300], labels=train_labels[:300])


if __name__ == "__main__":
    main()
