"""Makes models as users of Keras have them; runs in the image with Keras: a trained one, others, and hostile ones."""

import base64
import json
import marshal
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.update({"KERAS_BACKEND": "torch", "KERAS_HOME": str(Path("keras-home").absolute())})

import h5py
import keras
import numpy as np
from keras.src.ops.operation import Operation
from sklearn.datasets import load_digits

from skerry.optimizer.keras_archive import ACTIVATIONS, ARRAY_OPERATIONS, CLASSES, NETWORK_OPERATIONS

SIDE, CLASS_COUNT, TRAINED_ON = 8, 10, 1000
WEIGHTS = "model.weights.h5"
HARM = "__import__('os').system('touch harmed')"
layers = keras.layers
Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def classifier() -> keras.Model:
    """Return a small CNN with what most have: scaling within, normalization, a skip, dropout."""
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.Rescaling(1 / 16)(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same", activation="gelu")(x)])
    x = layers.Dropout(0.2)(layers.MaxPooling2D()(x))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(CLASS_COUNT, activation="softmax", name="scores")(x))


def trained() -> None:
    """Train the CNN, and write it, the data that it did not see, and how Keras itself does on that."""
    keras.utils.set_random_seed(1)
    digits = load_digits()
    images, labels = digits.images[..., None].astype(np.float32), digits.target.astype(np.int64)
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[:TRAINED_ON], labels[:TRAINED_ON], epochs=8, verbose=0)
    model.save("digits.keras")
    images, labels = images[TRAINED_ON:], labels[TRAINED_ON:]
    np.savez("digits.npz", image=images, labels=labels)
    hits = np.argmax(model.predict(images, verbose=0), axis=1) == labels
    Path("keras.json").write_text(json.dumps({"accuracy": 100 * float(hits.mean())}), encoding="utf-8")


def others() -> None:
    """Write models of other kinds: several inputs and outputs, words, a recurrent one, a sequence, half precision."""
    keras.utils.set_random_seed(2)
    first, second = keras.Input((4,), name="b"), keras.Input((3,), name="a")
    joined = layers.Concatenate()([first, second]) * 2.0
    ends = {"one": layers.Dense(2, name="one")(joined), "two": layers.Dense(1, name="two")(joined)}
    keras.Model([first, second], ends).save("several.keras")
    words = keras.Input((20,), dtype="int32", name="tokens")
    x = layers.Embedding(100, 8, mask_zero=True)(words)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    keras.Model(words, layers.Dense(2, name="label")(layers.GlobalAveragePooling1D()(x))).save("words.keras")
    series = keras.Input((6, 5), name="series")
    keras.Model(series, layers.Dense(3, name="next")(layers.Bidirectional(layers.LSTM(4))(series))).save("series.keras")
    keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="y")]).save("sequence.keras")
    keras.mixed_precision.set_global_policy("mixed_float16")
    pictures = keras.Input((SIDE, SIDE, 3), name="picture")
    keras.Model(pictures, layers.Conv2D(4, 3, name="features")(pictures)).save("half.keras")
    keras.mixed_precision.set_global_policy("float32")
    free = keras.Input((None, 5), name="steps")
    keras.Model(free, layers.GRU(4, name="state")(free)).save("free.keras")


def tampered(name: str, member: str, change: Callable[[bytes], bytes]) -> None:
    """Write a model with one of the members of its archive changed."""
    with zipfile.ZipFile("sequence.keras") as source, zipfile.ZipFile(name, "w") as target:
        for each in source.namelist():
            content = source.read(each)
            target.writestr(each, change(content) if each == member else content)


def _with_weights(change: Callable[[h5py.Group, Array], None]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        path = Path("changed.h5")
        path.write_bytes(content)
        with h5py.File(path, "r+") as tree:
            group = tree["layers/dense/vars"]
            kernel = group["0"][...]
            del group["0"]
            change(group, kernel)
        return path.read_bytes()

    return changed


def _elsewhere(group: h5py.Group, kernel: Array) -> None:
    with h5py.File("secret.h5", "w") as secret:
        secret["kernel"] = kernel
    group["0"] = h5py.ExternalLink(str(Path("secret.h5").absolute()), "/kernel")


def _raw(group: h5py.Group, kernel: Array) -> None:
    group.create_dataset("0", kernel.shape, kernel.dtype, external=[("/etc/passwd", 0, kernel.nbytes)])


def _swollen(group: h5py.Group, _: Array) -> None:
    group.create_dataset("0", (1 << 14, 1 << 13), "f4", chunks=True, compression="gzip")


def _lambda(content: bytes) -> bytes:
    """Return the configuration with a layer whose code comes with it."""
    code = base64.b64encode(marshal.dumps(compile(f"lambda x: ({HARM}, x)[1]", "m", "eval").co_consts[0])).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    document = json.loads(content)
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function}}
    document["config"]["layers"].append({**layer, "registered_name": None})
    return json.dumps(document).encode()


def hostile() -> None:
    """Write models that would run code, read other files, or fill the memory."""
    tampered("lambda.keras", "config.json", _lambda)
    tampered("huge.keras", "config.json", lambda content: content.replace(b'"units": 3', b'"units": 3000000000000'))
    for name, change in {"elsewhere": _elsewhere, "raw": _raw, "swollen": _swollen}.items():
        tampered(f"{name}.keras", WEIGHTS, _with_weights(change))


def harmed_by_keras() -> bool:
    """Tell whether the model with code does harm when Keras loads it without its safe mode and without our checks."""
    keras.saving.load_model("lambda.keras", compile=False, safe_mode=False)(np.zeros((1, 4), np.float32))
    found = Path("harmed").exists()
    Path("harmed").unlink(missing_ok=True)
    return found


def unknown() -> list[str]:
    """Return what the list of harmless classes names and Keras does not have, or not as a layer or an operation."""
    found = []
    for module, names in CLASSES.items():
        parts = module.split(".")
        space = __import__(module, fromlist=parts[-1:])
        base = Operation if names & (ARRAY_OPERATIONS | NETWORK_OPERATIONS) and parts[-2:-1] == ["ops"] else object
        base = layers.Layer if module == "keras.layers" else base
        found += [f"{module}.{name}" for name in sorted(names) if not _is(getattr(space, name, None), base)]
    return found + [name for name in sorted(ACTIVATIONS) if not hasattr(keras.activations, name)]


def _is(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


if __name__ == "__main__":
    trained()
    others()
    hostile()
    Path("facts.json").write_text(json.dumps({"harmed": harmed_by_keras(), "unknown": unknown()}), encoding="utf-8")
