"""Models of Keras, converted to ONNX by way of torch. Runs where Keras and torch are, in a child process."""

import os
import re
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.optimizer.errors import BadModelError
from skerry.optimizer.keras_archive import EXPORT, SUFFIX, WEIGHTS, clean_archive
from skerry.optimizer.torch_source import MODEL_FILE, OPSET, compare

ENVIRONMENT: Final = {
    "KERAS_BACKEND": "torch",
    "KERAS_TORCH_DEVICE": "cpu",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
_SEED: Final = 17
_BATCHES: Final = (2, 3)
_SIDES: Final = (64, 96)
"""What free sizes are tried as: multiples of 32, for networks that halve their input five times."""
_LARGEST: Final = 4096
_ANYWAY: Final = 8 << 30
_TIMES: Final = 20
_MAX_GROWTH: Final = 100
_SMALL: Final = 1 << 20

_COLOUR: Final = re.compile(r"\x1b\[\d*m")
_FLOATS: Final = frozenset({"float16", "float32", "float64"})
_INTEGERS: Final = frozenset({"bool", "int8", "uint8", "int16", "int32", "int64"})

Array = npt.NDArray[Any]


def archive_in(path: Path) -> Path:
    """Return the archive that a source is or holds: by its name, or the only file."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return min(files, key=lambda file: file.suffix != SUFFIX)


def convert(path: Path, folder: Path) -> Path:
    """Return the ONNX model made of a model of Keras.

    Its inputs and outputs are called as in Keras, and keep their axes in Keras' order; sizes that are free stay so.

    Args:
        path: The file or folder that was fetched.
        folder: Where the model is written.

    Raises:
        BadModelError: It cannot be loaded safely, cannot be converted, or says something else afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update({**ENVIRONMENT, "KERAS_HOME": str(folder / "keras")})
    archive = archive_in(path)
    copy = folder / f"checked{SUFFIX}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing tells of every constant
        try:
            clean_archive(archive, copy)
            _bound_memory(copy.stat().st_size)
            model = _load(archive.name, copy)
        finally:
            copy.unlink(missing_ok=True)
        os.dup2(2, 1)  # exporters print whole graphs, and this process is one of its own
        _export(archive.name, _network(archive.name, model), folder / MODEL_FILE)
    return folder / MODEL_FILE


def _bound_memory(size: int) -> None:
    """Let this process have memory for models of some gigabytes, and as much more as its file tells that it needs.

    A layer of any size is a number in config.json, and is filled with random values before the weights are looked at.
    """
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not on every system

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _ANYWAY + _TIMES * size
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard < 0 else min(most, hard), hard))


def _load(file: str, copy: Path) -> Any:
    """Return the model of a copy that was checked."""
    import keras  # noqa: PLC0415 - heavy

    try:
        _check_weights(file, copy)
        model = keras.saving.load_model(str(copy), compile=False, safe_mode=True)
    except BadModelError:
        raise
    except Exception as error:
        told = _first_line(error)
        if isinstance(error, MemoryError) or "allocate memory" in told:
            told = f"it asks for much more memory than {copy.stat().st_size} bytes of weights need"
        message = f"{file} cannot be loaded by Keras {keras.__version__}: {told}"
        raise BadModelError(message) from error
    if not isinstance(model, keras.Model) or not model.built:
        message = f"{file} has no inputs: begin the model with keras.Input, and save it anew"
        raise BadModelError(message)
    return model


def _check_weights(file: str, copy: Path) -> None:
    """Refuse weights that lie elsewhere, or that are much more in memory than in the file.

    Raises:
        BadModelError: With the name of the first such thing.
    """
    import h5py  # noqa: PLC0415 - only where Keras is

    with zipfile.ZipFile(copy) as archive:
        weights = Path(archive.extract(WEIGHTS, copy.parent))
    try:
        with h5py.File(weights, "r") as tree:

            def trouble(name: str, link: Any) -> str | None:
                if not isinstance(link, h5py.HardLink):
                    return f"{name} leads elsewhere"
                found = tree[name]
                if not isinstance(found, h5py.Dataset):
                    return None
                if found.external or found.is_virtual:
                    return f"{name} lies in another file"
                if found.dtype.hasobject:
                    return f"{name} holds no numbers"
                stored = found.id.get_storage_size()
                if found.nbytes > max(_SMALL, _MAX_GROWTH * stored):
                    return f"{name} has {found.nbytes} bytes, of which {stored} are in the file"
                return None

            told = tree.visititems_links(trouble)
    finally:
        weights.unlink()
    if told is not None:
        message = f"{file}: of its weights {told}; such files are not loaded"
        raise BadModelError(message)


@dataclass(frozen=True)
class _Network:
    """A model as exporters of torch take it.

    Attributes:
        module: Takes tensors in their order, and returns a tuple of tensors.
        inputs: For each input its name with what axes of it are free, by their names.
        outputs: The same of each output.
        samples: Two sets of inputs of different sizes.
    """

    module: Any
    inputs: dict[str, dict[int, str]]
    outputs: dict[str, dict[int, str]]
    samples: list[dict[str, Array]]

    @property
    def example(self) -> tuple[Any, ...]:
        """The tensors of the first sample."""
        import torch  # noqa: PLC0415 - heavy

        return tuple(torch.from_numpy(array) for array in self.samples[0].values())


