"""OpenVINO GenAI: language models as IR with their tokenizer, exported by optimum, compressed by NNCF."""

import importlib.metadata
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import nncf
import numpy as np
import openvino as ov

from skerry.api.types import ModelFormat, Precision
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadDataError, BadModelError
from skerry.optimizer.language import Generation, Surprise, Tokens, cost, cut, scored_tokens
from skerry.optimizer.language_source import CONFIG, read_json
from skerry.optimizer.model_view import stamp, view
from skerry.optimizer.programs import ProgramError, run

MODEL_FILE: Final = "openvino_model.xml"
WEIGHTS_FILE: Final = "openvino_model.bin"
PRECISION_HINT: Final = "INFERENCE_PRECISION_HINT"
_HALF_HINTS: Final = {"BF16": "bf16", "FP16": "f16"}
_TASK: Final = "text-generation-with-past"
_MODES: Final = {
    (Precision.INT8, "Asymmetric"): nncf.CompressWeightsMode.INT8_ASYM,
    (Precision.INT8, "Symmetric"): nncf.CompressWeightsMode.INT8_SYM,
    (Precision.INT4, "Asymmetric"): nncf.CompressWeightsMode.INT4_ASYM,
    (Precision.INT4, "Symmetric"): nncf.CompressWeightsMode.INT4_SYM,
}
_DEFAULT_GROUP: Final = "64"
_TOOLS: Final = ("openvino", "openvino-genai", "openvino-tokenizers", "nncf", "optimum-intel", "transformers")
_PERCENT: Final = 100.0
_MILLISECONDS: Final = 1000.0


