"""One module a framework; each imports its framework only when its variant is served."""

import os
from pathlib import Path
from typing import Final

from skerry.api.artifact import VariantFacts
from skerry.api.types import Framework
from skerry.server.engines.base import Engine

# Both frameworks tell their makers of every start, and keep files for it in the home folder; not so at the edge.
_NO_TELEMETRY: Final = {"CI": "true", "ORT_DISABLE_TELEMETRY": "1"}


def load(facts: VariantFacts, folder: Path, threads: int) -> Engine:
    """Load a variant with the framework that it was made for, and keep that framework from reporting to its makers."""
    os.environ.update(_NO_TELEMETRY)
    if facts.framework is Framework.OPENVINO:
        from skerry.server.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - heavy

        return OpenVinoEngine(facts, folder, threads)
    if facts.framework is Framework.LITERT:
        from skerry.server.engines.litert import LiteRtEngine  # noqa: PLC0415 - heavy

        return LiteRtEngine(facts, folder, threads)
    from skerry.server.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - heavy

    return OnnxRuntimeEngine(facts, folder, threads)
