"""`python -m skerry.server`: serve the variant that is mounted at a folder."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import uvicorn

from skerry.api.types import Framework
from skerry.server.app import App
from skerry.server.connections import Connections
from skerry.server.errors import ArtifactError, EngineError, ServerError
from skerry.server.facts import read_facts
from skerry.server.limits import Limits

BAD_ARTIFACT: Final = 65
BROKEN_ENGINE: Final = 70
BAD_CONFIGURATION: Final = 78
ENVIRONMENT: Final = "SKERRY_SERVER_"
_TERMINATION_LOG: Final = Path("/dev/termination-log")


class _Parser(argparse.ArgumentParser):
    """Takes what the command line leaves out from SKERRY_SERVER_<NAME>."""

    def option(self, flag: str, kind: Callable[[str], Any], default: object = None, *, text: str) -> None:
        variable = ENVIRONMENT + flag.removeprefix("--").replace("-", "_").upper()
        # An empty variable is one that was left out.
        value = os.environ.get(variable) or default
        self.add_argument(
            flag, type=kind, default=value, required=value is None, help=f"{text} ({variable}; default: {default})"
        )

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_CONFIGURATION, f"{self.prog}: {message}\n")


def positive(word: str) -> int:
    """Return a whole number above 0."""
    if not word.isdecimal() or int(word) == 0:
        message = f"{word!r} is not a whole number above 0"
        raise argparse.ArgumentTypeError(message)
    return int(word)


def whole(word: str) -> int:
    """Return a whole number."""
    if not word.isdecimal():
        message = f"{word!r} is not a whole number"
        raise argparse.ArgumentTypeError(message)
    return int(word)


def fallback(word: str) -> str:
    """Return Allow or Deny."""
    if word not in {"Allow", "Deny"}:
        message = f"{word!r} is neither Allow nor Deny"
        raise argparse.ArgumentTypeError(message)
    return word


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="skerry-server", description=__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.option("--model-dir", Path, text="folder with skerry.json and the model's files")
    parser.option("--model-name", str, text="name under which clients ask for the model")
    parser.option("--host", str, "0.0.0.0", text="address to listen on")  # noqa: S104 - a pod has its own
    parser.option("--port", positive, 8080, text="port to listen on")
    parser.option("--threads", positive, cores, text="threads of the model")
    parser.option("--max-body-bytes", positive, Limits.body_bytes, text="most bytes of a request, unpacked")
    parser.option("--max-json-bytes", positive, Limits.json_bytes, text="most bytes of JSON in a request")
    parser.option(
        "--max-batch", positive, Limits.batch, text="most samples of a request where the model leaves it free"
    )
    parser.option("--max-waiting", positive, Limits.waiting, text="most requests that wait for the model")
    parser.option("--context-tokens", whole, 0, text="most tokens of prompt and answer; 0: those measured with")
    parser.option("--slots", positive, 1, text="how many answers a language model writes at once")
    parser.option("--fallback", fallback, "Allow", text="Deny: not ready while another device executes the model")
    parser.option("--grace-seconds", positive, 20, text="for how long requests are finished at the end")
    return parser.parse_args(words)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End well: uvicorn raises the signal once more when it has finished what was in flight."""
    raise SystemExit(0)


def main(words: list[str] | None = None) -> int:
    """Serve until SIGTERM; return 0, 65 when the variant cannot be loaded, 70 when what executes it has ended."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _end)
    given = _arguments(words)
    limits = Limits(
        body_bytes=given.max_body_bytes,
        json_bytes=given.max_json_bytes,
        batch=given.max_batch,
        waiting=given.max_waiting,
    )
    try:
        app = _app(given, limits)
    except ArtifactError as error:
        _tell(error)
        return BAD_ARTIFACT
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        loop="uvloop",
        http=Connections(limits),  # type: ignore[arg-type] # uvicorn only calls it
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=given.grace_seconds,
    )
    server = uvicorn.Server(config)
    failures: list[ServerError] = []

    def fail(error: ServerError) -> None:
        failures.append(error)
        _tell(error)
        server.should_exit = True

    app.on_failure = fail
    server.run()
    if not failures:
        return 0
    return BROKEN_ENGINE if isinstance(failures[0], EngineError) else BAD_ARTIFACT


def _app(given: argparse.Namespace, limits: Limits) -> App:
    """Return the application for the kind of model that is mounted; an image has the modules of its kind only.

    Raises:
        ArtifactError: There is no variant.
    """
    facts = read_facts(given.model_dir)
    folder, name, threads, required = given.model_dir, given.model_name, given.threads, given.fallback == "Deny"
    if facts.framework is Framework.LLAMA_CPP:
        from skerry.server.language import LanguageApp  # noqa: PLC0415
        from skerry.server.llamacpp import LlamaServer  # noqa: PLC0415

        engine = LlamaServer(facts, folder, name, threads, given.slots, given.context_tokens)
        return LanguageApp(facts, engine, name, given.slots, limits, device_required=required)
    if facts.framework not in {Framework.OPENVINO, Framework.ONNX_RUNTIME, Framework.LITERT}:
        message = f"no server of Skerry runs variants of {facts.framework}"
        raise ArtifactError(message)
    from skerry.server.tensors import TensorApp  # noqa: PLC0415

    return TensorApp(folder, name, threads, limits, device_required=required)


def _tell(error: ServerError) -> None:
    """Say on standard error and to the kubelet why the server ends."""
    sys.stderr.write(f"{error}\n")
    if _TERMINATION_LOG.is_file():
        with contextlib.suppress(OSError):
            _TERMINATION_LOG.write_text(str(error), encoding="utf-8")


def run() -> NoReturn:
    """Run, and end without waiting for threads: a model may still be computing when the time of grace is over."""
    try:
        code: object = main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
