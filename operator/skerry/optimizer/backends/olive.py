"""Microsoft Olive: a chain of its passes makes the candidate, which then runs in ONNX Runtime or OpenVINO.

What Olive measures on the calibration data is kept beside; what counts is measured as for all other candidates. A goal
that is missed stops nothing in Olive, so that none is set.
"""

import importlib.metadata
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from skerry.api.types import EvaluationMetric, Framework, Precision
from skerry.optimizer import accuracy, olive_workflow
from skerry.optimizer.backends import onnxruntime as onnx_backend
from skerry.optimizer.backends import openvino as openvino_backend
from skerry.optimizer.backends import openvino_layers
from skerry.optimizer.backends.base import BASELINE_SETTINGS, Array, Made, Session, Work
from skerry.optimizer.child import summary
from skerry.optimizer.data import Samples
from skerry.optimizer.errors import BadModelError, ConfigurationError
from skerry.optimizer.olive_workflow import CALIBRATION, EVALUATOR, Passes
from skerry.optimizer.onnx_source import files_of

_KINDS: Final = {"onnxmodel": Framework.ONNX_RUNTIME, "openvinomodel": Framework.OPENVINO}
_FILES: Final = {Framework.ONNX_RUNTIME: "model.onnx", Framework.OPENVINO: "model.xml"}
_DEVICES: Final = {Framework.ONNX_RUNTIME: onnx_backend.PROVIDER, Framework.OPENVINO: openvino_layers.CPU}
_QUANTIZED: Final = ("QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "QAttention", "MatMulNBits")
_INTEGERS: Final = frozenset({Precision.INT8, Precision.INT4})
_EVALUATED: Final = 64
"""How many samples Olive's own figures are taken on."""


class Tool:
    """Runs workflows."""

    def make(self, work: Work) -> Made:
        """Make a candidate.

        Raises:
            ConfigurationError: The workflow is not one that may be run, or makes a model for another runtime.
            BadModelError: The workflow changed nothing.
        """
        passes, remark = _passes(work)
        if olive_workflow.needs_data(passes) and work.calibration is None:
            message = "quantizing activations needs calibration or evaluation data"
            raise ConfigurationError(message)
        scratch = work.folder.with_suffix(".olive")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            metrics = _run(work, passes, scratch)
            _take(scratch / "output", work.request.framework, work.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        execution = "FP32"
        if work.request.precision in _INTEGERS:
            _require_integers(work)
            execution = "INT8" if work.request.precision is Precision.INT8 else "FP32"
        tools = {name: importlib.metadata.version(name) for name in ("olive-ai", "onnxruntime", "openvino", "nncf")}
        framework = work.request.framework
        settings = dict(BASELINE_SETTINGS[framework])
        return Made(_FILES[framework], settings, execution, tools, remark, tool_metrics=metrics)

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Load nothing: what Olive makes is run by other tools.

        Raises:
            ConfigurationError: Always.
        """
        del settings, threads, device
        message = f"Olive runs no models: {model.name} is for ONNX Runtime or OpenVINO"
        raise ConfigurationError(message)


def _passes(work: Work) -> tuple[Passes, str]:
    """Return the passes to run, and what a person should know of them."""
    name = work.request.options.get("workflow")
    if name is None:
        passes = olive_workflow.generated(work.request, work.source.kind, native_int8=work.native_int8)
        return passes, ""
    folder = work.source.folder
    if folder is None:
        message = f"the workflow {name!r} must come with the model, but the source is a single file: push the folder"
        raise ConfigurationError(message)
    passes, ignored = olive_workflow.of_user(olive_workflow.workflow_file(folder, name))
    made, wanted = olive_workflow.made_for(passes), work.request.framework
    if made is not wanted:
        message = f"the workflow {name!r} makes a model for {made}, and {wanted} was asked for"
        raise ConfigurationError(message)
    chain = " → ".join(settings["type"] for settings in passes.values())
    return passes, f"{name}: {chain}" + (f"; its {', '.join(ignored)} did not count" if ignored else "")


class _Complaints(logging.Handler):
    """Keeps the last error that Olive logs: a pass that fails does not fail the run."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.last = summary(error) if error is not None else record.getMessage()


def _run(work: Work, passes: Passes, scratch: Path) -> dict[str, float]:
    """Run the passes and return what Olive measured of the result."""
    # Both are needed: with the second alone a message is sent before it is looked at.
    os.environ.update({"CI": "1", "OLIVE_DISABLE_TELEMETRY": "1"})
    # Some passes write beside their input, which candidates share.
    model = _copied(work, scratch / "input")
    if work.calibration is not None:
        _register(work.calibration, work.metric, model)
    document = olive_workflow.document(
        passes, work.request.framework, model, scratch, evaluated=work.calibration is not None
    )
    from olive import run  # noqa: PLC0415 - takes seconds, and only after the environment is set

    complaints = _Complaints()
    logging.getLogger("olive").addHandler(complaints)
    run(document)
    if not (scratch / "output" / "model_config.json").is_file():
        message = f"the workflow made no model: {complaints.last or 'Olive does not say why'}"
        raise BadModelError(message)
    figures = scratch / "output" / "metrics.json"
    if not figures.is_file():
        return {}
    return {name: float(figure["value"]) for name, figure in json.loads(figures.read_text("utf-8")).items()}


def _copied(work: Work, folder: Path) -> Path:
    for name, path in work.source.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder / work.source.path.name


def _register(calibration: Samples, metric: EvaluationMetric | None, source: Path) -> None:
    """Tell Olive of the data, and of the evaluator that measures on it in the runtimes that Skerry uses."""
    import torch  # noqa: PLC0415 - heavy
    from olive.data.registry import Registry as DataRegistry  # noqa: PLC0415 - heavy
    from olive.evaluator.metric_result import MetricResult  # noqa: PLC0415 - heavy
    from olive.evaluator.olive_evaluator import OliveEvaluator  # noqa: PLC0415 - heavy
    from olive.evaluator.registry import Registry  # noqa: PLC0415 - heavy

    class _Rows(torch.utils.data.Dataset):  # type: ignore[misc]
        """Samples as torch wants them: without the batch axis, which its loader adds."""

        def __len__(self) -> int:
            return len(calibration)

        def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
            if not 0 <= index < len(calibration):
                raise IndexError(index)
            sample = {name: torch.from_numpy(array[index]) for name, array in calibration.arrays.items()}
            return {**sample, **{name: torch.from_numpy(array) for name, array in calibration.constants.items()}}, 0

    @DataRegistry.register_dataset(CALIBRATION)  # type: ignore[untyped-decorator]
    def _dataset(**_: Any) -> _Rows:
        return _Rows()

    some = calibration.part(np.arange(min(len(calibration), _EVALUATED)))
    reference = _outputs(Framework.ONNX_RUNTIME, source, some)

    @Registry.register(EVALUATOR)
    class _Evaluator(OliveEvaluator):  # type: ignore[misc]
        def evaluate(self, model: Any, *_: Any, **__: Any) -> MetricResult:
            framework = _KINDS[model.to_json()["type"].lower()]
            found = _figures(framework, _main_file(Path(model.model_path), framework), some, metric, reference)
            return MetricResult.model_validate(
                {
                    name: {"value": value, "priority": order, "higher_is_better": name.startswith("accuracy")}
                    for order, (name, value) in enumerate(found.items(), 1)
                }
            )


def _load(framework: Framework, model: Path) -> Session:
    backend = onnx_backend.Tool() if framework is Framework.ONNX_RUNTIME else openvino_backend.Tool()
    return backend.load(model, BASELINE_SETTINGS[framework], 1, _DEVICES[framework])


def _outputs(framework: Framework, model: Path, samples: Samples) -> Array:
    session = _load(framework, model)
    return np.concatenate([session.infer(samples.sample(index)) for index in range(len(samples))])


def _figures(
    framework: Framework, model: Path, samples: Samples, metric: EvaluationMetric | None, reference: Array
) -> dict[str, float]:
    """Return accuracy, milliseconds and bytes of a model, under names as Olive writes them."""
    started = time.perf_counter()
    outputs = _outputs(framework, model, samples)
    seconds = time.perf_counter() - started
    found = {"latency-avg": 1000.0 * seconds / len(samples)}
    found["size-bytes"] = float(sum(file.stat().st_size for file in _all_files(model, framework).values()))
    if metric is not None:
        found[f"accuracy-{metric}"] = accuracy.score(metric, outputs, samples.labels, reference).value
    return found


def _take(output: Path, framework: Framework, folder: Path) -> None:
    """Copy what a workflow made.

    Raises:
        ConfigurationError: It is no model that the runtime asked for can load.
    """
    made = json.loads((output / "model_config.json").read_text(encoding="utf-8"))
    kind, path = str(made["type"]).lower(), Path(made["config"]["model_path"])
    if _KINDS.get(kind) is not framework:
        message = f"the workflow made a model of the type {made['type']}, which {framework} does not load"
        raise ConfigurationError(message)
    main = _main_file(path, framework)
    own = {main.name, f"{main.stem}.bin"} if framework is Framework.OPENVINO else {main.name}
    stem = Path(_FILES[framework]).stem
    for name, each in _all_files(main, framework).items():
        shutil.copyfile(each, folder / (stem + each.suffix if name in own else name))


def _main_file(path: Path, framework: Framework) -> Path:
    """Return the file that the runtime loads; Olive names the folder sometimes."""
    if path.is_file():
        return path
    suffix = Path(_FILES[framework]).suffix
    found = sorted(path.glob(f"*{suffix}"))
    if len(found) != 1:
        message = f"the workflow made {len(found)} {suffix} files, where one is expected"
        raise ConfigurationError(message)
    return found[0]


def _all_files(main: Path, framework: Framework) -> Mapping[str, Path]:
    if framework is Framework.OPENVINO:
        return {path.name: path for path in (main, main.with_suffix(".bin"))}
    return files_of(main)


def _require_integers(work: Work) -> None:
    """Refuse a quantized model in which nothing is quantized.

    Raises:
        BadModelError: It is the source model in other words.
    """
    path = work.folder / _FILES[work.request.framework]
    if work.request.framework is Framework.ONNX_RUNTIME:
        graph = onnx.load(str(path), load_external_data=False).graph
        found = any(node.op_type.startswith(_QUANTIZED) for node in graph.node)
    else:
        # NNCF writes quantized activations as FakeQuantize, and compressed weights as integers that are converted.
        text = path.read_text(encoding="utf-8")
        found = any(
            f'type="{name}"' in text or f'element_type="{name}"' in text for name in ("FakeQuantize", "i8", "u4")
        )
    if not found:
        message = (
            "nothing is quantized in what the workflow made: the model has no layers of the kinds that it looks for"
        )
        raise BadModelError(message)
