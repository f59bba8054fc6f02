"""Looking at a source model before anything is made of it. Runs in a child process."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from skerry.api.types import InputShape, ModelFacts, ModelFormat, ModelKind, TensorFacts, TensorType
from skerry.optimizer.backends.base import Source
from skerry.optimizer.detect import locate
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.wire import transported

MAX_TENSORS: Final = 32


@dataclass(frozen=True)
class Content:
    """What a model's file says.

    Attributes:
        inputs: Its inputs.
        outputs: Its outputs.
        parameters: Number of parameters.
        files: All files that belong to it, by their name relative to the main file's folder.
        kind: What it is built of.
    """

    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    parameters: int
    files: Mapping[str, Path]
    kind: ModelKind


@transported
@dataclass(frozen=True)
class Inspected:
    """The model's facts, and the source as backends want it."""

    facts: ModelFacts
    source: Source


class Reader(Protocol):
    """Reads the models of one format."""

    def read(self, path: Path) -> Content:
        """Return what the file says.

        Raises:
            BadModelError: It cannot be read.
        """
        ...

    def pin(self, path: Path, shapes: Mapping[str, list[int]], target: Path) -> None:
        """Write the model with its inputs' shapes pinned."""
        ...

    def load(self, path: Path) -> Mapping[str, list[int]]:
        """Load the model in its reference runtime and return the outputs' shapes as that infers them.

        Raises:
            BadModelError: The runtime refuses it.
        """
        ...


def _reader(found: ModelFormat) -> Reader:
    if found is ModelFormat.ONNX:
        from skerry.optimizer.onnx_source import OnnxReader  # noqa: PLC0415 - heavy

        return OnnxReader()
    if found is ModelFormat.TFLITE:
        from skerry.optimizer.tflite_source import TfliteReader  # noqa: PLC0415 - heavy

        return TfliteReader()
    from skerry.optimizer.openvino_source import OpenVinoReader  # noqa: PLC0415 - heavy

    return OpenVinoReader()


def inspect(path: Path, wanted: ModelFormat, inputs: Sequence[InputShape], folder: Path) -> Inspected:
    """Return what a model is, having really loaded it in its reference runtime.

    Args:
        path: The file or folder that was fetched.
        wanted: The format that the spec says.
        inputs: Shapes that the spec pins.
        folder: Where a copy with pinned shapes is written when any are.

    Raises:
        BadModelError: It cannot be used; the message says why and what to do.
    """
    main, found = locate(path, wanted)
    reader = _reader(found)
    content = reader.read(main)
    _check_tensors(main.name, content)
    size = sum(file.stat().st_size for file in content.files.values())
    shapes = _shapes(content.inputs, {shape.name: list(shape.shape) for shape in inputs})
    source = Source(main, found, content.files, content.kind, path if path.is_dir() else None)
    if shapes:
        source = _pinned(reader, source, shapes, folder)
    inferred = reader.load(source.path)
    facts = ModelFacts(
        format=found,
        kind=content.kind,
        size_bytes=size,
        parameters=content.parameters,
        inputs=[
            tensor.model_copy(update={"shape": shapes.get(tensor.name, tensor.shape)}) for tensor in content.inputs
        ],
        outputs=[
            tensor.model_copy(update={"shape": inferred.get(tensor.name, tensor.shape)}) for tensor in content.outputs
        ],
    )
    return Inspected(facts, source)


def _check_tensors(name: str, content: Content) -> None:
    """Refuse models whose inputs or outputs cannot be measured or served."""
    for what, tensors in (("inputs", content.inputs), ("outputs", content.outputs)):
        if not 1 <= len(tensors) <= MAX_TENSORS:
            message = f"{name} has {len(tensors)} {what}; between 1 and {MAX_TENSORS} are supported"
            raise BadModelError(message)
    for tensor in (*content.inputs, *content.outputs):
        if tensor.dtype is TensorType.BYTES:
            message = f"{name}: {tensor.name!r} holds strings; only tensors of numbers can be optimized and measured"
            raise BadModelError(message)


def _shapes(tensors: Sequence[TensorFacts], pinned: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the shapes that pin free dimensions; a free first dimension counts as the batch and may stay free."""
    names = [tensor.name for tensor in tensors]
    unknown = sorted(set(pinned) - set(names))
    if unknown:
        message = f"spec.inputs names {', '.join(unknown)}, but the model's inputs are {', '.join(names)}"
        raise BadModelError(message)
    shapes: dict[str, list[int]] = {}
    for tensor in tensors:
        shape = pinned.get(tensor.name)
        if shape is None:
            _require_pinned(tensor)
            continue
        fits = len(shape) == len(tensor.shape) and all(
            have in {-1, want} for have, want in zip(tensor.shape, shape, strict=True)
        )
        if not fits:
            message = f"spec.inputs gives {tensor.name!r} the shape {shape}, but the model wants {tensor.shape}"
            raise BadModelError(message)
        if shape != tensor.shape:
            shapes[tensor.name] = shape
    return shapes


def _require_pinned(tensor: TensorFacts) -> None:
    if -1 not in tensor.shape[1:]:
        return
    example = ", ".join(str(size if size > 0 else 1 if index == 0 else "?") for index, size in enumerate(tensor.shape))
    message = (
        f"the input {tensor.name!r} has the shape {tensor.shape}, where -1 is a dimension that the model leaves open: "
        f"pin it in spec.inputs, as in {{name: {tensor.name}, shape: [{example}]}} with a number for each ?"
    )
    raise BadModelError(message)


def _pinned(reader: Reader, source: Source, shapes: Mapping[str, list[int]], folder: Path) -> Source:
    """Return a copy of the source in which the shapes are pinned, its other files beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {name: folder / name for name in source.files}
    for name, file in source.files.items():
        files[name].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, files[name])
    target = files[source.path.name]
    reader.pin(source.path, shapes, target)
    return replace(source, path=target, files=files)