def _network(file: str, model: Any) -> _Network:
    import keras  # noqa: PLC0415 - heavy
    import torch  # noqa: PLC0415 - heavy

    sequence = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequence else model.input
    tensors = keras.tree.flatten(structure)
    inputs = _unique([tensor.name for tensor in tensors], set())
    outputs = _unique([model.layers[-1].name] if sequence else model.output_names, set(inputs))

    class _Plain(torch.nn.Module):  # type: ignore[misc]
        """Takes tensors in their order, and returns a tuple of tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            packed = keras.tree.pack_sequence_as(structure, list(given))
            return tuple(keras.tree.flatten(self.model(packed, training=False)))

    random = np.random.default_rng(_SEED)
    return _Network(
        _Plain().eval(),  # with the model inside: exporting puts both back to what this one was in before
        dict(zip(inputs, map(_free, inputs, tensors), strict=True)),
        dict(zip(outputs, map(_free, outputs, model.outputs), strict=True)),
        [_sample(file, random, inputs, tensors, number) for number in range(len(_BATCHES))],
    )


def _export(file: str, network: _Network, target: Path) -> None:
    """Write a model as ONNX by the first exporter whose result says the same as the model.

    Raises:
        BadModelError: None of them can.
    """
    troubles = []
    for exporter in (_by_graph, _by_trace):
        try:
            exporter(network, target)
            _name_sizes(network, target)
            _check_same(network, target)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - exporters raise what they like
            troubles.append(_first_line(error))
        else:
            return
    sizes = [name for axes in network.inputs.values() for axis, name in axes.items() if axis]
    advice = f" (its sizes {', '.join(sizes)} are free: say them in keras.Input)" if sizes else ""
    message = f"{file} cannot be converted to ONNX{advice}: {'; nor by tracing: '.join(troubles)}"
    raise BadModelError(message)


def _by_graph(network: _Network, target: Path) -> None:
    """Export by torch.export, which gives the simpler graph and knows more layers."""
    import torch  # noqa: PLC0415 - heavy

    sizes = tuple(
        # Without bounds torch finds some of its own for many layers, and refuses to go on.
        {axis: torch.export.Dim(f"size_{number}_{axis}" if axis else "batch", min=1, max=_LARGEST) for axis in axes}
        for number, axes in enumerate(network.inputs.values())
    )
    program = torch.export.export(network.module, network.example, dynamic_shapes={"given": sizes}, strict=False)
    names = {"input_names": list(network.inputs), "output_names": list(network.outputs)}
    made = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    made.optimize()
    made.save(str(target), external_data=False)


def _by_trace(network: _Network, target: Path) -> None:
    """Export by running the model once, which does for recurrent layers: each step is written out."""
    import torch  # noqa: PLC0415 - heavy

    torch.onnx.export(
        network.module,
        network.example,
        str(target),
        opset_version=OPSET,
        dynamo=False,
        input_names=list(network.inputs),
        output_names=list(network.outputs),
        dynamic_axes={name: axes for name, axes in (network.inputs | network.outputs).items() if axes},
    )


def _name_sizes(network: _Network, target: Path) -> None:
    """Give free axes of inputs and outputs the names that they have here; what is known of values within goes."""
    import onnx  # noqa: PLC0415 - heavy

    model = onnx.load(target)
    axes = network.inputs | network.outputs
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in axes[value.name].items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    onnx.save(model, target)


def _check_same(network: _Network, target: Path) -> None:
    import torch  # noqa: PLC0415 - heavy

    for sample in network.samples:
        with torch.no_grad():
            said = network.module(*(torch.from_numpy(array) for array in sample.values()))
        compare(target, sample, [each.numpy() for each in said])


def _unique(names: Sequence[str], taken: set[str]) -> list[str]:
    """Return the names, those that are taken with a number."""
    found: list[str] = []
    for name in names:
        free = (f"{name}_{number}" if number else name for number in count())
        found.append(next(each for each in free if each not in taken and each not in found))
    return found


def _free(name: str, tensor: Any) -> dict[int, str]:
    """Return the names of a tensor's free axes; the first counts the samples."""
    return {axis: f"{name}_{axis}" if axis else "batch" for axis, size in enumerate(tensor.shape) if size is None}


def _sample(
    file: str, random: np.random.Generator, names: Sequence[str], tensors: Sequence[Any], number: int
) -> dict[str, Array]:
    """Return random inputs: numbers from 0 to 1, which pictures are once scaled and no logarithm fails on.

    Raises:
        BadModelError: An input is of a type that has no numbers.
    """
    sample: dict[str, Array] = {}
    for name, tensor in zip(names, tensors, strict=True):
        shape = [
            (_SIDES if axis else _BATCHES)[number] if size is None else size for axis, size in enumerate(tensor.shape)
        ]
        if tensor.dtype in _FLOATS:
            sample[name] = random.random(shape).astype(tensor.dtype)
        elif tensor.dtype in _INTEGERS:  # numbers of words, of which each vocabulary has two
            sample[name] = random.integers(0, 2, shape).astype(tensor.dtype)
        else:
            message = f"{file}: the input {name} is of type {tensor.dtype}, of which no model can be made: {EXPORT}"
            raise BadModelError(message)
    return sample


def _first_line(error: BaseException) -> str:
    """Return what an error says that was behind all others, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _COLOUR.sub("", next(iter(str(error).strip().splitlines()), type(error).__name__))
