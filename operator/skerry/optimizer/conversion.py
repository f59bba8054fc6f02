"""Source models that become ONNX before anything else is done: encoders of Hugging Face, exports of torch, Keras.

What is untrusted is read as data only. Weights come as SafeTensors, or as tensors of an export, which torch loads
without running a pickle's code. The program of an export is JSON with names of functions and formulas in it, which
torch would look up and evaluate whatever they are: it is checked here, and only what is harmless reaches torch.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from skerry.accelerators.recipes import book
from skerry.api.types import ModelFormat
from skerry.optimizer import child
from skerry.optimizer.detect import is_network
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.keras_archive import SUFFIX, check_archive, is_archive
from skerry.optimizer.language_source import CONFIG, read_json
from skerry.optimizer.safetensors_header import read_safetensors
from skerry.optimizer.toolshed import Toolshed

ENCODERS: Final = frozenset(
    {
        *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("mobilebert", "mpnet", "nomic_bert", "roberta", "squeezebert", "xlm-roberta"),
    }
)
"""Values of `model_type` in config.json of encoders, which are optimized as any other network is."""

PROGRAM: Final = "serialized_exported_program.json"
_VERSION: Final = "version"
_MEMBERS: Final = frozenset(
    {PROGRAM, _VERSION, "serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"}
)
_MAX_CONFIG: Final = 1 << 20
_MAX_PROGRAM: Final = 256 << 20
_ATEN: Final = re.compile(r"torch\.ops\.aten\.\w+\.\w+")
_ARITHMETIC: Final = frozenset(
    f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem")
) | frozenset(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"))
_FORMULA: Final = re.compile(r"[\w\s+\-*/(),<>=]*")
_SYMBOL: Final = re.compile(r"[su]\d+")
_NAMED: Final = re.compile(r"Symbol\('([su]\d+)'(?:, [a-z]+=(?:True|False))*\)")
_FUNCTIONS: Final = frozenset(
    {
        *("Add", "Mul", "Pow", "Integer", "Rational"),
        *("Mod", "FloorDiv", "CleanDiv", "CeilToInt", "IntTrueDiv", "FloatTrueDiv", "PythonMod", "Max", "Min", "True"),
        *("False", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "int_oo", "oo"),
    }
)
_STRUCTURES: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_ODD: Final = "too little, or something twice"
_PICKLE_ADVICE: Final = "save the model with save_pretrained(…, safe_serialization=True) or export it to ONNX"


def wanted(path: Path, stated: ModelFormat) -> ModelFormat | None:
    """Return the format of a source that has to become ONNX first, or None.

    Args:
        path: The file or folder that was fetched.
        stated: The format that the spec says.

    Raises:
        UnsupportedFormatError: It is a model of an older Keras.
        BadModelError: It is an encoder without weights that can be loaded safely, or no archive of Keras though it is
            called so.
    """
    if is_network(path, stated):
        return None
    if (archive := _keras_archive(path, stated)) is not None:
        check_archive(archive)
        return ModelFormat.KERAS
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if len(files) == 1 and files[0].name != CONFIG:
            return wanted(files[0], stated)
        return ModelFormat.HUGGING_FACE if (path / CONFIG).is_file() and _is_encoder(path) else None
    exported = stated is ModelFormat.TORCH_EXPORT or path.suffix == ".pt2"
    return ModelFormat.TORCH_EXPORT if exported else None


def to_onnx(path: Path, stated: ModelFormat, tools: Toolshed, folder: Path) -> tuple[Path, ModelFormat]:
    """Return the model to work on and its format as stated: the source's own, or an ONNX model made of it.

    Raises:
        ConfigurationError: The tools that convert it are not here.
        BadModelError: It cannot be converted, or says something else afterwards.
    """
    found = wanted(path, stated)
    if found is None:
        return path, stated
    if stated not in {ModelFormat.AUTO, found}:
        message = f"the spec says format {stated}, but the source is {found}"
        raise BadModelError(message)
    converters = [tool for tool in book().tools.values() if found in tool.converts]
    here = next((tool for tool in converters if tool.tool in tools.places), None)
    if here is None:
        groups = ", ".join(tool.group for tool in converters)
        message = (
            f"{found} models are converted to ONNX by the tools of the group {groups}, which are not here: say "
            f"spec.source.format: {found}, so that its image joins, and give that image to the chart (or, without a "
            f"cluster, install skerry[optimizer-{groups}])"
        )
        raise ConfigurationError(message)
    from skerry.optimizer import keras_source, torch_source  # noqa: PLC0415 - nothing heavy, but they need this module

    what, place = f"converting the {found} model to ONNX", tools.places[here.tool]
    if found is ModelFormat.KERAS:
        return child.call(what, keras_source.convert, path, folder, place=place), ModelFormat.ONNX
    return child.call(what, torch_source.convert, path, found, folder, place=place), ModelFormat.ONNX


def _keras_archive(path: Path, stated: ModelFormat) -> Path | None:
    """Return the archive of Keras that a source is or holds, or what the spec says to be one."""
    if path.is_file():
        called = stated is ModelFormat.KERAS or path.suffix == SUFFIX
        return path if called or (stated is ModelFormat.AUTO and is_archive(path)) else None
    if stated not in {ModelFormat.AUTO, ModelFormat.KERAS}:
        return None
    files = [file for file in path.rglob("*") if file.is_file()]
    called_so = [file for file in files if file.suffix == SUFFIX]
    others = stated is ModelFormat.AUTO and any(file.suffix == ".safetensors" for file in files)
    return called_so[0] if len(called_so) == 1 and not others else None


def configuration(folder: Path) -> dict[str, Any]:
    """Return what a folder's config.json says.

    Raises:
        BadModelError: It is no JSON object, or larger than any configuration is.
    """
    return read_json(folder / CONFIG, _MAX_CONFIG)


def _is_encoder(folder: Path) -> bool:
    """Tell whether a folder holds an encoder, and make sure that its weights can be loaded.

    Raises:
        BadModelError: Its weights are a pickle, or are missing, or it needs code of its own.
    """
    document = configuration(folder)
    if str(document.get("model_type")) not in ENCODERS or document.get("is_decoder"):
        return False
    if "auto_map" in document:
        message = f"{CONFIG} names code that comes with the model (auto_map); such code is never run: export it to ONNX"
        raise BadModelError(message)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in {".bin", ".pt", ".pth"})
        has = f"only has {', '.join(pickles)}, a Python pickle, which is never loaded" if pickles else "has no weights"
        message = f"the folder {has}: {_PICKLE_ADVICE}"
        raise BadModelError(message)
    for file in weights:
        read_safetensors(file)
    return True


def clean_export(path: Path, target: Path) -> None:
    """Write a copy of an export of torch in which nothing is left that torch would run, look up or evaluate.

    Raises:
        BadModelError: It is none, or has such things in places where they count.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _check_members(path.name, names)
            if archive.getinfo(PROGRAM).file_size > _MAX_PROGRAM:
                message = f"{path.name}: its program has {archive.getinfo(PROGRAM).file_size} bytes, too many"
                raise BadModelError(message)
            program = json.loads(archive.read(PROGRAM))
            _check(path.name, program)
            with zipfile.ZipFile(target, "w") as copy:
                copy.writestr(PROGRAM, json.dumps(program))
                for name in sorted(_MEMBERS & set(names) - {PROGRAM}):
                    with archive.open(name) as source, copy.open(name, "w", force_zip64=True) as sink:
                        while block := source.read(1 << 20):
                            sink.write(block)
    except (zipfile.BadZipFile, ValueError, OSError, RecursionError, NotImplementedError) as error:
        message = f"{path.name} is no export of torch (torch.export.save), or is damaged: {error}"
        raise BadModelError(message) from error


