"""One module a framework; each imports its framework only when its variant is served."""

from pathlib import Path

from skerry.api.artifact import VariantFacts
from skerry.api.types import Framework
from skerry.server.engines.base import Engine


def load(facts: VariantFacts, folder: Path, threads: int) -> Engine:
    """Load a variant with the framework that it was made for."""
    if facts.framework is Framework.OPENVINO:
        from skerry.server.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - heavy

        return OpenVinoEngine(facts, folder, threads)
    from skerry.server.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - heavy

    return OnnxRuntimeEngine(facts, folder, threads)
