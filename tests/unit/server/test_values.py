"""Tensors from JSON values and from bytes."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from skerry.api.types import TensorType
from skerry.server.errors import RequestError
from skerry.server.values import DTYPES, from_bytes, from_json

FINITE = st.sampled_from(list(DTYPES)).flatmap(
    lambda dtype: st.tuples(
        st.just(dtype),
        npst.arrays(
            DTYPES[dtype],
            npst.array_shapes(max_dims=4, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if DTYPES[dtype].kind == "f" else None,
        ),
    )
)


@settings(deadline=None)
@given(FINITE, st.booleans())
def test_json_values_become_the_same_tensor_nested_or_flat(
    case: tuple[TensorType, np.ndarray[Any, Any]],
    nested: bool,  # noqa: FBT001 - a parameter of hypothesis'
) -> None:
    dtype, tensor = case
    data = orjson.loads(orjson.dumps((tensor if nested else tensor.ravel()).tolist()))
    found = from_json("x", dtype, tensor.shape, data)
    assert found.dtype == tensor.dtype
    np.testing.assert_array_equal(found, tensor)


@settings(deadline=None)
@given(FINITE, st.integers(0, 8))
def test_bytes_become_the_same_tensor_wherever_they_begin(
    case: tuple[TensorType, np.ndarray[Any, Any]], padding: int
) -> None:
    dtype, tensor = case
    data = memoryview(bytes(padding) + tensor.tobytes() + b"more")[padding:]
    found = from_bytes("x", dtype, tensor.shape, data, tensor.nbytes)
    assert found.flags.aligned
    np.testing.assert_array_equal(found, tensor)


@pytest.mark.parametrize(
    ("dtype", "data", "words"),
    [
        (TensorType.FP32, [True, 0.5], "FP32 numbers only"),
        (TensorType.FP32, [0, False], "FP32 numbers only"),
        (TensorType.FP32, [0.5, "1"], "FP32 numbers only"),
        (TensorType.FP32, [0.5, None], "FP32 numbers only"),
        (TensorType.FP32, [0.5, {}], "FP32 numbers only"),
        (TensorType.FP32, [0.5, [0.5]], "FP32 numbers only"),
        (TensorType.INT32, [1.0, 2], "INT32 numbers only"),
        (TensorType.INT32, [1, True], "INT32 numbers only"),
        (TensorType.BOOL, [True, 1], "true and false only"),
        (TensorType.FP32, [1e300, 1], "out of the range of FP32"),
        (TensorType.FP16, [70000, 1], "out of the range of FP16"),
        (TensorType.INT8, [128, 1], "out of the range of INT8"),
        (TensorType.UINT8, [-1, 1], "out of the range of UINT8"),
        (TensorType.INT64, [2**63, 1], "out of the range of INT64"),
        (TensorType.UINT64, [-1, 1], "out of the range of UINT64"),
        (TensorType.FP32, [1], "1 elements, but the shape [2] has 2"),
        (TensorType.FP32, [], "0 elements"),
        (TensorType.FP32, [[1, 2]], "not a tensor of the shape [2]"),
        (TensorType.FP32, [[1], 2], "not a tensor of the shape [2]"),
        (TensorType.FP32, "12", "must be a list"),
        (TensorType.FP32, {"0": 1, "1": 2}, "must be a list"),
        (TensorType.FP32, None, "must be a list"),
    ],
)
def test_wrong_values_are_named(dtype: TensorType, data: Any, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        from_json("x", dtype, [2], data)
    assert caught.value.status == 400
    assert "input 'x'" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "data", [[[1, 2], [3]], [[1, 2, 3], [4]], [[1, 2], "34"], [[1, 2], {"3": 0, "4": 0}], [[1, 2], 3], [[[1], [2]]] * 2]
)
def test_a_ragged_list_is_no_tensor(data: Any) -> None:
    with pytest.raises(RequestError) as caught:
        from_json("x", TensorType.FP32, [2, 2], data)
    assert caught.value.status == 400


def test_a_byte_that_is_neither_0_nor_1_is_true() -> None:
    found = from_bytes("x", TensorType.BOOL, [3], memoryview(b"\x00\x01\x02"), 3)
    assert found.view(np.uint8).tolist() == [0, 1, 1]