def _check_members(file: str, names: list[str]) -> None:
    if PROGRAM in names and _VERSION in names and len(names) == len(set(names)) and set(names) <= _MEMBERS:
        return
    if any(name.endswith("data.pkl") for name in names):
        message = f"{file} is a Python pickle (torch.save), which is never loaded: export the model to ONNX"
    elif any("archive_format" in name or "/models/" in name for name in names):
        message = f"{file} is an export of a newer torch than 2.6, which this version does not read: export it to ONNX"
    else:
        strange = sorted(set(names) - _MEMBERS)[:3]
        message = f"{file} is no export of torch (torch.export.save): it holds {', '.join(strange) or _ODD}"
    raise BadModelError(message)


def _check(file: str, program: Any) -> None:
    """Check all that torch would look up or evaluate, and empty the notes on where a node came from.

    Raises:
        BadModelError: With what is not allowed.
    """
    for holder, key, value in _entries(program):
        trouble = None
        match key, value:
            case "metadata", dict():
                holder[key] = {}
            case (("target" | "as_operator"), str()) if value not in _ARITHMETIC and not _ATEN.fullmatch(value):
                trouble = f"calls {value[:80]}, which is no operator of ATen"
            case "expr_str", str() if not _harmless(value):
                trouble = f"has the formula {value[:80]}"
            case "range_constraints", dict() if not all(_SYMBOL.fullmatch(name) for name in value):
                trouble = "has bounds for something that is no symbol"
            case (("in_spec" | "out_spec"), str()) if not _plain(value):
                trouble = "takes or returns something other than tuples, lists and dictionaries"
            case "as_custom_obj", dict():
                trouble = "needs an object of a class of its own"
        if trouble is not None:
            message = f"{file} {trouble}; such exports are not loaded: export the model to ONNX"
            raise BadModelError(message)


def _entries(value: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield each entry of each object, however deep; what is emptied meanwhile is not entered."""
    if isinstance(value, dict):
        for key in list(value):
            # Parameters may be called like anything: their names are keys here, and their values no strings.
            yield value, key, value[key]
            yield from _entries(value[key])
    elif isinstance(value, list):
        for each in value:
            yield from _entries(each)


def _harmless(formula: str) -> bool:
    """Tell whether a formula has nothing but symbols, numbers and functions of numbers in it."""
    formula = _NAMED.sub(r"\1", formula)
    names = re.findall(r"[^\W\d]\w*", formula)
    known = all(_SYMBOL.fullmatch(name) or name in _FUNCTIONS for name in names)
    return known and _FORMULA.fullmatch(formula) is not None


def _plain(spec: str) -> bool:
    """Tell whether a description of nested arguments names builtin containers only."""
    try:
        kinds = [value for _, key, value in _entries(json.loads(spec)) if key == "type"]
    except (ValueError, RecursionError):
        return False
    return all(kind is None or kind in _STRUCTURES for kind in kinds)
