"""DirectML, by which Windows reaches GPUs and NPUs: ONNX models as its execution provider wants them.

On Windows they run on the device. Anywhere else ONNX Runtime's CPU stands in: what the model says can be seen there,
how fast it is cannot.
"""

import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime as ort
from onnx import version_converter
from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

from skerry.accelerators import onnx_providers
from skerry.accelerators.onnx_providers import LEVEL
from skerry.api.types import Framework, Precision, Technique
from skerry.optimizer.backends import onnxruntime
from skerry.optimizer.backends.base import Made, Session, Work
from skerry.optimizer.child import summary
from skerry.optimizer.errors import BadModelError

NEWEST_OPSET: Final = 20
"""The newest opset of which DirectML's execution provider knows the operators; newer ones run on the CPU, slowly."""

SETTINGS: Final[Mapping[str, str]] = {
    # Beyond it come layouts of the CPU's kernels.
    LEVEL: "Extended",
    # DirectML manages memory and order of execution itself, and refuses sessions that want to.
    "memoryPattern": "Off",
    "executionMode": "Sequential",
}
EMULATED: Final = (
    "DirectML is there on Windows only: here the CPU stood in for the device, which shows what the model says but not "
    "how fast it says it"
)
_STANDARD: Final = frozenset({"", "ai.onnx"})


class Tool:
    """Writes and runs models for DirectML."""

    def load(self, model: Path, settings: Mapping[str, str], threads: int, device: str) -> Session:
        """Make a session on the device, or on the CPU where DirectML is not."""
        there = device if device in ort.get_available_providers() else onnxruntime.PROVIDER
        return onnxruntime.Tool().load(model, settings, threads, there)

    def warm(self, threads: int, device: str) -> Session:
        """Return a session with the smallest model, run once."""
        import numpy as np  # noqa: PLC0415 - this method alone needs it

        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        tensor = onnx.helper.make_tensor_value_info
        shapes = [[tensor(name, onnx.TensorProto.FLOAT, [1])] for name in ("x", "y")]
        graph = onnx.helper.make_graph([node], "warm", *shapes)
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        found = device if device in ort.get_available_providers() else onnxruntime.PROVIDER
        options = onnxruntime.session_options(found, SETTINGS, threads)
        session = onnxruntime.OnnxRuntimeSession(ort.InferenceSession(made.SerializeToString(), options, [found]))
        session.infer({"x": np.zeros(1, np.float32)})
        return session

    def make(self, work: Work) -> Made:
        """Make a candidate: fixed shapes, an opset that DirectML knows, half precision inside.

        Raises:
            BadModelError: The model cannot be brought to such an opset.
        """
        scratch = work.folder.with_suffix(".directml")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            fixed = _fixed(work.source.path, scratch)
            level = work.request.options.get("level", "Basic")
            request = work.request.model_copy(
                update={"framework": Framework.ONNX_RUNTIME, "technique": Technique.GRAPH_OPTIMIZATION}
            )
            request = request.model_copy(update={"options": {"level": level}})
            inner = replace(work, request=request, folder=scratch, source=replace(work.source, path=fixed, files={}))
            optimized = scratch / onnxruntime.Tool().make(inner).model_file
            target = work.folder / onnxruntime.MODEL_FILE
            if work.request.precision is Precision.FP16:
                self._halve(inner, optimized, work.folder)
            else:
                shutil.copyfile(optimized, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _require_opset(target)
        return Made(
            onnxruntime.MODEL_FILE,
            dict(SETTINGS),
            str(work.request.precision),
            {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx")},
            emulated="" if onnx_providers.DIRECTML in ort.get_available_providers() else EMULATED,
            architecture="amd64",
            one_by_one=True,
        )

    def _halve(self, inner: Work, model: Path, folder: Path) -> None:
        request = inner.request.model_copy(update={"technique": Technique.CONVERSION, "options": {}})
        source = replace(inner.source, path=model)
        device = onnx_providers.DIRECTML
        onnxruntime.Tool().make(replace(inner, request=request, source=source, folder=folder, device=device))


def _fixed(source: Path, scratch: Path) -> Path:
    """Write the model with all shapes fixed, batch 1, in an opset that DirectML knows."""
    model = onnx.load(str(source))
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants:
            # All but the batch was pinned when the model was inspected.
            sizes = [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
            make_input_shape_fixed(model.graph, value.name, sizes)
    fix_output_shapes(model)
    target = scratch / "fixed.onnx"
    onnx.save(_known_opset(model), str(target))
    return target


def _known_opset(model: Any) -> Any:
    """Return the model in an opset that DirectML knows.

    Raises:
        BadModelError: It has operators that cannot be said in one.
    """
    if _opset(model) <= NEWEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, NEWEST_OPSET)
    except Exception as error:
        message = (
            f"the model has opset {_opset(model)}, of which DirectML does not know all operators, and cannot be "
            f"converted to {NEWEST_OPSET}: export it with that opset ({summary(error)})"
        )
        raise BadModelError(message) from error


def _opset(model: Any) -> int:
    return max((int(opset.version) for opset in model.opset_import if opset.domain in _STANDARD), default=1)


def _require_opset(path: Path) -> None:
    """Make sure that no tool in between has raised the opset.

    Raises:
        BadModelError: One has.
    """
    found = _opset(onnx.load(str(path), load_external_data=False))
    if found > NEWEST_OPSET:
        message = f"the model came out with opset {found}; DirectML knows {NEWEST_OPSET} at the most"
        raise BadModelError(message)
