"""A language model in llama-server, which runs as a process of its own beside this one."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from skerry.optimizer.errors import BadDataError, BadModelError, OptimizationError, death
from skerry.optimizer.gguf_header import read_gguf
from skerry.optimizer.language import Generation, Surprise, require_windows, scored_tokens
from skerry.optimizer.programs import leash, run, tail

CONTEXT: Final = "contextTokens"
WAIT_POLICY: Final = "OMP_WAIT_POLICY"
SETTINGS: Final[Mapping[str, str]] = {WAIT_POLICY: "passive"}
"""Threads that wait for others do not spin. Measured beside other work on 2 cores, spinning takes ten times as long."""

_DEFAULT_CONTEXT: Final = 4096
_START_SECONDS: Final = 600.0
_ANSWER_SECONDS: Final = 1800.0
_POLL_SECONDS: Final = 0.01
_END_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3
"""llama.cpp's programs write by a thread of its own, and sometimes end before the last lines are out."""

_SOCKET: Final = "llama.sock"
_CHUNKS: Final = re.compile(r"\[(\d+)\](-?(?:[\d.]+(?:e[+-]?\d+)?|nan|inf)),")


def running_perplexities(output: str) -> dict[int, float]:
    """Return what llama-perplexity prints while it goes: the perplexity after each window, by the window's number."""
    return {int(index): float(value) for index, value in _CHUNKS.findall(output)}


def window_costs(running: Mapping[int, float], window: int, count: int) -> Surprise:
    """Return what each window cost, from the running perplexities.

    They have four decimals: the cost of a window is right to about a ten-thousandth of all before it, their sum to a
    millionth.

    Args:
        running: Perplexity after each window.
        window: Tokens of each window.
        count: Windows that there must be.

    Raises:
        OptimizationError: Some are missing.
    """
    if sorted(running) != list(range(1, count + 1)):
        message = f"llama-perplexity told the perplexities of {len(running)} windows; there are {count}"
        raise OptimizationError(message)
    tokens = scored_tokens(window)
    totals = [tokens * index * log(running[index]) for index in sorted(running)]
    return Surprise(np.diff(np.array([0.0, *totals])), tokens)


def context_tokens(model: Path, settings: Mapping[str, str]) -> int:
    """Return how many tokens prompt and answer may have together: what the settings say, else as the model is made."""
    if CONTEXT in settings:
        return int(settings[CONTEXT])
    facts = read_gguf(model)
    made_for = facts.number(f"{facts.text('general.architecture')}.context_length") or _DEFAULT_CONTEXT
    return min(made_for, _DEFAULT_CONTEXT)


class LlamaServer:
    """A session of llama-server on a socket in a folder that only this process knows.

    Args:
        model: GGUF file.
        settings: `contextTokens`, and OMP_WAIT_POLICY for its process.
        threads: Threads that compute.
    """

    def __init__(self, model: Path, settings: Mapping[str, str], threads: int) -> None:
        self._model = model
        self._threads = threads
        self._folder = Path(tempfile.mkdtemp(prefix="llama-"))
        self._log = self._folder / "log"
        context = context_tokens(model, settings)
        self._process = self._start(context, settings.get(WAIT_POLICY, SETTINGS[WAIT_POLICY]))
        # Names of sockets may have 107 bytes only, and the work folder's path is not ours to choose.
        self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        socket = f"/proc/self/fd/{self._descriptor}/{_SOCKET}"
        transport = httpx.HTTPTransport(uds=socket)
        self._client = httpx.Client(transport=transport, base_url="http://llama", timeout=_ANSWER_SECONDS)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _start(self, context: int, wait_policy: str) -> subprocess.Popen[bytes]:
        words = [*leash(), "llama-server", "--model", os.fspath(self._model.resolve()), "--host", _SOCKET]
        words += ["--ctx-size", str(context), "--parallel", "1", "--threads", str(self._threads)]
        words += ["--threads-batch", str(self._threads), "--no-webui", "--offline", "--cache-ram", "0"]
        words += ["--threads-http", "1", "--fit", "off"]
        with self._log.open("wb") as log_file:
            return subprocess.Popen(  # noqa: S603 - our own words
                words,
                cwd=self._folder,
                stdout=log_file,
                stderr=log_file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, WAIT_POLICY: wait_policy},
            )

    def _wait(self) -> None:
        """Wait until the model is loaded.

        Raises:
            BadModelError: llama-server refuses it.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                what = f"loading {self._model.name}"
                if code < 0:
                    raise death(what, code)
                said = tail(self._log.read_text(encoding="utf-8", errors="replace"))
                message = f"llama-server cannot load {self._model.name}: {said}"
                raise BadModelError(message)
            with contextlib.suppress(httpx.TransportError):
                if self._client.get("/health").is_success:
                    return
            time.sleep(_POLL_SECONDS)
        message = f"llama-server has not loaded {self._model.name} after {_START_SECONDS:.0f} s"
        raise OptimizationError(message)

    @property
    def pids(self) -> list[int]:
        """The server's process."""
        return [self._process.pid]

    def generate(self, prompt: str, tokens: int) -> Generation:
        """Write so many tokens greedily, past any mark of the end.

        Raises:
            BadDataError: Prompt and tokens do not fit into the context.
        """
        answer = self._ask(
            "/completion",
            {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False},
        )
        times = answer["timings"]
        if times["predicted_n"] < tokens:
            message = (
                f"the model wrote {times['predicted_n']} of {tokens} tokens: they and the prompt's "
                f"{times['prompt_n']} do not fit into its context; ask for fewer, or set {CONTEXT}"
            )
            raise BadDataError(message)
        return Generation(
            prompt_tokens=times["prompt_n"],
            prompt_seconds=times["prompt_ms"] / 1000.0,
            generated=times["predicted_n"] - 1,
            generate_seconds=times["predicted_ms"] / 1000.0,
            text=answer["content"],
        )

    def _ask(self, path: str, question: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.post(path, json=dict(question))
        except httpx.TransportError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            what = "generating text"
            raise death(what, self._process.returncode) from error
        if answer.is_error:
            said = answer.json().get("error", {}).get("message", answer.text)
            message = f"llama-server refused the request: {said}"
            raise BadDataError(message) if answer.is_client_error else OptimizationError(message)
        return answer.json()

    def surprise(self, text: str, window: int) -> Surprise:
        """Score a text in windows of so many tokens, by llama-perplexity.

        Raises:
            BadDataError: The text has fewer than two windows.
        """
        tokens = len(self._ask("/tokenize", {"content": text, "add_special": True})["tokens"])
        require_windows(tokens // window, tokens, window)
        file = self._folder / "text"
        file.write_text(text, encoding="utf-8")
        threads, running, count = str(self._threads), dict[int, float](), tokens // window
        for _ in range(_ATTEMPTS):
            output = run(
                "measuring perplexity",
                *("llama-perplexity", "--model", self._model, "--file", file, "--ctx-size", str(window)),
                *("--threads", threads, "--threads-batch", threads, "--offline"),
                environment=SETTINGS,
            )
            running |= running_perplexities(output)
            if len(running) == count:
                break
        return window_costs(running, window, count)

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._client.close()
        os.close(self._descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)
