"""Language models are looked at before anything loads them: what they say, and what is wrong with them."""

import json
import struct
from pathlib import Path

import pytest

from skerry.api.types import ModelFormat
from skerry.optimizer.errors import BadModelError, UnsupportedFormatError
from skerry.optimizer.gguf_header import read_gguf
from skerry.optimizer.language_source import check_architecture, read_language_model
from skerry.optimizer.model_view import stamp, view
from skerry.optimizer.safetensors_header import read_safetensors
from tests.unit.optimizer import language_files as files


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    folder = files.folder(tmp_path / "model")
    (folder / "modeling_llama.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (folder / "consolidated.safetensors").write_bytes(b"")
    found = read_language_model(folder)
    assert found.format is ModelFormat.HUGGING_FACE
    assert (found.architecture, found.parameters, found.dtype) == ("LlamaForCausalLM", 300 * 8 + 8, "F32")
    assert (found.context_tokens, found.vocabulary) == (256, 300)
    assert sorted(found.files) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_the_facts_of_models_that_also_see_are_those_of_their_text_part(tmp_path: Path) -> None:
    inner = {"vocab_size": 7, "n_positions": 99}
    found = read_language_model(files.folder(tmp_path / "m", {"architectures": ["X"], "text_config": inner}))
    assert (found.vocabulary, found.context_tokens) == (7, 99)


def test_shards_are_read_as_one_model(tmp_path: Path) -> None:
    folder = files.folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"embed": "model-00001-of-00001.safetensors"}}))
    assert read_language_model(folder).parameters == 2408
    index.write_text(json.dumps({"weight_map": {"embed": "../../etc/passwd", "norm": "b.safetensors"}}))
    with pytest.raises(BadModelError, match=r"index\.json lists \.\./\.\./etc/passwd, b\.safetensors, which"):
        read_language_model(folder)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "tokenizer.json",
            r"has no tokenizer: it needs tokenizer\.json, or tokenizer\.model, or vocab\.json",
        ),
        ("config.json", r"no config\.json: push the whole folder"),
        ("model.safetensors", r"neither model\.safetensors nor model\.safetensors\.index\.json"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, told: str) -> None:
    folder = files.folder(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(BadModelError, match=told):
        read_language_model(folder)


def test_pickles_are_not_read_and_the_message_tells_the_way_out(tmp_path: Path) -> None:
    folder = files.folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(BadModelError, match=r"pytorch_model\.bin\).*never loaded.*safe_serialization=True"):
        read_language_model(folder)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("{", r"config\.json is not valid JSON"),
        ("[]", r"config\.json is no JSON object"),
        ("[" * 100_000, r"config\.json is not valid JSON"),
        ('{"vocab_size": 3}', "names no architecture"),
        ('{"architectures": ["X"]}', "vocab_size is None"),
        ('{"architectures": ["X"], "vocab_size": -1}', "vocab_size is -1"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path: Path, config: str, told: str) -> None:
    folder = files.folder(tmp_path / "model")
    (folder / "config.json").write_text(config)
    with pytest.raises(BadModelError, match=told):
        read_language_model(folder)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    folder = files.folder(tmp_path / "model")
    with pytest.raises(BadModelError, match="holds weights only: push the folder"):
        read_language_model(folder / "model.safetensors")


GOOD = files.entry("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("header", "body", "told"),
    [
        ({"a": GOOD}, b"1234567", "is cut off: its tensors have 8 bytes, and the file has 7"),
        ({"a": GOOD}, b"123456789", "has bytes that belong to no tensor"),
        ({"a": files.entry("F32", [3], 0, 8)}, bytes(8), "'a' contradicts itself"),
        ({"a": files.entry("F32", [-2], 0, 8)}, bytes(8), "'a' contradicts itself"),
        ({"a": files.entry("F32", [True, 2], 0, 8)}, bytes(8), "'a' contradicts itself"),
        ({"a": files.entry("OBJECT", [2], 0, 8)}, bytes(8), "'a' contradicts itself"),
        ({"a": files.entry("F32", [2], 8, 0)}, bytes(8), "'a' contradicts itself"),
        ({"a": {"dtype": "F32"}}, b"", "'a' contradicts itself"),
        ({"a": GOOD, "b": files.entry("F32", [2], 4, 12)}, bytes(12), "'b' begin at 4, where 8 is due"),
        ({"a": files.entry("F32", [2], 4, 12)}, bytes(12), "'a' begin at 4, where 0 is due"),
        ({"__metadata__": {}}, b"", "holds no tensors"),
        ([], b"", "no JSON object"),
        (b"{", b"", "not valid JSON"),
        (b"[" * 100_000, b"", "not valid JSON"),
        (b"\xff\xfe{}", b"", "not valid JSON"),
    ],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, header: object, body: bytes, told: str) -> None:
    with pytest.raises(BadModelError, match=told):
        read_safetensors(files.safetensors(tmp_path / "model.safetensors", header, body))


@pytest.mark.parametrize("length", [100, 1 << 40, (1 << 64) - 1])
def test_a_header_that_is_longer_than_the_file_is_not_even_asked_for(tmp_path: Path, length: int) -> None:
    with pytest.raises(BadModelError, match=f"its header should have {length} bytes, and the file has"):
        read_safetensors(files.safetensors(tmp_path / "model.safetensors", {"a": GOOD}, bytes(8), length))


def test_a_safetensors_file_of_every_length_but_its_own_is_refused(tmp_path: Path) -> None:
    whole = files.safetensors(tmp_path / "model.safetensors", {"a": GOOD}, bytes(8)).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(BadModelError):
            read_safetensors(cut)


def test_a_gguf_file_says_what_it_is(tmp_path: Path) -> None:
    tensors = [("w", (32, 2), files.F16, 128), ("norm", (32,), files.F32, 128)]
    found = read_language_model(files.gguf(tmp_path / "m.gguf", tensors=tensors))
    assert found.format is ModelFormat.GGUF
    assert (found.architecture, found.parameters, found.dtype) == ("llama", 96, "F16")
    assert (found.context_tokens, found.vocabulary) == (256, 3)
    quantized = files.gguf(tmp_path / "q.gguf", tensors=[("w", (32, 2), files.Q8_0, 68)])
    assert read_language_model(quantized).dtype == "Quantized"


def test_a_gguf_file_of_every_length_but_its_own_is_refused(tmp_path: Path) -> None:
    whole = files.gguf(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(BadModelError, match="is cut off"):
            read_gguf(cut)


def huge(kind: int, count: int) -> bytes:
    return files.text("x") + struct.pack("<I", files.ARRAY) + struct.pack("<IQ", kind, count)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ([struct.pack("<Q", 1 << 60)], "the length of the name of a fact is .* may be 65535 at the most"),
        ([files.text("x") + struct.pack("<IQ", files.STRING, 1 << 60)], "the length of x is"),
        ([files.text("x") + struct.pack("<IQ", files.STRING, 1 << 20)], "is cut off: x takes 1048576 bytes"),
        ([huge(files.UINT64, 1 << 61)], "is cut off: x takes"),
        ([huge(files.STRING, 1 << 60)], "is cut off: x takes 9223372036854775808 bytes"),
        ([huge(files.ARRAY, 1)], "elements of type 9"),
        ([files.text("x") + struct.pack("<I", 77)], "x is of the unknown type 77"),
        ([*files.FACTS, files.FACTS[0]], r"the fact 'general\.architecture' is there twice"),
        ([*files.FACTS, files.fact("general.alignment", files.UINT32, 0)], "its alignment is 0"),
    ],
)
def test_a_hostile_gguf_file_is_refused(tmp_path: Path, facts: list[bytes], told: str) -> None:
    with pytest.raises(BadModelError, match=told):
        read_gguf(files.gguf(tmp_path / "m.gguf", facts=facts))


