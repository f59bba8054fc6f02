"""What of an archive of Keras is let through, judged without Keras. Loading and converting is tested where it is."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.api.types import ModelFormat
from skerry.optimizer import conversion, detect, keras_source
from skerry.optimizer.errors import BadModelError, ConfigurationError, UnsupportedFormatError
from skerry.optimizer.keras_archive import CLASSES, CONFIG, METADATA, WEIGHTS, check_archive, clean_archive
from skerry.optimizer.toolshed import Toolshed

SAVED = {"keras_version": "3.15.1", "date_saved": "2026-11-21@18:53:31"}
WEIGHT_BYTES = b"\x89HDF and then weights"
Described = dict[str, Any]


def described(name: str, module: Any = "keras.layers", **changes: Any) -> Described:
    """Return the description of an object, as Keras writes it."""
    return {"module": module, "class_name": name, "config": {}, "registered_name": None, **changes}


def sequence(*layers: Any, **changes: Any) -> Described:
    return described("Sequential", "keras", config={"name": "net", "layers": list(layers)}, **changes)


def archive(path: Path, config: Any = None, metadata: Any = SAVED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(METADATA, json.dumps(metadata))
        made.writestr(CONFIG, json.dumps(sequence(described("Dense")) if config is None else config))
        made.writestr(WEIGHTS, WEIGHT_BYTES)
        for name, content in members.items():
            made.writestr(name, content)
    return path


def cleaned(folder: Path, config: Described) -> Described:
    clean_archive(archive(folder / "a.keras", config), folder / "b.keras")
    with zipfile.ZipFile(folder / "b.keras") as copy:
        assert copy.namelist() == [METADATA, CONFIG, WEIGHTS]
        assert copy.read(WEIGHTS) == WEIGHT_BYTES
        found: Described = json.loads(copy.read(CONFIG))
        return found


def test_it_is_known_by_what_it_holds(tmp_path: Path) -> None:
    for name in ("model.keras", "model", "model.bin"):
        assert conversion.wanted(archive(tmp_path / name), ModelFormat.AUTO) is ModelFormat.KERAS
    assert conversion.wanted(archive(tmp_path / "model.zip"), ModelFormat.KERAS) is ModelFormat.KERAS
    folder = tmp_path / "folder"
    folder.mkdir()
    archive(folder / "model.keras")
    (folder / "labels.txt").write_text("0", encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert conversion.wanted(folder, ModelFormat.AUTO) is ModelFormat.KERAS
    (folder / "model.onnx").touch()
    assert conversion.wanted(folder, ModelFormat.AUTO) is None
    assert conversion.wanted(folder, ModelFormat.KERAS) is ModelFormat.KERAS


def test_the_archive_is_found_in_its_folder(tmp_path: Path) -> None:
    model = archive(tmp_path / "model")
    assert keras_source.archive_in(model) == model
    assert conversion.wanted(tmp_path, ModelFormat.AUTO) is ModelFormat.KERAS
    assert keras_source.archive_in(tmp_path) == model
    (tmp_path / "a.txt").touch()
    named = archive(tmp_path / "b.keras")
    assert keras_source.archive_in(tmp_path) == named


def test_other_archives_are_none_of_keras(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as made:
        made.writestr("x.npy", b"")
    assert conversion.wanted(tmp_path / "data.npz", ModelFormat.AUTO) is None


def test_without_its_tools_the_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"group olive, which are not here: say spec\.source\.format: Keras"):
        conversion.to_onnx(archive(tmp_path / "a.keras"), ModelFormat.AUTO, Toolshed({}), tmp_path / "out")


def test_a_format_that_contradicts(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="the spec says format TorchExport, but the source is Keras"):
        conversion.to_onnx(archive(tmp_path / "a.keras"), ModelFormat.TORCH_EXPORT, Toolshed({}), tmp_path / "out")


def test_what_only_training_needs_is_left_out(tmp_path: Path) -> None:
    half = described("DTypePolicy", "keras", config={"name": "mixed_float16"})
    dense = described("Dense", config={"name": "d", "dtype": half, "activation": "relu"}, build_config={"a": [None, 4]})
    inner = sequence(dense, compile_config={"loss": described("Mine", "mine")})
    found = cleaned(tmp_path, sequence(inner, compile_config={"optimizer": described("Adam", "keras.optimizers")}))
    assert "compile_config" not in found
    (inside,) = found["config"]["layers"]
    assert "compile_config" not in inside
    (layer,) = inside["config"]["layers"]
    assert layer["config"] == {
        "name": "d",
        "dtype": described("DTypePolicy", "keras", config={"name": "float32"}),
        "activation": "relu",
    }
    assert layer["build_config"] == {"a": [None, 4]}


@pytest.mark.parametrize(
    "harmless",
    [
        described("Functional", "keras.src.models.functional", registered_name="Functional"),
        described("Relu", "keras.src.ops.nn", registered_name="Relu"),
        described("function", "keras.activations", config="gelu", registered_name="gelu"),
        described("function", "builtins", config="relu", registered_name="function"),
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 8], "keras_history": ["image", 0, 0]}},
        described("LSTM", config={"cell": described("LSTMCell"), "seed": described("SeedGenerator", "keras.random")}),
    ],
    ids=lambda value: str(value["class_name"]),
)
def test_what_computes_is_let_through(tmp_path: Path, harmless: Described) -> None:
    assert cleaned(tmp_path, sequence(harmless))["config"]["layers"] == [harmless]


def evil(config: Any, **changes: Any) -> Described:
    return described("function", config=config, **changes)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (described("Lambda", config={"function": {"class_name": "__lambda__"}}), "has a Lambda layer, which is code"),
        (described("Dense", config={"activation": {"class_name": "__lambda__", "config": {}}}), "has a Lambda layer"),
        (described("Dense", registered_name="mine>Dense"), r"needs Dense of keras\.layers, registered as mine>Dense"),
        (described("Own", None, registered_name="mine>Own"), "needs Own of no module"),
        (described("Dense", None), "needs Dense of no module"),
        ({"class_name": "Dense", "config": {}}, "needs Dense of no module"),
        (described("Popen", "subprocess"), "needs Popen of subprocess: only layers that come with Keras are loaded"),
        (described("TFSMLayer"), "needs TFSMLayer"),
        (described("TorchModuleWrapper"), "needs TorchModuleWrapper"),
        (described("StringLookup", config={"vocabulary": "/etc/passwd"}), "needs StringLookup"),
        (described("Dense", "keras.src.layers.core.dense"), "needs Dense of keras.src"),
        (described("Dense", "keras_hub.layers"), "needs Dense of keras_hub"),
        (described("Map", "keras.src.ops.core"), "needs Map of keras.src"),
        (evil("load_model", module="keras.models"), r"needs load_model of keras\.models"),
        (evil("enable_unsafe_deserialization", module="keras.config"), "needs enable_unsafe_deserialization"),
        (evil("get_file", module="keras.utils"), "needs get_file"),
        (evil("system", module="os"), "needs system of os"),
        (evil("get", module="keras.activations"), "needs get of keras.activations"),
        (evil({"a": 1}, module="builtins"), "of builtins: only layers"),
        (evil("relu", module="mine"), "needs relu of mine"),
        (described("__numpy__", "mine"), "needs __numpy__ of mine"),
        (evil("relu", module="builtins", registered_name="mine>relu"), "registered as mine>relu"),
        (described("__typespec__", "tensorflow"), "needs __typespec__ of tensorflow"),
        ({"class_name": ["Dense"], "config": {}}, "only layers that come with Keras"),
        (described("Dense", ["keras.layers"]), "only layers that come with Keras"),
        (described("Dense", config=[1]), "only layers that come with Keras"),
        (described("Dense", config={"name": 'd"), exec("'}), "has a layer with a strange name"),
        ({**described("Dense"), "name": "../../etc"}, "has a layer with a strange name"),
        ({**described("Dense"), "name": 7}, "has a layer with a strange name"),
    ],
)
def test_what_may_do_more_than_compute(tmp_path: Path, layer: Described, told: str) -> None:
    wrapped = described("TimeDistributed", config={"deep": [{"er": layer}]})
    for config in (layer, sequence(layer), sequence(wrapped)):
        with pytest.raises(BadModelError, match=told):
            cleaned(tmp_path, config)


def test_the_list_holds_no_loader_of_files_or_code() -> None:
    known = set().union(*CLASSES.values())
    wary = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup"}
    assert not known & {*wary, "TextVectorization", "Hashing", "Map", "Cond", "Scan", "WhileLoop", "VectorizedMap"}


def truncated(path: Path) -> None:
    path.write_bytes(archive(path).read_bytes()[:200])


def half(path: Path) -> None:
    """Write an archive whose weights are broken, though its directory is whole."""
    content = archive(path).read_bytes()
    path.write_bytes(content.replace(WEIGHT_BYTES, WEIGHT_BYTES[::-1]))


def deep(path: Path) -> None:
    config = "[" * 100_000 + "]" * 100_000
    with zipfile.ZipFile(path, "w") as made:
        for name, content in ((METADATA, json.dumps(SAVED)), (CONFIG, config), (WEIGHTS, "")):
            made.writestr(name, content)


def bomb(path: Path, name: str = WEIGHTS) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for each in (METADATA, CONFIG, WEIGHTS):
            made.writestr(each, bytes(1 << 20) if each == name else json.dumps(SAVED))


def locked(path: Path) -> None:
    """Say of all members that they are encrypted."""
    content = bytearray(archive(path).read_bytes())
    for start, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(start)
        while place >= 0:
            struct.pack_into("<H", content, place + at, 1)
            place = content.find(start, place + 1)
    path.write_bytes(content)


def packed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as made:
        for name in (METADATA, CONFIG, WEIGHTS):
            made.writestr(name, json.dumps(SAVED))


def pickled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/data.pkl", b"\x80\x02")


def twice(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, **{CONFIG: b"{}"})


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (truncated, r"is no model of Keras \(model\.save\('model\.keras'\)\), or is damaged"),
        (lambda path: path.write_bytes(b""), "is no model of Keras"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "is no model of Keras"),
        (half, "is damaged: Bad CRC-32"),
        (deep, "is damaged: "),
        (bomb, r"model\.weights\.h5 would grow from \d+ to 1048576 bytes"),
        (lambda path: bomb(path, METADATA), r"metadata\.json has 1048576 bytes; at most 65536 are read"),
        (locked, "is encrypted or packed in a way that Keras does not use"),
        (packed, "is encrypted or packed in a way that Keras does not use"),
        (pickled, r"is a Python pickle \(torch\.save\), which is never loaded"),
        (twice, "holds something twice beside the model"),
        (
            lambda path: archive(path, **{"assets/vocabulary.txt": b""}),
            r"holds assets/vocabulary\.txt beside the model",
        ),
        (lambda path: archive(path, **{"../../escaped": b""}), r"holds \.\./\.\./escaped beside the model"),
        (lambda path: archive(path, ["no", "object"]), r"config\.json is no JSON object"),
        (lambda path: archive(path, metadata=[]), "does not say the version of Keras"),
        (lambda path: archive(path, metadata={"keras_version": 3}), "does not say the version of Keras"),
        (lambda path: archive(path, metadata={"keras_version": "three"}), "does not say the version of Keras"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, write: Callable[[Path], Any], told: str) -> None:
    write(tmp_path / "a.keras")
    with pytest.raises(BadModelError, match=told):
        clean_archive(tmp_path / "a.keras", tmp_path / "b.keras")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as made:
        made.writestr(METADATA, "{}")
        made.writestr("model.weights.npz", b"")
    with pytest.raises(BadModelError, match=r"it has no config\.json, model\.weights\.h5"):
        check_archive(tmp_path / "a.keras")


def test_older_ways_to_save_say_how_to_save(tmp_path: Path) -> None:
    advice = r"load it with Keras 3 where you trust it, and save it anew: model\.save\('model\.keras'\)"
    (tmp_path / "a.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnsupportedFormatError, match=rf"older format of Keras \(HDF5\), .*: {advice}"):
        conversion.wanted(tmp_path / "a.keras", ModelFormat.AUTO)
    (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnsupportedFormatError, match=rf"older format of Keras \(HDF5\), .*: {advice}"):
        conversion.wanted(tmp_path / "b.h5", ModelFormat.KERAS)
    with pytest.raises(UnsupportedFormatError, match=rf"b\.h5 looks like Keras \(HDF5\).*: {advice}"):
        detect.locate(tmp_path / "b.h5", ModelFormat.AUTO)
    archive(tmp_path / "c.keras", metadata={"keras_version": "2.15.0"})
    with pytest.raises(UnsupportedFormatError, match=rf"was saved by Keras 2\.15\.0, .*: {advice}"):
        conversion.wanted(tmp_path / "c.keras", ModelFormat.AUTO)
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "keras_metadata.pb", "variables/variables.index"):
        (tmp_path / "saved" / name).touch()
    with pytest.raises(UnsupportedFormatError, match=rf"is a SavedModel of TensorFlow, .*: {advice}"):
        detect.locate(tmp_path / "saved", ModelFormat.AUTO)
