"""Finding the model among the files that were fetched, and its format by its content."""

from pathlib import Path
from typing import Final

from skerry.api.types import ModelFormat
from skerry.optimizer.errors import BadModelError, UnsupportedFormatError
from skerry.optimizer.keras_archive import HDF5_MAGIC, SAVE_ANEW

SUPPORTED: Final = "ONNX (.onnx), OpenVINO IR (.xml with .bin) and TFLite (.tflite)"
_HEAD_BYTES: Final = 512
_SHOWN_FILES: Final = 10
_TFLITE_MAGIC: Final = b"TFL3"
_TFLITE_MAGIC_AT: Final = 4
_NETWORKS: Final = frozenset({ModelFormat.ONNX, ModelFormat.OPENVINO, ModelFormat.TFLITE})
_MAIN_SUFFIXES: Final = frozenset({".onnx", ".xml", ".tflite"})
_WEIGHTS: Final = frozenset({".safetensors", ".gguf"})
_OTHER_FORMATS: Final = (
    (0, b"GGUF", "GGUF"),
    (8, b'{"', "SafeTensors"),
    (0, b"PK\x03\x04", "a zip archive, as PyTorch and NumPy write them"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x80\x02", "a Python pickle, as PyTorch writes them"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
)
_SAVED_MODEL: Final = "saved_model.pb"
_NO_MODELS: Final = (
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    (b"<!doctype html", "an HTML page: the address answers with a page, not with the file"),
    (b"<html", "an HTML page: the address answers with a page, not with the file"),
)


def is_network(path: Path, stated: ModelFormat) -> bool:
    """Tell whether a source is an ONNX, OpenVINO or TFLite model, as the spec says or the files of the folder show."""
    if stated is not ModelFormat.AUTO:
        return stated in _NETWORKS
    if path.is_file():
        return path.suffix in _MAIN_SUFFIXES
    suffixes = [file.suffix for file in path.rglob("*") if file.is_file()]
    return sum(suffix in _MAIN_SUFFIXES for suffix in suffixes) == 1 and not _WEIGHTS.intersection(suffixes)


def locate(path: Path, wanted: ModelFormat) -> tuple[Path, ModelFormat]:
    """Return the model's main file and its format.

    Raises:
        UnsupportedFormatError: It is of another format.
        BadModelError: There is no model, or more than one.
    """
    main = path if path.is_file() else _main_file(path)
    found = _format_of(main)
    if wanted is not ModelFormat.AUTO and wanted is not found:
        message = f"the spec says format {wanted}, but {main.name} is {found}"
        raise BadModelError(message)
    return main, found


def _main_file(folder: Path) -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    mains = [file for file in files if file.suffix in _MAIN_SUFFIXES]
    if len(mains) == 1:
        return mains[0]
    if len(files) == 1:
        return files[0]
    if any(file.name == _SAVED_MODEL for file in files):
        message = f"the folder is a SavedModel of TensorFlow, which can hold code and is never loaded: {SAVE_ANEW}"
        raise UnsupportedFormatError(message)
    shown = mains or files
    names = ", ".join(file.relative_to(folder).as_posix() for file in shown[:_SHOWN_FILES])
    more = f" and {len(shown) - _SHOWN_FILES} more" if len(shown) > _SHOWN_FILES else ""
    held = f"{names or 'nothing'}{more}"
    message = f"the folder must hold one model file (.onnx, .tflite, or .xml with .bin), but holds {held}"
    raise BadModelError(message)


def _format_of(path: Path) -> ModelFormat:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        message = f"{path.name} is empty"
        raise BadModelError(message)
    for start, name in _NO_MODELS:
        if head.lstrip().lower().startswith(start):
            message = f"{path.name} is {name}"
            raise BadModelError(message)
    if head[_TFLITE_MAGIC_AT:].startswith(_TFLITE_MAGIC):
        return ModelFormat.TFLITE
    if head.startswith(HDF5_MAGIC):
        message = f"{path.name} looks like Keras (HDF5), which can hold code and is never loaded: {SAVE_ANEW}"
        raise UnsupportedFormatError(message)
    for offset, magic, name in _OTHER_FORMATS:
        if head[offset : offset + len(magic)] == magic:
            message = f"{path.name} looks like {name}; the formats supported now are {SUPPORTED}"
            raise UnsupportedFormatError(message)
    if path.suffix == ".xml" or head.lstrip().startswith((b"<?xml", b"<net")):
        return ModelFormat.OPENVINO
    return ModelFormat.ONNX
