"""Workflows of Microsoft Olive as data: those that Skerry makes, and what it takes of a user's.

A workflow of Olive is a JSON document. Of a user's only its passes count: model, data, evaluator and folders are
Skerry's, and so is the search: a candidate is one chain of passes. Nothing in it may name code: Olive would import it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from skerry.api.types import CandidateRequest, Framework, ModelKind, Precision
from skerry.optimizer.errors import ConfigurationError

Passes = dict[str, dict[str, Any]]

CALIBRATION: Final = "calibration"
EVALUATOR: Final = "skerry_evaluator"
MAX_BYTES: Final = 1 << 20
PROVIDERS: Final[Mapping[Framework, str]] = {
    Framework.ONNX_RUNTIME: "CPUExecutionProvider",
    Framework.OPENVINO: "OpenVINOExecutionProvider",
}
"""The execution provider that stands for a framework in a workflow."""

CALIBRATED: Final = frozenset({"OnnxStaticQuantization", "OnnxQuantization", "OpenVINOQuantization"})
"""Passes that look at data."""

KNOWN: Final = CALIBRATED | frozenset(
    {
        *("DynamicToFixedShape", "MatMulNBitsToQDQ", "InputNCHWtoNHWC"),
        *("OnnxBlockWiseRtnQuantization", "OnnxDynamicQuantization", "OnnxFloatToFloat16", "OnnxHqqQuantization"),
        *("OnnxKQuantQuantization", "OnnxOpVersionConversion", "OnnxPeepholeOptimizer", "OnnxQuantizationPreprocess"),
        *("OpenVINOConversion", "OpenVINOIoUpdate", "OpenVINOWeightCompression", "OrtTransformersOptimization"),
    }
)
"""Passes that make ONNX models or OpenVINO IR of ONNX models on a CPU, by settings alone."""

_OURS: Final = frozenset(
    {
        *("input_model", "systems", "host", "target", "data_configs", "evaluators", "evaluator", "output_dir"),
        *("cache_dir", "clean_cache", "evaluate_input_model", "log_severity_level", "log_to_file", "workflow_id"),
        *("no_artifacts", "ort_log_severity_level"),
    }
)
"""Parts of a workflow that Skerry puts its own in place of."""

_CODE: Final = ("script", "script_dir", "_func", "module", "class_name", "py_")


def generated(request: CandidateRequest, kind: ModelKind, *, native_int8: bool = True) -> Passes:
    """Return the passes of a request that names no workflow of its own.

    Args:
        request: What is wanted.
        kind: What the model is built of.
        native_int8: Whether the CPU multiplies 8-bit integers without an overflow in between.

    Raises:
        ConfigurationError: There are none for that precision.
    """
    chosen, options = (request.framework, request.precision), request.options
    fuses = options.get("fusion", "On" if kind is ModelKind.TRANSFORMER else "Off") == "On"
    fusion: Passes = {"fusion": {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 0}}
    match chosen:
        case (Framework.ONNX_RUNTIME, Precision.FP32):
            return fusion
        case (Framework.ONNX_RUNTIME, Precision.INT8):
            return {**(fusion if fuses else {}), "quantization": _onnx_quantization(options, native_int8=native_int8)}
        case (Framework.OPENVINO, Precision.INT8):
            return {"conversion": {"type": "OpenVINOConversion"}, "quantization": {"type": "OpenVINOQuantization"}}
        case _:
            message = f"Olive makes {request.framework} {request.precision} only of a workflow: name one in its options"
            raise ConfigurationError(message)


def _onnx_quantization(options: Mapping[str, str], *, native_int8: bool) -> dict[str, Any]:
    # Products of 8-bit unsigned and signed numbers overflow 16 bits where no instruction is: 7-bit weights do not.
    per_channel = options.get("granularity", "PerChannel") == "PerChannel"
    shared = {"precision": "int8", "per_channel": per_channel, "reduce_range": not native_int8}
    if options.get("quantization", "Static") == "Dynamic":
        return {"type": "OnnxDynamicQuantization", **shared}
    return {
        "type": "OnnxStaticQuantization",
        **shared,
        "quant_format": "QDQ",
        "activation_type": "uint8",
        "calibrate_method": options.get("calibration", "MinMax"),
        "quant_preprocess": True,
    }


def workflow_file(folder: Path, name: str) -> Path:
    """Return a file inside the source's folder.

    Raises:
        ConfigurationError: It is not there, or outside.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        message = f"the workflow {name!r} is outside the source: name a file that comes with the model"
        raise ConfigurationError(message)
    if not path.is_file():
        message = f"the workflow {name!r} is not in the source: push it in one folder with the model, and name its path"
        raise ConfigurationError(message)
    if path.stat().st_size > MAX_BYTES:
        message = f"the workflow {name!r} has {path.stat().st_size} bytes; no workflow needs more than {MAX_BYTES}"
        raise ConfigurationError(message)
    return path


