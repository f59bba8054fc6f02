"""The Edge TPU: from a full integer model to one with the Edge TPU's own operator in it, which LiteRT then runs."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ai_edge_quantizer import recipe

from skerry.optimizer.backends import edgetpu_compiler, tflite_file
from skerry.optimizer.backends.base import Made, Session, Work
from skerry.optimizer.backends.litert import INTEGER_INTERFACE, float_model, full_integer, tools
from skerry.optimizer.errors import ConfigurationError


class Tool:
    """Quantization and compilation."""

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        with tempfile.TemporaryDirectory(dir=work.folder.parent, prefix="edgetpu-") as scratch:
            fixed, integers = (Path(scratch) / name for name in ("fixed.tflite", "model.tflite"))
            model = tflite_file.read(float_model(work, Path(scratch)))
            tflite_file.fix_batch(model)  # the Edge TPU has no free dimensions
            tflite_file.write(model, fixed)
            remark = full_integer(fixed, recipe.static_wi8_ai8(), work, integers)
            file, mapped = edgetpu_compiler.compiled(integers, work.folder, work.request.options)
        versions = {**tools(work.source.format), edgetpu_compiler.PROGRAM: edgetpu_compiler.version()}
        return Made(
            file, dict(INTEGER_INTERFACE), "INT8", versions, "; ".join(filter(None, (mapped, remark))), one_by_one=True
        )

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load nothing: models are run by LiteRT.

        Raises:
            ConfigurationError: Always.
        """
        del settings, threads, device
        message = f"the Edge TPU's compiler does not run models: {model.name}"
        raise ConfigurationError(message)
