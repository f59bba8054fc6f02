"""AIMET: Qualcomm's own quantization, which evens out the channels of layers before it rounds them.

Of what it makes, a model with nodes that quantize and dequantize, QNN builds the context binary as of its own ones.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from aimet_onnx import QuantizationSimModel, apply_seq_mse
from aimet_onnx.common.utils import AimetLogger
from aimet_onnx.cross_layer_equalization import equalize_model

from skerry.optimizer.backends import calibration, qnn
from skerry.optimizer.backends.base import Made, Session, Work
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import ConfigurationError

_ACTIVATIONS: Final = {"UInt8": "int8", "UInt16": "int16"}
_USUAL_RULES: Final = "73"
"""By the rules for 68, QNN refuses transformers with 16-bit activations, whatever HTP it builds for."""
_SEARCH_SAMPLES: Final = 100
"""Sequential MSE runs each layer with every sample for each of its candidates."""


class Tool:
    """Equalization and quantization by AIMET, ending in a context binary of QNN."""

    def make(self, work: Work) -> Made:
        """Make a candidate."""
        samples = calibration.required(work.calibration)
        options = work.request.options
        execution = qnn.EXECUTION[options.get("activations", "UInt8")]
        remark = "; ".join(calibration.remarks(samples))
        with tempfile.TemporaryDirectory(dir=work.folder.parent, prefix="aimet-") as scratch:
            model = qnn.prepared(work.source.path, Path(scratch))
            quantized = _quantized(model, samples, options)
            return qnn.built(quantized, work, execution, remark, ("aimet-onnx",))

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load nothing: models are run by QNN.

        Raises:
            ConfigurationError: Always.
        """
        del settings, threads, device
        message = f"AIMET does not run models: {model.name}"
        raise ConfigurationError(message)


def _quantized(source: Path, samples: Samples, options: Mapping[str, str]) -> Path:
    """Write an equalized model with nodes that quantize and dequantize, as the HTP wants them."""
    AimetLogger.set_level_for_all_areas(logging.WARNING)
    model = onnx.load(str(source))
    equalize_model(model)
    # Says which operators have a scale for each channel, and which tensors must share one.
    hardware = f"htp_v{options.get('htpArchitecture', _USUAL_RULES)}"
    activations = _ACTIVATIONS[options.get("activations", "UInt8")]
    simulation = QuantizationSimModel(model, param_type="int8", activation_type=activations, config_file=hardware)
    rows = [samples.sample(row) for row in range(len(samples))]
    if options.get("weights") == "SequentialMse":
        apply_seq_mse(simulation, rows[:_SEARCH_SAMPLES])
    simulation.compute_encodings(rows)
    target = source.with_name("quantized.onnx")
    # The HTP adds biases of 32 bits, and knows no floating point beside integers.
    onnx.save(simulation.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True), str(target))
    return target