def of_user(path: Path) -> tuple[Passes, list[str]]:
    """Return the passes of a user's workflow, and the parts of it that do not count.

    Raises:
        ConfigurationError: It is no workflow, or asks for what is not allowed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"the workflow {path.name} is not valid JSON: {error}"
        raise ConfigurationError(message) from error
    passes = document.get("passes") if isinstance(document, dict) else None
    if not isinstance(passes, dict) or not passes:
        message = f"the workflow {path.name} has no passes: it must be a JSON object with passes, each with its type"
        raise ConfigurationError(message)
    strange = sorted(set(document) - _OURS - {"passes"})
    if strange:
        message = (
            f"the workflow {path.name} has {', '.join(strange)}, which Skerry does not use: a candidate is one "
            "chain of passes; leave that out, and ask for a candidate for each chain"
        )
        raise ConfigurationError(message)
    return {name: _pass(path.name, name, settings) for name, settings in passes.items()}, sorted(_OURS & set(document))


def _pass(file: str, name: str, settings: Any) -> dict[str, Any]:
    """Return the settings of a pass, in Olive's flat form."""
    if isinstance(settings, list) and len(settings) == 1:
        settings = settings[0]
    if not isinstance(settings, dict) or not isinstance(settings.get("type"), str):
        message = f"the workflow {file}: the pass {name!r} must be one object with a type"
        raise ConfigurationError(message)
    known = {each.lower(): each for each in KNOWN}
    kind = known.get(settings["type"].lower())
    if kind is None:
        message = f"the workflow {file}: {settings['type']} is not among the passes allowed: {', '.join(sorted(KNOWN))}"
        raise ConfigurationError(message)
    for key, value in _leaves(settings):
        if any(word in key.lower() for word in _CODE):
            message = f"the workflow {file}: the pass {name!r} sets {key}; code that comes with a model is never run"
            raise ConfigurationError(message)
        if isinstance(value, str) and (value.startswith(("/", "~")) or "://" in value or ".." in Path(value).parts):
            message = f"the workflow {file}: the pass {name!r} sets {key} to {value!r}; no path or address may be named"
            raise ConfigurationError(message)
    inner = settings.get("config")
    flat = {**settings, **inner} if isinstance(inner, dict) else dict(settings)
    unwanted = {"config", "data_config", "host", "evaluator"}
    return {"type": kind, **{key: value for key, value in flat.items() if key not in {"type", *unwanted}}}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key with what it holds, however deep."""
    yield key, value
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, key)


def made_for(passes: Passes) -> Framework:
    """Return the runtime that can load what a chain of passes ends with."""
    converts = any(settings["type"].startswith("OpenVINO") for settings in passes.values())
    return Framework.OPENVINO if converts else Framework.ONNX_RUNTIME


def needs_data(passes: Passes) -> bool:
    """Tell whether a pass looks at data."""
    return any(settings["type"] in CALIBRATED for settings in passes.values())


def document(passes: Passes, framework: Framework, model: Path, folder: Path, *, evaluated: bool) -> dict[str, Any]:
    """Return a whole workflow as Olive wants it.

    Args:
        passes: The chain of passes.
        framework: The runtime for which it makes the model.
        model: The source model in ONNX.
        folder: Where it writes.
        evaluated: Whether there is data to evaluate with.
    """
    data = {"data_config": CALIBRATION}
    chain = {
        name: {**settings, **(data if settings["type"] in CALIBRATED else {})} for name, settings in passes.items()
    }
    accelerator = {"device": "cpu", "execution_providers": [PROVIDERS[framework]]}
    calibration = {
        "name": CALIBRATION,
        "load_dataset_config": {"type": CALIBRATION},
        "dataloader_config": {"params": {"batch_size": 1, "drop_last": True}},
    }
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(model)},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [accelerator]}},
        **({"data_configs": [calibration]} if evaluated else {}),
        # A type must be named: without one Olive 0.13 stumbles over its own default.
        **({"evaluators": {"ours": {"type": EVALUATOR}}, "evaluator": "ours"} if evaluated else {}),
        "evaluate_input_model": False,
        "passes": chain,
        "host": "here",
        "target": "here",
        "output_dir": str(folder / "output"),
        "cache_dir": str(folder / "cache"),
        "clean_cache": True,
        "log_severity_level": 2,
        "log_to_file": False,
    }
