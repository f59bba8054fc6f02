"""Calibration and evaluation data: what is accepted, what is refused and with which words."""

import pickle
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.types import EvaluationMetric, TensorFacts, TensorType
from skerry.optimizer import data
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadDataError
from tests.unit.optimizer.models import save_data

IMAGE = TensorFacts(name="image", dtype=TensorType.FP32, shape=[-1, 1, 2, 2])
SCORES = TensorFacts(name="scores", dtype=TensorType.FP32, shape=[-1, 3])
RATE = TensorFacts(name="rate", dtype=TensorType.INT64, shape=[])
GOOD = np.zeros((12, 1, 2, 2), np.float32)
IDS = np.arange(12) % 3


def read(path: Path, *inputs: TensorFacts, **options: Any) -> Samples:
    return data.samples(path, inputs or (IMAGE,), [SCORES], **options)


def test_samples_labels_and_constants(tmp_path: Path) -> None:
    arrays: dict[str, data.Array] = {"image": GOOD, "labels": IDS, "const/rate": np.array(16000)}
    found = read(save_data(tmp_path / "d.npz", **arrays), IMAGE, RATE)
    assert len(found) == 12
    assert found.class_ids
    sample = found.sample(3)
    assert sample["image"].shape == (1, 1, 2, 2)
    assert sample["rate"] == 16000
    assert data.distribution(found) == {"0": 4, "1": 4, "2": 4}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": GOOD}, r"no array for the model's input image; the file has \['picture'\]"),
        ({"image": GOOD, "mask": GOOD}, r"the array mask is no input of the model; its inputs are \['image'\]"),
        ({"image": GOOD, "const/image": GOOD}, "image is there twice"),
        ({"image": GOOD.astype(np.float64)}, "'image' has dtype float64, but the model wants float32"),
        ({"image": GOOD[:, 0]}, r"'image' has shape \[12, 2, 2\], but \[N, 1, 2, 2\] is expected"),
        ({"image": GOOD[:, :, :1]}, r"'image' has shape \[12, 1, 1, 2\], but \[N, 1, 2, 2\] is expected"),
        ({"image": np.full_like(GOOD, np.inf)}, "'image' has values that are not finite"),
        ({"image": GOOD, "labels": IDS[:5]}, "the same number of samples, but have {'image': 12, 'labels': 5}"),
        ({"image": GOOD[:3], "labels": IDS[:3]}, "3 samples; at least 10 are needed"),
        ({"image": GOOD, "labels": IDS + 1}, r"the labels go from 1 to 3, but .* 'scores' has 3 classes, 0 to 2"),
        ({"image": GOOD, "labels": IDS - 1}, "the labels go from -1 to 1"),
        ({"image": GOOD, "labels": IDS.astype(str)}, "the labels have dtype <U"),
        ({"image": GOOD, "labels": IDS[:, None]}, r"must be class ids \(integers \[N\]\)"),
        ({"image": GOOD, "labels": np.zeros((12, 4), np.float32)}, r"'scores' has \[N, 3\]"),
        ({"image": GOOD, "labels": np.full((12, 3), np.nan, np.float32)}, "'labels' has values that are not finite"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, arrays: dict[str, data.Array], message: str) -> None:
    with pytest.raises(BadDataError, match=message):
        read(save_data(tmp_path / "d.npz", **arrays))


def test_a_fixed_batch_is_refused_with_what_to_do(tmp_path: Path) -> None:
    fixed = TensorFacts(name="image", dtype=TensorType.FP32, shape=[4, 1, 2, 2])
    with pytest.raises(BadDataError, match="samples are run one at a time: export the model with a first dimension"):
        read(save_data(tmp_path / "d.npz", image=GOOD), fixed)


@pytest.mark.parametrize("shape", [[-1, 3, 4, 4], [-1, 1]])
def test_class_ids_need_scores_for_each_class(tmp_path: Path, shape: list[int]) -> None:
    output = TensorFacts(name="mask", dtype=TensorType.FP32, shape=shape)
    with pytest.raises(BadDataError, match=r"class ids need an output \[N, classes\]"):
        data.samples(save_data(tmp_path / "d.npz", image=GOOD, labels=IDS), [IMAGE], [output])


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("an object was unpickled",))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = save_data(tmp_path / "d.npz", image=np.array([Trap()], dtype=object))
    with pytest.raises(BadDataError, match="Python objects are never loaded"):
        read(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadDataError, match="not an Npz file"):
        read(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, image=np.zeros((10_000, 1, 2, 2), np.float32))
    with pytest.raises(BadDataError, match="unpacked, the data has 160128 bytes; the limit is 100000"):
        read(path, max_bytes=100_000)


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", ["(1000000, 1000000, 1000)", "(12, 1, 2, 2)", "(12, 1, 2"])
def test_a_header_that_lies(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", header(shape) + bytes(8))
    with pytest.raises(BadDataError, match="an array cannot be read"):
        read(path)


def test_a_file_that_is_no_array(tmp_path: Path) -> None:
    path = save_data(tmp_path / "d.npz", image=GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "hello")
    with pytest.raises(BadDataError, match=r"README.txt is no NumPy array"):
        read(path)


@given(st.data())
def test_damaged_files_are_refused_and_nothing_else_happens(given_data: st.DataObject) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, image=GOOD, labels=IDS)
    content = bytearray(buffer.getvalue())
    for position in given_data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] ^= given_data.draw(st.integers(1, 255))
    path = Path("d.npz")
    try:
        found = data.read_stream(path.name, BytesIO(bytes(content)))
    except BadDataError as error:
        assert "d.npz" in str(error)  # noqa: PT017 - some damage does not matter
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())


def test_the_meaning_of_accuracy_follows_the_labels() -> None:
    arrays = {"image": GOOD}
    assert data.default_metric(Samples(arrays)) is EvaluationMetric.AGREEMENT
    assert data.default_metric(Samples(arrays, labels=IDS)) is EvaluationMetric.ACCURACY
    targets = Samples(arrays, labels=np.zeros((12, 3), np.float32))
    assert data.default_metric(targets) is EvaluationMetric.MEAN_ABSOLUTE_ERROR
    with pytest.raises(BadDataError, match=r"F1 needs labels that are class ids: an array 'labels' of integers \[N\]"):
        data.check_metric(EvaluationMetric.F1, targets)
    with pytest.raises(BadDataError, match="Perplexity is for language models"):
        data.check_metric(EvaluationMetric.PERPLEXITY, targets)
    with pytest.raises(BadDataError, match="CosineSimilarity needs labels that are targets"):
        data.check_metric(EvaluationMetric.COSINE_SIMILARITY, Samples(arrays, labels=IDS))


@given(st.lists(st.integers(0, 4), min_size=10, max_size=120), st.integers(1, 60))
def test_the_split_loses_nothing_shares_nothing_and_is_fair(labels: list[int], most: int) -> None:
    rows = np.arange(len(labels), dtype=np.float32)[:, None]
    ids = np.array(labels)
    calibration, rest = data.split(Samples({"x": rows}, labels=ids), most)
    assert len(calibration) == min(most, len(labels) // 4)
    both = np.concatenate([calibration.arrays["x"], rest.arrays["x"]])[:, 0]
    assert sorted(both) == list(range(len(labels)))
    for label in set(labels):
        share = len(calibration) * np.mean(ids == label)
        assert calibration.labels is not None
        assert abs(np.sum(calibration.labels == label) - share) < 2
    again, _ = data.split(Samples({"x": rows}, labels=ids), most)
    assert np.array_equal(again.arrays["x"], calibration.arrays["x"])
