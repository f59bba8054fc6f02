"""What a model is built of, told from its operators."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from skerry.api.types import ModelKind

_CONVOLUTIONS: Final = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Convolution",
        "GroupConvolution",
        "ConvolutionBackpropData",
        "ConvInteger",
        "QLinearConv",
    }
)
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN", "LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell"})
_FUSED: Final = frozenset(
    {
        *("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "QAttention"),
        "ScaledDotProductAttention",
    }
)
_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Einsum", "FusedMatMul"})
# What stands between an attention's two products and its softmax: scaling, masks, moved axes, stubs of training.
_BETWEEN: Final = frozenset(
    {
        *("Add", "Subtract", "Sub", "Mul", "Multiply", "Div", "Divide", "Where", "Select", "Cast", "Convert", "Max"),
        *("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Identity", "IsNaN"),
        *("QuantizeLinear", "DequantizeLinear", "FakeQuantize"),
    }
)
_FURTHEST: Final = 8
_CONVOLUTIONS_BESIDE: Final = 4
"""A transformer cuts its input up with a few convolutions at most; a detector with many may end in an attention."""


@dataclass(frozen=True)
class Operation:
    """One node of a graph.

    Attributes:
        name: Its type, as the format names it.
        inputs: Names of the values that it takes.
        outputs: Names of the values that it makes.
    """

    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def model_kind(operations: Sequence[Operation]) -> ModelKind:
    """Return what a model is built of."""
    attentions = sum(operation.name in _FUSED for operation in operations) + _attentions(operations)
    convolutions = sum(operation.name in _CONVOLUTIONS for operation in operations)
    if attentions and convolutions <= _CONVOLUTIONS_BESIDE * attentions:
        return ModelKind.TRANSFORMER
    if any(operation.name in _RECURRENT for operation in operations):
        return ModelKind.RECURRENT
    return ModelKind.CONVOLUTIONAL if convolutions else ModelKind.OTHER


def _attentions(operations: Sequence[Operation]) -> int:
    """Return how many softmaxes stand between two products, of which the second takes no constant."""
    makers = {value: operation for operation in operations for value in operation.outputs}
    takers: dict[str, list[Operation]] = {}
    for operation in operations:
        for value in operation.inputs:
            takers.setdefault(value, []).append(operation)
    softmaxes = [operation for operation in operations if operation.name in {"Softmax", "SoftMax"}]
    return sum(_reaches(each, makers) and _is_taken(each, takers) for each in softmaxes)


def _reaches(softmax: Operation, makers: Mapping[str, Operation]) -> bool:
    def before(operation: Operation) -> Iterable[Operation]:
        return (makers[value] for value in operation.inputs if value in makers)

    near = [softmax]
    for _ in range(_FURTHEST):
        near = list(chain.from_iterable(before(each) for each in near))
        if any(each.name in _PRODUCTS for each in near):
            return True
        near = [each for each in near if each.name in _BETWEEN]
    return False


def _is_taken(softmax: Operation, takers: Mapping[str, Sequence[Operation]]) -> bool:
    near = [softmax]
    for _ in range(_FURTHEST):
        near = [taker for each in near for value in each.outputs for taker in takers.get(value, ())]
        if any(each.name in _PRODUCTS for each in near):
            return True
        near = [each for each in near if each.name in _BETWEEN]
    return False