class GenAiSession:
    """A pipeline of OpenVINO GenAI.

    Args:
        folder: Folder with the model, its tokenizer and its configuration.
        settings: Properties of the device.
        threads: Threads that compute.
        device: The device.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], threads: int, device: str) -> None:
        import openvino_genai as genai  # noqa: PLC0415 - heavy

        self._folder = folder
        self._device = device
        self._config: dict[str, Any] = {**settings}
        if device == "CPU":
            self._config["INFERENCE_NUM_THREADS"] = threads
        self._context = _context(folder)
        self._genai = genai
        try:
            self._pipeline = genai.LLMPipeline(str(folder), device, **self._config)
        except RuntimeError as error:
            message = f"OpenVINO GenAI cannot load the model: {summary(error)}"
            raise BadModelError(message) from error
        self._tokenizer = self._pipeline.get_tokenizer()

    @property
    def pids(self) -> list[int]:
        """None: everything is in this process."""
        return []

    def _tokens(self, text: str) -> Tokens:
        return np.array(self._tokenizer.encode(text).input_ids.data[0], np.int64)

    def generate(self, prompt: str, tokens: int) -> Generation:
        """Write so many tokens greedily, past any mark of the end.

        Raises:
            BadDataError: Prompt and tokens do not fit into the context.
        """
        length = len(self._tokens(prompt))
        if length + tokens > self._context:
            message = f"a prompt of {length} and {tokens} new tokens do not fit into the context of {self._context}"
            raise BadDataError(message)
        wanted = self._genai.GenerationConfig(
            max_new_tokens=tokens, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        answer = self._pipeline.generate([prompt], wanted)
        figures = answer.perf_metrics
        generated = figures.get_num_generated_tokens() - 1
        return Generation(
            prompt_tokens=figures.get_num_input_tokens(),
            prompt_seconds=figures.get_ttft().mean / _MILLISECONDS,
            generated=generated,
            generate_seconds=generated * figures.get_tpot().mean / _MILLISECONDS if generated else 0.0,
            text=answer.texts[0],
        )

    def surprise(self, text: str, window: int) -> Surprise:
        """Score a text in windows of so many tokens, with the model compiled once more for all of a window's scores.

        Raises:
            BadDataError: The text has fewer than two windows.
        """
        tokens = self._tokens(text)
        windows = cut(tokens, window, _beginning(self._tokenizer, tokens))
        compiled = ov.Core().compile_model(str(self._folder / MODEL_FILE), self._device, self._config)
        request = compiled.create_infer_request()
        names = {port.get_any_name() for port in compiled.inputs}
        given = {
            "attention_mask": np.ones((1, window), np.int64),
            "position_ids": np.arange(window, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        given = {name: value for name, value in given.items() if name in names}
        costs = np.empty(len(windows))
        for index, row in enumerate(windows):
            request.reset_state()
            request.infer({"input_ids": row[None], **given})
            costs[index] = cost(request.get_tensor("logits").data[0], row)
        return Surprise(costs, scored_tokens(window))

    def close(self) -> None:
        """Give the model back."""
        del self._pipeline, self._tokenizer


def _context(folder: Path) -> int:
    config = read_json(folder / CONFIG)
    inner = config.get("text_config")
    found = (inner if isinstance(inner, dict) else config).get("max_position_embeddings")
    return found if isinstance(found, int) else sys.maxsize


def _beginning(tokenizer: Any, tokens: Tokens) -> int | None:
    """Return the mark of the beginning, when the tokenizer puts it before a text."""
    mark = int(tokenizer.get_bos_token_id())
    return mark if len(tokens) and int(tokens[0]) == mark else None


class Tool:
    """Export and compression."""

    def prepare(self, source: Source, folder: Path) -> Source:
        """Return the source as IR that has lost nothing, exported into the folder.

        Raises:
            BadModelError: It cannot be exported.
        """
        made = _exported(source, folder)
        files = {file.name: file for file in made.iterdir()}
        return Source(made / MODEL_FILE, ModelFormat.OPENVINO, files, source.kind, made)

    def make(self, work: Work) -> Made:
        """Make a folder that OpenVINO GenAI loads.

        Raises:
            OptimizationError: It cannot be made.
        """
        base = _exported(work.source, work.folder.parent)
        for file in base.iterdir():
            if file.name not in {MODEL_FILE, WEIGHTS_FILE}:
                shutil.copyfile(file, work.folder / file.name)
        model = ov.Core().read_model(str(base / MODEL_FILE))
        if work.request.precision is not Precision.FP16:
            model = nncf.compress_weights(model, **_compression(work))
        ov.save_model(model, str(work.folder / MODEL_FILE), compress_to_fp16=True)
        execution = work.half_precision or "FP32"
        tools = {name: importlib.metadata.version(name) for name in _TOOLS}
        return Made(MODEL_FILE, {PRECISION_HINT: _HALF_HINTS.get(execution, "f32")}, execution, tools)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> GenAiSession:
        """Load a folder, given its model's file.

        Raises:
            BadModelError: OpenVINO refuses it.
        """
        return GenAiSession(model.parent, settings, threads, device)


def _compression(work: Work) -> dict[str, Any]:
    options, precision = work.request.options, work.request.precision
    found: dict[str, Any] = {"mode": _MODES[precision, options.get("mode", "Asymmetric")]}
    if precision is Precision.INT4:
        found["group_size"] = int(options.get("groupSize", _DEFAULT_GROUP))
        found["ratio"] = float(options.get("ratioPercent", "100")) / _PERCENT
    return found


def _exported(source: Source, folder: Path) -> Path:
    """Return the model as IR with the precision that its weights have; made once for all candidates.

    Raises:
        BadModelError: optimum cannot export it.
    """
    made = folder / f"openvino-genai-{stamp(source.files)}"
    if made.exists():
        return made
    part = made.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    given = view(source.files, made.with_suffix(".source"))
    try:
        run(
            "exporting to OpenVINO",
            *(sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", given),
            *("--task", _TASK, "--weight-format", "fp32", part),
        )
    except ProgramError as error:
        raise BadModelError(str(error)) from error
    finally:
        shutil.rmtree(given)
    part.rename(made)
    return made