def test_numbers_beyond_reason_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0))
    with pytest.raises(BadModelError, match="the number of tensors is 1152921504606846976"):
        read_gguf(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60))
    with pytest.raises(BadModelError, match="the number of facts is"):
        read_gguf(path)
    files.gguf(path, tensors=[("w", (1,) * 5, files.F32, 4)])
    with pytest.raises(BadModelError, match="the tensor 'w' has 5 dimensions"):
        read_gguf(path)
    files.gguf(path, tensors=[("w", (1 << 40, 1 << 20), files.F32, 4)])
    with pytest.raises(BadModelError, match="the tensor 'w' ends at byte"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("version", "told"), [(1, "its version is 1"), (3 << 24, "made for big-endian machines"), (9, "its version is 9")]
)
def test_other_versions_are_told_apart(tmp_path: Path, version: int, told: str) -> None:
    with pytest.raises(BadModelError, match=told):
        read_gguf(files.gguf(tmp_path / "m.gguf", version=version))
    with pytest.raises(BadModelError, match="does not begin with GGUF"):
        read_gguf(files.gguf(tmp_path / "m.gguf", magic=b"GGML"))


def test_a_gguf_file_needs_a_tokenizer_and_an_architecture(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match=r"has no tokenizer \(tokenizer\.ggml\.model"):
        read_language_model(files.gguf(tmp_path / "m.gguf", facts=files.FACTS[:2]))
    with pytest.raises(BadModelError, match="does not say of which architecture"):
        read_language_model(files.gguf(tmp_path / "m.gguf", facts=files.FACTS[2:]))


def test_a_gguf_model_in_parts_is_read_as_one_and_misses_none(tmp_path: Path) -> None:
    first = files.gguf(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(BadModelError, match=r"is one of 2 files of a model; missing: m-00002-of-00002\.gguf"):
        read_language_model(tmp_path)
    files.gguf(tmp_path / "m-00002-of-00002.gguf", facts=[])
    found = read_language_model(first)
    assert found.parameters == 128
    assert list(found.files) == [first.name, "m-00002-of-00002.gguf"]


def test_an_unknown_architecture_is_told_with_those_of_similar_names(tmp_path: Path) -> None:
    found = read_language_model(files.folder(tmp_path / "m", {**files.CONFIG, "architectures": ["Llama9ForCausalLM"]}))
    with pytest.raises(
        UnsupportedFormatError, match=r"llama\.cpp does not know the .* 'Llama9ForCausalLM'; of the 2 .*: Ll"
    ):
        check_architecture(found, "llama.cpp", {"LlamaForCausalLM", "GPT2LMHeadModel"})
    check_architecture(found, "llama.cpp", {"Llama9ForCausalLM"})


def test_tools_see_data_and_no_names_of_code(tmp_path: Path) -> None:
    config = {**files.CONFIG, "auto_map": {"AutoModel": "modeling.Evil"}, "model_file": "evil.py"}
    folder = files.folder(tmp_path / "model", config)
    (folder / "modeling.py").write_text("raise SystemExit")
    seen = view(read_language_model(folder).files, tmp_path / "view")
    assert sorted(path.name for path in seen.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert json.loads((seen / "config.json").read_text()) == files.CONFIG
    assert (seen / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_what_was_made_of_files_is_found_again_until_they_change(tmp_path: Path) -> None:
    found = read_language_model(files.folder(tmp_path / "model")).files
    before = stamp(found)
    assert stamp(found) == before
    (tmp_path / "model" / "tokenizer.json").write_text("{ }")
    assert stamp(found) != before
