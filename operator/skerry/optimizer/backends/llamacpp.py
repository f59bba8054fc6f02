"""llama.cpp: GGUF files of all its types from Hugging Face folders and from other GGUF files."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from skerry.api.types import ModelFormat, Precision, Technique
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.backends.llama_server import SETTINGS, LlamaServer
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.language_source import QUANTIZED, LanguageFacts, check_architecture, read_language_model
from skerry.optimizer.model_view import stamp, view
from skerry.optimizer.programs import ProgramError, run

MODEL_FILE: Final = "model.gguf"
TYPE: Final = "type"
_DEFAULT_TYPES: Final = {
    (Precision.FP32, Technique.CONVERSION): "F32",
    (Precision.FP16, Technique.CONVERSION): "F16",
    (Precision.INT8, Technique.WEIGHTS_ONLY): "Q8_0",
    (Precision.INT6, Technique.WEIGHTS_ONLY): "Q6_K",
    (Precision.INT5, Technique.WEIGHTS_ONLY): "Q5_K_M",
    (Precision.INT4, Technique.WEIGHTS_ONLY): "Q4_K_M",
    (Precision.INT4, Technique.IMPORTANCE_MATRIX): "IQ4_XS",
    (Precision.INT3, Technique.IMPORTANCE_MATRIX): "IQ3_S",
}
_LOSSLESS: Final = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""The type of GGUF files that keeps weights of a type as they are."""

_MATRIX_CONTEXT: Final = 512
_SAMPLE_CHARACTERS: Final = 20_000
_UNKNOWN_TOKENIZER: Final = "BPE pre-tokenizer was not recognized"
_CONVERTER: Final = (sys.executable, "-m", "skerry.optimizer.backends.gguf_convert")


@cache
def version() -> str:
    """Return llama.cpp's version, for example 0.7.0+b11669."""
    found = re.search(r"version:\s*(\S+)(?: \(build (\d+))?", run("asking its version", "llama-server", "--version"))
    return "unknown" if found is None else f"{found[1]}+b{found[2]}" if found[2] else found[1]


@cache
def architectures() -> Mapping[ModelFormat, frozenset[str]]:
    """Return the architectures that this llama.cpp knows, as each format names them."""
    from gguf import MODEL_ARCH_NAMES  # noqa: PLC0415 - only where llama.cpp is

    listed = run("asking llama.cpp what it converts", *_CONVERTER, "--print-supported-models")
    return {
        ModelFormat.GGUF: frozenset(MODEL_ARCH_NAMES.values()),
        ModelFormat.HUGGING_FACE: frozenset(re.findall(r"^\s*- (\S+)$", listed, re.MULTILINE)),
    }


def inspect(path: Path) -> LanguageFacts:
    """Return what a model says of itself, having asked llama.cpp whether it knows its architecture.

    Raises:
        UnsupportedFormatError: llama.cpp does not know it.
        BadModelError: It is damaged or lacks something.
    """
    facts = read_language_model(path)
    check_architecture(facts, "llama.cpp", architectures()[facts.format])
    return facts


