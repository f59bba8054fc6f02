"""What crosses between processes: values come back as they were, and nothing but values can be sent."""

import json
import pickle
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.types import CandidateRequest, EvaluationMetric, Framework, Metric, ModelFormat, Precision, Technique
from skerry.optimizer import wire
from skerry.optimizer.backends.base import Made, Source, Work
from skerry.optimizer.data import Samples

WORK = Work(
    source=Source(Path("/work/model.onnx"), ModelFormat.ONNX, {"model.onnx": Path("/work/model.onnx")}),
    request=CandidateRequest(
        framework=Framework.OPENVINO, precision=Precision.INT8, technique=Technique.POST_TRAINING, options={"a": "b"}
    ),
    folder=Path("/work/x"),
    calibration=None,
    metric=EvaluationMetric.ACCURACY,
    half_precision=None,
    native_int8=True,
)


def crossed(value: Any) -> Any:
    here, there = Pipe()
    with here, there:
        wire.send(here, value)
        return wire.receive(there)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(Metric), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    assert crossed(value) == value


@pytest.mark.parametrize("value", [Framework.OPENVINO, Path("/work/a b"), WORK, Made("m", {"a": "b"}, "INT8")])
def test_values_of_skerry_come_back(value: Any) -> None:
    found = crossed(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (4, 3)])
def test_arrays_come_back_and_may_be_written_to(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = crossed(array)
    assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())
    found[...] = 1


def test_a_view_comes_back_as_its_values() -> None:
    array = np.arange(12).reshape(3, 4).T[::2]
    assert crossed(array).tolist() == array.tolist()


def test_samples_come_back() -> None:
    found = crossed(Samples({"x": np.ones((4, 2), np.float32)}, {"state": np.zeros(3)}, np.arange(4)))
    assert found.arrays["x"].shape == (4, 2)
    assert found.labels.tolist() == [0, 1, 2, 3]


class Stranger:
    pass


@pytest.mark.parametrize("value", [Stranger(), {1, 2}, object, np.array([Stranger()])])
def test_nothing_else_can_be_sent(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        crossed(value)


@pytest.mark.parametrize(
    "message",
    [
        pickle.dumps(Stranger()),
        b"",
        b"{",
        b'{"no": "tag"}',
        b'{"$": "data", "of": "Stranger", "is": {}}',
        b'{"$": "data", "of": "Made", "is": {"model_file": "m", "os": "system"}}',
        b'{"$": "model", "of": "OptimizationJobSpec", "is": {}}',
        b'{"$": "model", "of": "CandidateRequest", "is": {"framework": "x"}}',
        b'{"$": "enum", "of": "Framework", "is": "no such"}',
        b'{"$": "array", "dtype": "O", "shape": [1]}',
        b'{"$": "array", "dtype": "f8", "shape": [99999999, 99999999]}',
        b'{"$": "array", "dtype": "f8", "shape": [-1]}',
        b'{"$": "array", "dtype": "no", "shape": [1]}',
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(message)
        with pytest.raises(wire.WireError):
            wire.receive(there)


def test_an_array_with_fewer_bytes_than_announced_is_refused() -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(json.dumps({"$": "array", "dtype": "<f8", "shape": [2]}).encode())
        here.send_bytes(bytes(8))
        with pytest.raises(wire.WireError, match="16 bytes came with 8"):
            wire.receive(there)
