"""Calibration and evaluation data: one array for each model input, the first axis counts the samples."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from skerry.api.types import EvaluationMetric, TensorFacts, TensorType
from skerry.optimizer.errors import BadDataError
from skerry.optimizer.wire import transported

LABELS: Final = "labels"
CONSTANT_PREFIX: Final = "const/"
MAX_BYTES: Final = 8 << 30
MIN_SAMPLES: Final = 10
DEFAULT_CALIBRATION: Final = 300
SEED: Final = 20261121

Array = npt.NDArray[Any]
Sample = dict[str, Array]

DTYPES: Final[dict[TensorType, type[np.generic]]] = {
    TensorType.BOOL: np.bool_,
    TensorType.UINT8: np.uint8,
    TensorType.UINT16: np.uint16,
    TensorType.UINT32: np.uint32,
    TensorType.UINT64: np.uint64,
    TensorType.INT8: np.int8,
    TensorType.INT16: np.int16,
    TensorType.INT32: np.int32,
    TensorType.INT64: np.int64,
    TensorType.FP16: np.float16,
    TensorType.FP32: np.float32,
    TensorType.FP64: np.float64,
}


@transported
@dataclass(frozen=True)
class Samples:
    """Samples for a model.

    Attributes:
        arrays: For each input, `[N, …]`; one sample is row i with a batch axis of 1 kept.
        constants: Inputs that are the same for all samples, in their full shape.
        labels: Class ids `[N]`, or targets `[N, …]` shaped like the output; None when there are none.
    """

    arrays: dict[str, Array]
    constants: dict[str, Array] = field(default_factory=dict)
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def sample(self, index: int) -> Sample:
        """Return the inputs of one sample, batch 1."""
        return {**{name: array[index : index + 1] for name, array in self.arrays.items()}, **self.constants}

    def part(self, indices: npt.NDArray[np.intp]) -> "Samples":
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[indices]
        return Samples({name: array[indices] for name, array in self.arrays.items()}, self.constants, labels)

    @property
    def class_ids(self) -> bool:
        """Whether the labels are class ids."""
        return self.labels is not None and self.labels.ndim == 1 and np.issubdtype(self.labels.dtype, np.integer)


def read(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """Return the arrays of an Npz file, without ever unpickling.

    Raises:
        BadDataError: It is not such a file, is too large when unpacked, or has objects in it.
    """
    with path.open("rb") as stream:
        return read_stream(path.name, stream, max_bytes=max_bytes)


def read_stream(name: str, stream: BinaryIO, *, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """Return the arrays of a stream; the name is for messages.

    Raises:
        BadDataError: It is not such a file, is too large when unpacked, or has objects in it.
    """
    total = _unpacked_bytes(name, stream)
    if total > max_bytes:
        message = (
            f"{name}: unpacked, the data has {total} bytes; the limit is {max_bytes} (a quarter of the memory limit, "
            "at most 8 GiB): give fewer samples, or more memory in spec.optimization.resources"
        )
        raise BadDataError(message)
    try:
        with np.load(stream, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        message = f"{name}: the file is damaged: {error}"
        raise BadDataError(message) from error
    except Exception as error:  # NumPy's reader of headers lets all kinds of errors through
        message = f"{name}: an array cannot be read (Python objects are never loaded): {error}"
        raise BadDataError(message) from error
    strangers = sorted(key for key, array in found.items() if not isinstance(array, np.ndarray))
    if strangers:
        message = f"{name}: {', '.join(strangers)} is no NumPy array; write the file with numpy.savez"
        raise BadDataError(message)
    return found


def _unpacked_bytes(name: str, stream: BinaryIO) -> int:
    """Return what the archive says that its files take, which is the most that will be read of them."""
    try:
        with zipfile.ZipFile(stream) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        message = f"{name}: not an Npz file (a zip archive of NumPy arrays), or damaged: {error}"
        raise BadDataError(message) from error
    stream.seek(0)
    return total


def samples(
    path: Path,
    inputs: Sequence[TensorFacts],
    outputs: Sequence[TensorFacts],
    *,
    minimum: int = MIN_SAMPLES,
    max_bytes: int = MAX_BYTES,
) -> Samples:
    """Return the samples of an Npz file, checked against the model.

    Raises:
        BadDataError: A name, shape, dtype or label does not fit; the message names the array and what was expected.
    """
    arrays = read(path, max_bytes=max_bytes)
    labels = arrays.pop(LABELS, None)
    constants = {
        name.removeprefix(CONSTANT_PREFIX): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(CONSTANT_PREFIX)
    }
    wanted = {tensor.name: tensor for tensor in inputs}
    _check_names(path.name, set(arrays), set(constants), set(wanted))
    for name, array in arrays.items():
        _check_batch(path.name, wanted[name])
        _check_array(path.name, name, array, wanted[name], rows=True)
    for name, array in constants.items():
        _check_array(path.name, CONSTANT_PREFIX + name, array, wanted[name], rows=False)
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        counts[LABELS] = len(labels) if labels.ndim else 0
    if not arrays or len(set(counts.values())) != 1:
        message = f"{path.name}: the arrays must have the same number of samples, but have {counts or 'none'}"
        raise BadDataError(message)
    found = Samples(arrays, constants, labels)
    if len(found) < minimum:
        message = f"{path.name}: {len(found)} samples; at least {minimum} are needed to say anything"
        raise BadDataError(message)
    if labels is not None:
        _check_labels(path.name, found, labels, outputs[0])
    return found


def _check_names(file: str, arrays: set[str], constants: set[str], wanted: set[str]) -> None:
    missing = sorted(wanted - arrays - constants)
    if missing:
        message = (
            f"{file}: no array for the model's input {', '.join(missing)}; the file has {sorted(arrays | constants)}"
        )
        raise BadDataError(message)
    extra = sorted((arrays | constants) - wanted)
    if extra:
        message = f"{file}: the array {', '.join(extra)} is no input of the model; its inputs are {sorted(wanted)}"
        raise BadDataError(message)
    both = sorted(arrays & constants)
    if both:
        message = f"{file}: {', '.join(both)} is there twice, as samples and under {CONSTANT_PREFIX}"
        raise BadDataError(message)


def _check_batch(file: str, tensor: TensorFacts) -> None:
    """Refuse samples for an input that does not take them one by one."""
    if not tensor.shape or tensor.shape[0] not in {-1, 1}:
        message = (
            f"{file}: the model's input {tensor.name!r} has the shape {tensor.shape}, but samples are run one at a "
            f"time: export the model with a first dimension of 1 or a free one, or give the input as {CONSTANT_PREFIX}"
            f"{tensor.name} when it is the same for all samples"
        )
        raise BadDataError(message)


def _check_array(file: str, name: str, array: Array, tensor: TensorFacts, *, rows: bool) -> None:
    wanted = np.dtype(DTYPES[tensor.dtype])
    if array.dtype != wanted:
        message = f"{file}: the array {name!r} has dtype {array.dtype}, but the model wants {wanted}"
        raise BadDataError(message)
    expected = [-1, *tensor.shape[1:]] if rows else tensor.shape
    fits = array.ndim == len(expected) and all(
        want in {-1, have} for want, have in zip(expected, array.shape, strict=True)
    )
    if not fits:
        words = ["N", *map(str, expected[1:])] if rows else [str(size) for size in expected]
        message = f"{file}: the array {name!r} has shape {list(array.shape)}, but [{', '.join(words)}] is expected"
        raise BadDataError(message)
    _check_finite(file, name, array)


def _check_finite(file: str, name: str, array: Array) -> None:
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        message = f"{file}: the array {name!r} has values that are not finite (NaN or infinity)"
        raise BadDataError(message)


def _check_labels(file: str, found: Samples, labels: Array, output: TensorFacts) -> None:
    if found.class_ids:
        _check_class_ids(file, labels, output)
        return
    if not np.issubdtype(labels.dtype, np.floating):
        message = (
            f"{file}: the labels have dtype {labels.dtype} and shape {list(labels.shape)}; they must be class ids "
            "(integers [N]) or targets shaped like the output"
        )
        raise BadDataError(message)
    expected = output.shape[1:]
    fits = labels.ndim == len(output.shape) and all(
        want in {-1, have} for want, have in zip(expected, labels.shape[1:], strict=True)
    )
    if not fits:
        words = ", ".join(["N", *map(str, expected)])
        message = (
            f"{file}: the labels have shape {list(labels.shape)}, but the model's output {output.name!r} has "
            f"[{words}]; class ids are integers [N]"
        )
        raise BadDataError(message)
    _check_finite(file, LABELS, labels)


def _check_class_ids(file: str, labels: Array, output: TensorFacts) -> None:
    rank = len(output.shape)
    if rank > 2 or (rank == 2 and output.shape[1] == 1):  # noqa: PLR2004 - [N, classes]
        message = (
            f"{file}: the labels are class ids, but the model's output {output.name!r} has the shape {output.shape}: "
            "class ids need an output [N, classes] with a score for each class, or [N] with the class itself"
        )
        raise BadDataError(message)
    classes = output.shape[1] if rank > 1 else -1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or 0 < classes <= high:
        bound = f"{classes} classes, 0 to {classes - 1}" if classes > 0 else "classes from 0"
        message = f"{file}: the labels go from {low} to {high}, but the model's output {output.name!r} has {bound}"
        raise BadDataError(message)


def default_metric(evaluation: Samples) -> EvaluationMetric:
    """Return what accuracy means for the data when nobody says it."""
    if evaluation.labels is None:
        return EvaluationMetric.AGREEMENT
    return EvaluationMetric.ACCURACY if evaluation.class_ids else EvaluationMetric.MEAN_ABSOLUTE_ERROR


def check_metric(metric: EvaluationMetric, evaluation: Samples) -> None:
    """Refuse a metric that the model or the labels do not allow.

    Raises:
        BadDataError: With what the metric needs.
    """
    if metric is EvaluationMetric.PERPLEXITY:
        message = f"the metric {metric} is for language models, which are measured on text; this model takes tensors"
        raise BadDataError(message)
    needs_ids = metric in {EvaluationMetric.ACCURACY, EvaluationMetric.F1}
    needs_targets = metric in {EvaluationMetric.MEAN_ABSOLUTE_ERROR, EvaluationMetric.COSINE_SIMILARITY}
    if needs_ids and not evaluation.class_ids:
        message = f"the metric {metric} needs labels that are class ids: an array {LABELS!r} of integers [N]"
        raise BadDataError(message)
    if needs_targets and (evaluation.labels is None or evaluation.class_ids):
        message = f"the metric {metric} needs labels that are targets: an array {LABELS!r} shaped like the output"
        raise BadDataError(message)


def split(evaluation: Samples, most: int) -> tuple[Samples, Samples]:
    """Return parts for calibration and evaluation: at most `most` and a quarter for calibration, the same every time.

    With class ids each class gives its share.
    """
    random = np.random.default_rng(SEED)
    order = random.permutation(len(evaluation))
    if evaluation.class_ids and evaluation.labels is not None:
        # Deal the classes out in turn, so that any first part of the order has each class's share.
        ranks = np.empty(len(order))
        for label in np.unique(evaluation.labels):
            members = order[evaluation.labels[order] == label]
            ranks[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(ranks[order], kind="stable")]
    count = min(most, len(evaluation) // 4)
    return evaluation.part(np.sort(order[:count])), evaluation.part(np.sort(order[count:]))


def distribution(found: Samples) -> dict[str, int]:
    """Return how many samples each class has; empty when the labels are no class ids."""
    if not found.class_ids or found.labels is None:
        return {}
    ids, counts = np.unique(found.labels, return_counts=True)
    return {str(int(label)): int(count) for label, count in zip(ids, counts, strict=True)}
