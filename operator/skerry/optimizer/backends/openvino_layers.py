"""Layers of a model that NNCF quantized: which there are, and how much each of them hurts."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import openvino as ov

from skerry.api.types import Framework
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array
from skerry.optimizer.backends.sensitivity import MAX_LAYERS, Sensitivity, error_percent, ranked
from skerry.optimizer.data import Samples

CPU: Final = "CPU"
_FAKE: Final = "FakeQuantize"
_WEIGHTED: Final = frozenset(
    {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
)
_FURTHEST: Final = 6
# What only moves values about: a quantizer before it is the quantizer of what comes after it.
_MOVES: Final = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "StridedSlice", "Split", "VariadicSplit"),
        *("Concat", "Pad", "ShuffleChannels", "DepthToSpace", "SpaceToDepth", "Broadcast", "Gather"),
    }
)


def is_quantized(model: Any) -> bool:
    """Tell whether any activation is quantized."""
    return any(node.get_type_name() == _FAKE for node in model.get_ops())


def in_floating_point(model: Any) -> list[str]:
    """Return the convolutions and products with constant weights whose activations are not quantized."""
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() in _WEIGHTED
        and any(_constant(port.get_source_output().get_node()) for port in node.inputs())
        and not any(True for _ in _quantizers(node))
    ]


def sensitivity(source: Any, quantized: Any, calibration: Samples) -> Sensitivity:
    """Return how wrong the output is when one layer alone is quantized, for each layer.

    Args:
        source: The model before quantization.
        quantized: The model with quantizers of weights and activations as operations, without any bias corrected.
        calibration: Samples to run.
    """
    wanted = _outputs(source, calibration)
    names = [node.get_friendly_name() for node in quantized.get_ordered_ops() if _is_layer(node)]
    return ranked(
        {name: error_percent(wanted, _outputs(_alone(quantized, name), calibration)) for name in names[:MAX_LAYERS]}
    )


def _outputs(model: Any, samples: Samples) -> Array:
    compiled = ov.Core().compile_model(model, CPU, dict(BASELINE_SETTINGS[Framework.OPENVINO]))
    output = compiled.output(0)
    return np.concatenate([np.array(compiled(samples.sample(index))[output]) for index in range(len(samples))])


def _alone(quantized: Any, name: str) -> Any:
    """Return a copy in which only the quantizers of one layer are left."""
    model = quantized.clone()
    layer = next(node for node in model.get_ops() if node.get_friendly_name() == name)
    mine = {(port.get_node().get_name(), port.get_index()) for port in _quantizers(layer)}
    for node in [node for node in model.get_ops() if node.get_type_name() == _FAKE]:
        for port in node.output(0).get_target_inputs():
            if (port.get_node().get_name(), port.get_index()) not in mine:
                port.replace_source_output(node.input_value(0))
    return model


def _is_layer(node: Any) -> bool:
    return node.get_type_name() not in _MOVES | {_FAKE, "Result"} and any(True for _ in _quantizers(node))


def _quantizers(node: Any) -> Iterator[Any]:
    """Yield the input ports, of a layer or of what moves values to it, that a quantizer feeds."""
    for port in node.inputs():
        source = port.get_source_output().get_node()
        if source.get_type_name() == _FAKE:
            yield port
        elif source.get_type_name() in _MOVES:
            yield from _quantizers(source)


def _constant(node: Any, further: int = _FURTHEST) -> bool:
    """Tell whether a node computes nothing but a constant: a weight, quantized or not."""
    if node.get_type_name() == "Constant":
        return True
    sources = [port.get_source_output().get_node() for port in node.inputs()]
    return bool(sources) and further > 0 and all(_constant(source, further - 1) for source in sources)
