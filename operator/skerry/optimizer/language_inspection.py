"""Looking at a language model before anything is made of it."""

from pathlib import Path
from typing import Final

from skerry.api.types import Framework, ModelFacts, ModelFormat, ModelKind
from skerry.optimizer import child
from skerry.optimizer.backends import llamacpp
from skerry.optimizer.backends.base import Source
from skerry.optimizer.detect import is_network
from skerry.optimizer.errors import BadModelError
from skerry.optimizer.inspection import Inspected
from skerry.optimizer.language_source import CONFIG
from skerry.optimizer.toolshed import Toolshed

_GGUF_MAGIC: Final = b"GGUF"
_WEIGHTS: Final = ".safetensors"


def is_language_model(path: Path, stated: ModelFormat) -> bool:
    """Tell whether a source looks like a language model: a Hugging Face folder, SafeTensors, or GGUF.

    Exports for other runtimes lie in such folders as well, with the configuration of the model beside them.
    """
    if is_network(path, stated):
        return False
    if path.is_dir():
        return (path / CONFIG).is_file() or any(path.glob("*.gguf")) or any(path.glob(f"*{_WEIGHTS}"))
    with path.open("rb") as stream:
        return stream.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC or path.suffix == _WEIGHTS


def inspect(path: Path, stated: ModelFormat, tools: Toolshed) -> Inspected:
    """Return what a language model is, having asked its reference runtime whether it knows the architecture.

    Raises:
        BadModelError: It cannot be used; the message says why and what to do.
        ConfigurationError: Its reference runtime is not here.
    """
    place = tools.running(Framework.LLAMA_CPP)
    facts = child.call("inspecting the model", llamacpp.inspect, path, place=place)
    if stated not in {ModelFormat.AUTO, facts.format}:
        message = f"the spec says format {stated}, but {path.name} is {facts.format}"
        raise BadModelError(message)
    main = path / CONFIG if facts.format is ModelFormat.HUGGING_FACE else next(iter(facts.files.values()))
    source = Source(main, facts.format, facts.files, ModelKind.LANGUAGE, path if path.is_dir() else None)
    found = ModelFacts(
        format=facts.format,
        kind=ModelKind.LANGUAGE,
        size_bytes=source.size_bytes,
        parameters=facts.parameters,
        inputs=[],
        outputs=[],
    )
    return Inspected(found, source)
