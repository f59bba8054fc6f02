"""Apple's MLX: conversion and quantization by mlx-lm. It also runs on CPUs, slowly, for proof."""

import importlib.metadata
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx_lm import convert, load
from mlx_lm.generate import generate_step

from skerry.api.types import ModelFormat, Precision
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadDataError, BadModelError, OptimizationError
from skerry.optimizer.language import Generation, Surprise, Tokens, cost, cut, scored_tokens
from skerry.optimizer.language_source import CONFIG, read_json
from skerry.optimizer.model_view import view

_BITS: Final = {Precision.INT8: 8, Precision.INT6: 6, Precision.INT4: 4, Precision.INT3: 3}
_DEFAULT_GROUP: Final = "64"
_TOOLS: Final = ("mlx", "mlx-lm", "transformers")


class MlxSession:
    """A model in this process. MLX chooses its threads itself."""

    def __init__(self, folder: Path, device: str) -> None:
        mx.set_default_device(mx.Device(mx.DeviceType.cpu if device == "CPU" else mx.DeviceType.gpu))
        try:
            self._model, self._tokenizer = load(str(folder))[:2]
        except (ValueError, RuntimeError, KeyError) as error:
            message = f"MLX cannot load the model: {summary(error)}"
            raise BadModelError(message) from error
        context = read_json(folder / CONFIG).get("max_position_embeddings")
        self._context: int | None = context if isinstance(context, int) else None

    @property
    def pids(self) -> list[int]:
        """None: everything is in this process."""
        return []

    def _tokens(self, text: str) -> Tokens:
        return np.array(self._tokenizer.encode(text), np.int64)

    def generate(self, prompt: str, tokens: int) -> Generation:
        """Write so many tokens greedily, past any mark of the end.

        Raises:
            BadDataError: Prompt and tokens do not fit into the context.
        """
        given = self._tokens(prompt)
        if self._context is not None and len(given) + tokens > self._context:
            message = f"a prompt of {len(given)} and {tokens} new tokens do not fit into the context of {self._context}"
            raise BadDataError(message)
        started = first = time.perf_counter()
        written: list[int] = []
        for token, _ in generate_step(mx.array(given), self._model, max_tokens=tokens):
            if not written:
                first = time.perf_counter()
            written.append(int(token))
        ended = time.perf_counter()
        text = str(self._tokenizer.decode(written))
        return Generation(len(given), first - started, len(written) - 1, ended - first, text)

    def surprise(self, text: str, window: int) -> Surprise:
        """Score a text in windows of so many tokens.

        Raises:
            BadDataError: The text has fewer than two windows.
        """
        tokens = self._tokens(text)
        mark = self._tokenizer.bos_token_id
        beginning = mark if mark is not None and len(tokens) and int(tokens[0]) == mark else None
        windows = cut(tokens, window, beginning)
        return Surprise(np.array([cost(self._logits(row), row) for row in windows]), scored_tokens(window))

    def _logits(self, row: Tokens) -> Any:
        return np.array(self._model(mx.array(row[None]))[0].astype(mx.float32))

    def close(self) -> None:
        """Give the model back."""
        del self._model, self._tokenizer
        mx.clear_cache()


class Tool:
    """Conversion and quantization."""

    def prepare(self, source: Source, folder: Path) -> Source:
        """Return a folder with the source's data alone: mlx-lm loads Hugging Face folders as they are."""
        given = view(source.files, folder / "mlx")
        files = {file.name: file for file in given.iterdir()}
        return Source(given / CONFIG, ModelFormat.HUGGING_FACE, files, source.kind, given)

    def make(self, work: Work) -> Made:
        """Make a folder that mlx-lm loads.

        Raises:
            OptimizationError: It cannot be made.
        """
        source = view(work.source.files, work.folder.with_suffix(".source"))
        made = work.folder / "made"
        request = work.request
        quantized = request.precision in _BITS
        try:
            convert(
                str(source),
                mlx_path=str(made),
                quantize=quantized,
                q_bits=_BITS.get(request.precision),
                q_group_size=int(request.options.get("groupSize", _DEFAULT_GROUP)) if quantized else None,
                dtype=None if quantized else "float16",
            )
        except ValueError as error:
            message = f"mlx-lm cannot convert the model: {summary(error)}"
            raise OptimizationError(message) from error
        finally:
            shutil.rmtree(source)
        for file in made.iterdir():
            file.rename(work.folder / file.name)
        made.rmdir()
        tools = {name: importlib.metadata.version(name) for name in _TOOLS}
        return Made(CONFIG, {}, request.precision.value, tools)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> MlxSession:  # noqa: ARG002
        """Load a folder, given its configuration's file.

        Raises:
            BadModelError: mlx-lm refuses it.
        """
        return MlxSession(model.parent, device)
