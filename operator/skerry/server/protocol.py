"""Open Inference Protocol v2 over REST: JSON, and the binary tensor data extension."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from skerry.api.types import TensorType
from skerry.server.engines.base import Array
from skerry.server.errors import RequestError, shown
from skerry.server.model import ServedModel
from skerry.server.values import NAMES, from_bytes, from_json

BINARY_TYPE: Final = b"application/octet-stream"
_NOT_OFFERED: Final = ("classification", "shared_memory_region")
"""Extensions that would change what an output means; to ignore them would give a wrong answer."""

_LARGE: Final = 1 << 20
_MOST_MARKS: Final = 1_000_000
"""In large JSON: lists, objects and strings take up to 40 times their size in memory, numbers 17 times."""


@dataclass(frozen=True)
class InferRequest:
    """A request, parsed and checked."""

    identifier: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool] = field(default_factory=dict)
    """Outputs that are wanted, and whether each goes out binary; empty: all of them, as `binary` says."""
    binary: bool = False


def parse(model: ServedModel, body: bytes | bytearray, header_length: int | None) -> InferRequest:
    """Read the body of an infer request.

    Args:
        model: The model that it is for.
        body: The whole body; inputs that were sent as binary data stay in it.
        header_length: Value of `Inference-Header-Content-Length` when the request has binary data.

    Raises:
        RequestError: It is not of the protocol; the message names the tensor and what was expected.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise RequestError(
            400, f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes"
        )
    end = len(body) if header_length is None else header_length
    document = _json(body, end)
    rest = memoryview(body)[end:]
    inputs: dict[str, Array] = {}
    listed = document.get("inputs")
    if not isinstance(listed, list) or not listed:
        raise RequestError(400, "'inputs' must be a list of at least one tensor")
    for entry in listed:
        name, dtype, shape, size = _described(model, entry)
        if name in inputs:
            raise RequestError(400, f"the input {name!r} is there twice")
        if size is not None:
            inputs[name] = from_bytes(name, dtype, shape, rest, size)
            rest = rest[size:]
        elif "data" in entry:
            inputs[name] = from_json(name, dtype, shape, entry["data"])
        else:
            raise RequestError(400, f"input {name!r} has neither 'data' nor binary_data_size")
    if len(rest):
        raise RequestError(400, f"{len(rest)} bytes of binary data are left over after the inputs")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise RequestError(400, "'id' must be a string")
    binary = _flag(_parameters(document, "the request"), "binary_data_output", default=False)
    return InferRequest(identifier, inputs, _outputs(model, document, binary=binary), binary)


def _json(body: bytes | bytearray, end: int) -> dict[str, Any]:
    if end > _LARGE and sum(body.count(mark, 0, end) for mark in (b"[", b"{", b":", b'"')) > _MOST_MARKS:
        raise RequestError(413, "the request has too many lists, objects or strings; send flat 'data' or binary data")
    try:
        document = orjson.loads(body if end == len(body) else memoryview(body)[:end])
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the request is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(400, "the request must be a JSON object")
    return document


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = entry.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RequestError(400, f"{where}: 'parameters' must be an object")
    return found


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise RequestError(400, f"the parameter {name} is {shown(found)}, but must be true or false")
    return found


def _described(model: ServedModel, entry: Any) -> tuple[str, TensorType, list[int], int | None]:
    """Return name, dtype, shape and, for binary data, the number of bytes of an input."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError(400, "every input must be an object with a 'name'")
    tensor = model.tensor(entry["name"])
    name, dtype, shape = tensor.name, tensor.dtype, entry.get("shape")
    if entry.get("datatype") != dtype:
        raise RequestError(400, f"input {name!r} has datatype {shown(entry.get('datatype'))}, but {dtype} is expected")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise RequestError(400, f"input {name!r} must have a 'shape', a list of whole numbers")
    model.check_shape(tensor, shape)
    size = _parameters(entry, f"input {name!r}").get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise RequestError(400, f"input {name!r}: binary_data_size must be a whole number")
    return name, dtype, shape, size


def _outputs(model: ServedModel, document: Mapping[str, Any], *, binary: bool) -> dict[str, bool]:
    listed = document.get("outputs")
    if listed is None:
        return {}
    if not isinstance(listed, list):
        raise RequestError(400, "'outputs' must be a list")
    known = [tensor.name for tensor in model.facts.outputs]
    wanted: dict[str, bool] = {}
    for entry in listed:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in known:
            raise RequestError(400, f"the model has no output {shown(name)}; its outputs are {', '.join(known)}")
        parameters = _parameters(entry, f"output {name!r}")
        for extension in _NOT_OFFERED:
            if parameters.get(extension):
                raise RequestError(400, f"output {name!r}: this server does not offer the extension {extension}")
        wanted[name] = _flag(parameters, "binary_data", default=binary)
    return wanted


def answer(model: ServedModel, request: InferRequest, found: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part when binary data follows.

    JSON has no NaN and no infinity: they become null. Who needs them asks for binary outputs.
    """
    wanted = request.outputs or dict.fromkeys((tensor.name for tensor in model.facts.outputs), request.binary)
    outputs: list[dict[str, Any]] = []
    blobs: list[memoryview] = []
    for name, binary in wanted.items():
        value = np.asarray(found[name], order="C")
        entry: dict[str, Any] = {"name": name, "datatype": NAMES[value.dtype], "shape": list(value.shape)}
        if binary:
            blobs.append(value.data)
            entry["parameters"] = {"binary_data_size": value.nbytes}
        else:
            flat = value.reshape(-1)
            entry["data"] = flat.astype(np.float32) if flat.dtype == np.float16 else flat
        outputs.append(entry)
    document: dict[str, Any] = {"model_name": model.name, "model_version": "1", "outputs": outputs}
    if request.identifier is not None:
        document["id"] = request.identifier
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)
