"""How ONNX Runtime is set up for a device: its execution providers with their options, and what a session needs.

Optimizer and server read it alike, so that what is served runs as it was measured.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
DIRECTML: Final = "DmlExecutionProvider"
QNN: Final = "QNNExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"

LEVEL: Final = "graphOptimizationLevel"
OPTIONS: Final = "providerOptions"
"""Setting: a JSON object with options of the execution provider, all strings."""


class ProviderOptionsError(ValueError):
    """The provider's options are no JSON object of strings."""


@dataclass(frozen=True)
class SessionSetup:
    """What a session is made with.

    Attributes:
        providers: Execution providers, the preferred one first, each with its options.
        memory_pattern: Whether memory is planned ahead; DirectML cannot.
        entries: Entries of the session's configuration.
    """

    providers: tuple[tuple[str, dict[str, str]], ...]
    memory_pattern: bool
    entries: Mapping[str, str]


def provider_options(text: str) -> dict[str, str]:
    """Return options that are written as JSON.

    Raises:
        ProviderOptionsError: They are no JSON object of strings.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        message = f'{OPTIONS} must be a JSON object as in {{"device_type": "NPU"}}, but is {text!r}: {error}'
        raise ProviderOptionsError(message) from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        message = f'{OPTIONS} must be a JSON object of strings as in {{"device_id": "0"}}, but is {text!r}'
        raise ProviderOptionsError(message)
    return found


def default_options(device: str, precision: str) -> dict[str, str]:
    """Return the options with which a provider computes in a precision: FP32, FP16 or INT8."""
    half = "1" if precision != "FP32" else "0"
    match device:
        case "CUDAExecutionProvider":
            # TF32 has 10 bits of mantissa: FP32 would not be what it says.
            return {"use_tf32": "0"} if precision == "FP32" else {}
        case "TensorrtExecutionProvider":
            return {"trt_fp16_enable": half, "trt_int8_enable": "1" if precision == "INT8" else "0"}
        case "QNNExecutionProvider":
            return {"backend_type": "htp", "htp_performance_mode": "burst", "enable_htp_fp16_precision": half}
        case _:
            return {}


def session_setup(device: str, settings: Mapping[str, str]) -> SessionSetup:
    """Return how a session on a device is made.

    Args:
        device: Name of the execution provider.
        settings: Settings of the variant.

    Raises:
        ProviderOptionsError: The options among the settings cannot be read.
    """
    options = provider_options(settings.get(OPTIONS, "{}"))
    providers = [(device, options)]
    if device == TENSORRT:
        # What TensorRT does not know runs on the same card.
        shared = {name: value for name, value in options.items() if name == "device_id"}
        providers.append((CUDA, shared))
    entries = {} if device == CPU else {"session.disable_cpu_ep_fallback": "1"}
    return SessionSetup(tuple(providers), device != DIRECTML, entries)
