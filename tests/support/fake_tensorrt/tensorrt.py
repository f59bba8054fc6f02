"""A fake of TensorRT's Python package: an engine is an ONNX model, and ONNX Runtime executes it."""

import ctypes
import os
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0") + ".26"
_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
float32 = TensorProto.FLOAT


class TensorIOMode(Enum):
    """Whether a tensor goes in or comes out."""

    INPUT = 1
    OUTPUT = 2


class ActivationType(Enum):
    """Activations."""

    RELU = "Relu"


class Logger:
    """Says nothing."""

    ERROR = 1

    def __init__(self, level: int) -> None:
        del level


class Runtime:
    """Loads engines."""

    def __init__(self, logger: Logger) -> None:
        del logger

    def deserialize_cuda_engine(self, engine: bytes) -> "Engine | None":
        """Return an engine, or None when it is none."""
        try:
            return Engine(ort.InferenceSession(engine, providers=["CPUExecutionProvider"]))
        except Exception:  # noqa: BLE001 - TensorRT logs whatever it is, and returns nothing
            return None


class Engine:
    """A model."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.tensors = {each.name: each for each in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.tensors)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        outputs = {each.name for each in self.session.get_outputs()}
        return TensorIOMode.OUTPUT if name in outputs else TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> str:
        return str(self.tensors[name].type)

    def create_execution_context(self) -> "Context":
        return Context(self)


class Context:
    """Executes; knows an output's shape only once all inputs' are set."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, place: int) -> bool:
        self._places[name] = place
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0]
        return tuple(size if isinstance(size, int) else batch for size in self._engine.tensors[name].shape)

    def _view(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        kind = np.dtype(_TYPES[self._engine.get_tensor_dtype(name)])
        size = int(np.prod(shape)) * kind.itemsize
        content: Any = (ctypes.c_char * size).from_address(self._places[name])
        found: Any = np.frombuffer(content, kind)
        view: np.ndarray[Any, Any] = found.reshape(shape)
        return view

    def execute_async_v3(self, stream: int) -> bool:
        del stream
        inputs = {name: self._view(name, shape) for name, shape in self._shapes.items()}
        names = [each.name for each in self._engine.session.get_outputs()]
        for name, value in zip(names, self._engine.session.run(names, inputs), strict=True):
            self._view(name, value.shape)[...] = value
        return True


def nptype(kind: str) -> type:
    """Return NumPy's type."""
    return _TYPES[kind]


class _Tensor:
    def __init__(self) -> None:
        self.name = ""


class _Layer:
    def __init__(self) -> None:
        self._output = _Tensor()

    def get_output(self, index: int) -> _Tensor:
        assert index == 0
        return self._output


class _Network:
    def __init__(self) -> None:
        self.output = ""

    def add_input(self, name: str, kind: int, shape: tuple[int, ...]) -> str:
        self.source = helper.make_tensor_value_info(name, kind, shape)
        return name

    def add_activation(self, source: str, activation: ActivationType) -> _Layer:
        self.activation = (source, activation.value)
        return _Layer()

    def mark_output(self, tensor: _Tensor) -> None:
        self.output = tensor.name


class Builder:
    """Builds the one-node engine."""

    def __init__(self, logger: Logger) -> None:
        del logger

    def create_network(self, flags: int) -> _Network:
        assert flags == 0
        return _Network()

    def create_builder_config(self) -> None:
        """Return nothing that counts."""

    def build_serialized_network(self, network: _Network, config: None) -> bytes:
        del config
        name, kind = network.activation
        target = helper.make_tensor_value_info(network.output, float32, [1])
        node = helper.make_node(kind, [name], [network.output])
        graph = helper.make_graph([node], "one", [network.source], [target])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content