class Tool:
    """Conversion and quantization."""

    def prepare(self, source: Source, folder: Path) -> Source:
        """Return the source as a GGUF file that has lost nothing: itself, or a conversion into the folder.

        Raises:
            BadModelError: It cannot be converted.
        """
        if source.format is ModelFormat.GGUF:
            return source
        facts = inspect(source.path.parent)
        target = folder / f"{stamp(facts.files)}.gguf"
        if not target.exists():
            _convert(facts, target)
        return Source(target, ModelFormat.GGUF, {target.name: target}, source.kind)

    def make(self, work: Work) -> Made:
        """Make a GGUF file.

        Raises:
            OptimizationError: It cannot be made.
        """
        shared = work.folder.parent / "llamacpp"
        shared.mkdir(exist_ok=True)
        base = self.prepare(work.prepared or work.source, shared)
        dtype, wanted, target = read_language_model(base.path).dtype, gguf_type(work), work.folder / MODEL_FILE
        remarks = [_compare_tokens(base.path, work)]
        if wanted == dtype and len(base.files) == 1:
            shutil.copyfile(base.path, target)
        else:
            given: list[str | Path] = []
            if work.request.technique is Technique.IMPORTANCE_MATRIX:
                given += ["--imatrix", _importance(base.path, work.text, shared)]
            if dtype == QUANTIZED:
                given.append("--allow-requantize")
                remarks.append("made from weights that had been quantized before")
            run(f"quantizing to {wanted}", "llama-quantize", *given, base.path, target, wanted)
        remark = "; ".join(filter(None, remarks))
        return Made(MODEL_FILE, dict(SETTINGS), work.request.precision.value, {"llama.cpp": version()}, remark)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> LlamaServer:
        """Load a GGUF file.

        Raises:
            ConfigurationError: The device is not the CPU.
            BadModelError: llama.cpp refuses it.
        """
        if device != "CPU":
            message = f"this build of llama.cpp runs on the CPU only, not on {device!r}"
            raise ConfigurationError(message)
        return LlamaServer(model, settings, threads)


def gguf_type(work: Work) -> str:
    """Return the type of GGUF file that a candidate is, in the words of llama-quantize."""
    request = work.request
    return request.options.get(TYPE, _DEFAULT_TYPES[request.precision, request.technique])


def _convert(facts: LanguageFacts, target: Path) -> None:
    """Convert a Hugging Face folder; the file is there when it is whole.

    Raises:
        BadModelError: llama.cpp cannot convert it.
    """
    part = target.with_suffix(".part")
    folder = view(facts.files, target.with_suffix(".source"))
    kind = _LOSSLESS.get(facts.dtype, "bf16")
    try:
        run("converting to GGUF", *_CONVERTER, folder, "--outfile", part, "--outtype", kind)
    except ProgramError as error:
        message = str(error)
        if _UNKNOWN_TOKENIZER in error.output:
            message = (
                "llama.cpp has no tokenizer that cuts text into words as this model's does (pre_tokenizer in "
                "tokenizer.json); other frameworks may run the model"
            )
        raise BadModelError(message) from error
    finally:
        shutil.rmtree(folder)
    part.rename(target)


def _importance(base: Path, text: Path | None, shared: Path) -> Path:
    """Return the importance matrix of the calibration text, made once for all candidates.

    Raises:
        ConfigurationError: There is no text.
    """
    if text is None:
        message = "an importance matrix needs calibration text: give spec.calibration"
        raise ConfigurationError(message)
    path = shared / f"{stamp({'model': base, 'text': text})}.imatrix.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        context = min(read_language_model(base).context_tokens or _MATRIX_CONTEXT, _MATRIX_CONTEXT)
        run(
            "computing the importance matrix",
            *("llama-imatrix", "--model", base, "--file", text, "--output-file", part),
            *("--ctx-size", str(context), "--no-ppl", "--offline"),
            environment=SETTINGS,
        )
        part.rename(path)
    return path


def _compare_tokens(gguf: Path, work: Work) -> str:
    """Return what to remark when llama.cpp cuts text into other tokens than the model's own tokenizer does."""
    tokenizer, text = work.source.files.get("tokenizer.json"), work.text
    if tokenizer is None or text is None:
        return ""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only where llama.cpp is

    sample = text.read_text(encoding="utf-8", errors="replace")[:_SAMPLE_CHARACTERS]
    file = work.folder / "sample.txt"
    file.write_text(sample, encoding="utf-8")
    words = ("llama-tokenize", "--model", gguf, "--file", file, "--ids", "--log-disable", "--no-parse-special")
    said = run("cutting text into tokens", *words).splitlines()
    found = json.loads(next((line for line in said if line.startswith("[")), "[]"))
    file.unlink()
    wanted = Tokenizer.from_file(os.fspath(tokenizer)).encode(sample).ids
    return "" if found == wanted else "llama.cpp cuts text into other tokens than the model's own tokenizer does"
