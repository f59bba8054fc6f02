"""LiteRT with XNNPACK on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from skerry.api.artifact import VariantFacts
from skerry.server.engines.base import Array

_DEVICE: Final = "CPU"
_SIGNATURE: Final = "serving_default"
_INTEGERS: Final = ("interface", "integer")
Details = Mapping[str, Any]


class LiteRtEngine:
    """An interpreter whose inputs are given the shapes that come."""

    def __init__(self, facts: VariantFacts, folder: Path, threads: int) -> None:
        self._interpreter = Interpreter(model_path=str(folder / facts.model_file), num_threads=threads)
        self._interpreter.allocate_tensors()
        names = self._names()
        self._inputs = {names(detail): detail for detail in self._interpreter.get_input_details()}
        self._outputs = {names(detail): detail for detail in self._interpreter.get_output_details()}
        self._shapes = {name: tuple(detail["shape"]) for name, detail in self._inputs.items()}
        self._integers = _INTEGERS in facts.settings.items()
        self._precision = facts.execution_precision

    def _names(self) -> Any:
        """Return what tells the name of a tensor: that in the signature, else its own."""
        keys = list(self._interpreter.get_signature_list())
        known: dict[int, str] = {}
        if _SIGNATURE in keys or len(keys) == 1:
            runner = self._interpreter.get_signature_runner(_SIGNATURE if _SIGNATURE in keys else keys[0])
            for details in (runner.get_input_details(), runner.get_output_details()):
                known.update({int(detail["index"]): str(name) for name, detail in details.items()})
        return lambda detail: known.get(int(detail["index"]), str(detail["name"]))

    @property
    def device(self) -> str:
        """The CPU: nothing else is asked for."""
        return _DEVICE

    @property
    def precision(self) -> str:
        """The precision that the variant's operators have: LiteRT does not change it."""
        return self._precision

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model."""
        self._fit(inputs)
        for name, detail in self._inputs.items():
            self._interpreter.set_tensor(detail["index"], self._taken(inputs[name], detail))
        self._interpreter.invoke()
        return {
            name: self._told(np.asarray(self._interpreter.get_tensor(detail["index"])), detail)
            for name, detail in self._outputs.items()
        }

    def _fit(self, inputs: Mapping[str, Array]) -> None:
        """Give the inputs the shapes that come."""
        changed = [name for name in self._inputs if inputs[name].shape != self._shapes.get(name)]
        for name in changed:
            self._shapes.pop(name, None)  # when it is refused, the next request sets it anew
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], list(inputs[name].shape), strict=True)
        if changed:
            self._interpreter.allocate_tensors()
            self._shapes.update({name: inputs[name].shape for name in changed})

    def _taken(self, array: Array, detail: Details) -> Array:
        """Return what a tensor takes: numbers become the integers that stand for them."""
        scale, zero = detail["quantization"]
        if not (self._integers and scale and array.dtype.kind == "f"):
            return array
        limits = np.iinfo(detail["dtype"])
        return np.asarray(np.clip(np.rint(array / scale) + zero, limits.min, limits.max), detail["dtype"])

    def _told(self, array: Array, detail: Details) -> Array:
        """Return what a tensor says: integers become the numbers that they stand for."""
        scale, zero = detail["quantization"]
        if not (self._integers and scale):
            return array
        return np.asarray((array.astype(np.float32) - np.float32(zero)) * np.float32(scale))
