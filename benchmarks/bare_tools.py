"""INT8 by the bare tool, in a few lines as its documentation has them, and by Skerry: the same model and data.

    python benchmarks/bare_tools.py FOLDER [--json]

FOLDER is what `examples/digits/train.py` wrote. Both are run by the bare tool, in turns with the model at true FP32.
Skerry should add nothing and lose nothing: the same size, the same accuracy, the same latency within noise.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry.accelerators import cpu
from skerry.accelerators.catalogue import catalogue
from skerry.api.types import EvaluationMetric, ModelFormat, ModelKind
from skerry.optimizer.backends import make
from skerry.optimizer.backends.base import Source, Work
from skerry.optimizer.data import Samples
from skerry.optimizer.trials import native_int8
from skerry.planning.candidates import from_name

Array = npt.NDArray[Any]
Infer = Callable[[Array], Array]
ROUNDS = 15
RUNS = 100
THREADS = 2


@dataclass(frozen=True)
class Row:
    """One model: bytes of its files, share of right answers in percent, median milliseconds."""

    tool: str
    made_by: str
    size_bytes: int
    accuracy_percent: float
    latency_ms: float


def bare_nncf(source: Path, images: Array, folder: Path) -> Path:
    """Quantize with NNCF as its documentation does."""
    import nncf  # noqa: PLC0415 - one tool at a time
    import openvino as ov  # noqa: PLC0415

    rows = [{"image": images[index : index + 1]} for index in range(len(images))]
    model = nncf.quantize(
        ov.convert_model(str(source)),
        nncf.Dataset(rows),
        subset_size=len(rows),
        preset=nncf.QuantizationPreset.MIXED,
    )
    ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    return folder / "model.xml"


def bare_onnxruntime(source: Path, images: Array, folder: Path) -> Path:
    """Quantize with ONNX Runtime as its documentation does."""
    from onnxruntime import quantization as q  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(images)

        def get_next(self) -> dict[str, Array] | None:
            row = next(self.rows, None)
            return None if row is None else {"image": row[None]}

    quant_pre_process(source, folder / "prepared.onnx", skip_symbolic_shape=True)
    narrow = native_int8(catalogue()["cpu"], cpu.read()) is None
    types = {"activation_type": q.QuantType.QUInt8, "weight_type": q.QuantType.QInt8}
    model = folder / "model.onnx"
    q.quantize_static(folder / "prepared.onnx", model, Reader(), per_channel=True, reduce_range=narrow, **types)
    (folder / "prepared.onnx").unlink()
    return model


def through_skerry(name: str, source: Path, images: Array, labels: Array, folder: Path) -> Path:
    """Quantize with Skerry's recipe."""
    request, entry = from_name(name), catalogue()["cpu"]
    work = Work(
        source=Source(source, ModelFormat.ONNX, {source.name: source}, ModelKind.CONVOLUTIONAL),
        request=request,
        folder=folder,
        calibration=Samples({"image": images}, labels=labels),
        metric=EvaluationMetric.ACCURACY,
        half_precision=None,
        native_int8=native_int8(entry, cpu.read()) is not None,
        device=entry.devices[request.framework],
    )
    return folder / make(name.partition("-")[0], work).model_file


def openvino_session(model: Path) -> Infer:
    """Load a model in OpenVINO at true FP32 where it is not INT8."""
    import openvino as ov  # noqa: PLC0415

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    compiled = ov.Core().compile_model(str(model), "CPU", settings)
    output = compiled.output(0)
    return lambda image: np.array(compiled({"image": image})[output])


def onnxruntime_session(model: Path) -> Infer:
    """Load a model in ONNX Runtime."""
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(None, {"image": image})[0])


def latencies(sessions: list[Infer], images: Array) -> list[float]:
    """Return the median milliseconds of each, of rounds taken in turns."""
    rounds: list[list[float]] = [[] for _ in sessions]
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, rounds, strict=True):
            started = time.perf_counter()
            for index in range(RUNS):
                session(images[index : index + 1])
            taken.append(1000 * (time.perf_counter() - started) / RUNS)
    return [statistics.median(taken) for taken in rounds]


def compare(tool: str, models: dict[str, Path], session: Callable[[Path], Infer], data: dict[str, Array]) -> list[Row]:
    """Return the figures of one tool's models."""
    images, labels = data["image"], data["labels"]
    sessions = [session(path) for path in models.values()]
    taken = latencies(sessions, images)
    rows = []
    for (made_by, path), infer, milliseconds in zip(models.items(), sessions, taken, strict=True):
        found = [infer(images[index : index + 1]).argmax() for index in range(len(images))]
        size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*") if file.suffix != ".npz")
        right = 100 * float(np.mean(np.array(found) == labels))
        rows.append(Row(tool, made_by, size, round(right, 2), round(milliseconds, 4)))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    source = arguments.folder / "digits.onnx"
    calibration = dict(np.load(arguments.folder / "digits-calibration.npz"))
    test = dict(np.load(arguments.folder / "digits-test.npz"))
    tools = {
        "openvino": (bare_nncf, "openvino-int8-ptq", openvino_session),
        "onnxruntime": (bare_onnxruntime, "onnxruntime-int8-static", onnxruntime_session),
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for tool, (bare, recipe, session) in tools.items():
            folders = [Path(scratch) / tool / each for each in ("bare", "skerry")]
            for folder in folders:
                folder.mkdir(parents=True)
            made = {
                "FP32, as it is": source,
                "INT8, bare tool": bare(source, calibration["image"], folders[0]),
                "INT8, Skerry": through_skerry(recipe, source, calibration["image"], calibration["labels"], folders[1]),
            }
            rows += compare(tool, made, session, test)
    if arguments.json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=2)
        return
    print(f"{'tool':12} {'made by':16} {'bytes':>10} {'accuracy':>9} {'latency':>10}")
    for row in rows:
        figures = f"{row.size_bytes:10,} {row.accuracy_percent:8.2f}% {row.latency_ms:7.3f} ms"
        print(f"{row.tool:12} {row.made_by:16} {figures}")


if __name__ == "__main__":
    main()
