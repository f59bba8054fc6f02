"""One module a framework; each imports its framework only when it is used, in a child process."""

from skerry.api.types import Framework
from skerry.optimizer.backends.base import Backend


def backend(framework: Framework) -> Backend:
    """Return the backend of a framework."""
    match framework:
        case Framework.OPENVINO:
            from skerry.optimizer.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - heavy

            return OpenVinoBackend()
        case Framework.ONNX_RUNTIME:
            from skerry.optimizer.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - heavy

            return OnnxRuntimeBackend()
