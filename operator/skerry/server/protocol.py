"""Open Inference Protocol v2 over REST: JSON, and the binary tensor data extension."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from skerry.api.types import TensorType
from skerry.server.engines.base import Array
from skerry.server.errors import RequestError
from skerry.server.model import DTYPES, NAMES, ServedModel

JSON_TYPE = b"application/json"
BINARY_TYPE = b"application/octet-stream"


@dataclass(frozen=True)
class InferRequest:
    """A request, parsed and checked."""

    identifier: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool] = field(default_factory=dict)
    """Outputs that are wanted, and whether each goes out binary; empty: all of them, as `binary` says."""
    binary: bool = False


def parse(model: ServedModel, body: bytes, header_length: int | None) -> InferRequest:
    """Read the body of an infer request.

    Args:
        model: The model that it is for.
        body: The whole body.
        header_length: Value of `Inference-Header-Content-Length` when the request has binary data.

    Raises:
        RequestError: It is not of the protocol; the message names the tensor and what was expected.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise RequestError(
            400, f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes"
        )
    head, rest = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
    document = _json(head)
    inputs: dict[str, Array] = {}
    offset = 0
    listed = document.get("inputs")
    if not isinstance(listed, list) or not listed:
        raise RequestError(400, "'inputs' must be a list of at least one tensor")
    for entry in listed:
        name, dtype, shape, size = _described(model, entry)
        if name in inputs:
            raise RequestError(400, f"the input {name!r} is there twice")
        if size is not None:
            inputs[name] = _binary(name, dtype, shape, rest, offset, size)
            offset += size
        else:
            inputs[name] = _listed(name, dtype, shape, entry)
    if offset != len(rest):
        raise RequestError(400, f"{len(rest) - offset} bytes of binary data are left over after the inputs")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise RequestError(400, "'id' must be a string")
    binary = bool(_parameters(document).get("binary_data_output", False))
    return InferRequest(identifier, inputs, _outputs(model, document, binary=binary), binary)


def _json(head: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the request is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(400, "the request must be a JSON object")
    return document


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters")
    return found if isinstance(found, dict) else {}


def _described(model: ServedModel, entry: Any) -> tuple[str, TensorType, list[int], int | None]:
    """Return name, dtype, shape and, for binary data, the number of bytes of an input."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError(400, "every input must be an object with a 'name'")
    name = entry["name"]
    tensor = model.tensor(name)
    if entry.get("datatype") != tensor.dtype:
        raise RequestError(
            400, f"input {name!r} has datatype {entry.get('datatype')!r}, but {tensor.dtype} is expected"
        )
    if tensor.dtype not in DTYPES:
        raise RequestError(400, f"input {name!r}: {tensor.dtype} tensors are not supported")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise RequestError(400, f"input {name!r} must have a 'shape', a list of whole numbers")
    model.check_shape(name, shape)
    size = _parameters(entry).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise RequestError(400, f"input {name!r}: binary_data_size must be a whole number")
    return name, tensor.dtype, shape, size


def _binary(name: str, dtype: TensorType, shape: Sequence[int], rest: bytes, offset: int, size: int) -> Array:
    wanted = math.prod(shape) * DTYPES[dtype].itemsize
    if size != wanted:
        raise RequestError(400, f"input {name!r}: {size} bytes of binary data, but shape and datatype make {wanted}")
    if offset + size > len(rest):
        raise RequestError(400, f"input {name!r}: the body ends before its {size} bytes of binary data")
    made: Array = np.frombuffer(rest, DTYPES[dtype], math.prod(shape), offset).reshape(shape)
    return made


def _listed(name: str, dtype: TensorType, shape: Sequence[int], entry: Mapping[str, Any]) -> Array:
    if "data" not in entry:
        raise RequestError(400, f"input {name!r} has neither 'data' nor binary_data_size")
    try:
        given = np.asarray(entry["data"])
    except (ValueError, OverflowError) as error:
        raise RequestError(400, f"input {name!r}: 'data' is not a tensor: {error}") from error
    wanted = DTYPES[dtype]
    kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[wanted.kind]
    if given.dtype.kind not in kinds:
        raise RequestError(400, f"input {name!r}: 'data' must hold {dtype} numbers only")
    if given.size != math.prod(shape):
        raise RequestError(
            400, f"input {name!r}: 'data' has {given.size} elements, but the shape {list(shape)} has {math.prod(shape)}"
        )
    if wanted.kind in "iu" and given.size:
        limits = np.iinfo(wanted)
        if int(given.min()) < limits.min or int(given.max()) > limits.max:
            raise RequestError(400, f"input {name!r}: 'data' has values outside {limits.min} to {limits.max}")
    made: Array = given.astype(wanted).reshape(shape)
    return made


def _outputs(model: ServedModel, document: Mapping[str, Any], *, binary: bool) -> dict[str, bool]:
    listed = document.get("outputs", [])
    if not isinstance(listed, list):
        raise RequestError(400, "'outputs' must be a list")
    known = [tensor.name for tensor in model.facts.outputs]
    wanted: dict[str, bool] = {}
    for entry in listed:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in known:
            raise RequestError(400, f"the model has no output {name!r}; its outputs are {', '.join(known)}")
        wanted[name] = bool(_parameters(entry).get("binary_data", binary))
    return wanted


def answer(model: ServedModel, request: InferRequest, found: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part when binary data follows."""
    wanted = request.outputs or dict.fromkeys(found, request.binary)
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, binary in wanted.items():
        value = np.ascontiguousarray(found[name])
        entry: dict[str, Any] = {"name": name, "datatype": NAMES[value.dtype], "shape": list(value.shape)}
        if binary:
            blobs.append(value.tobytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            flat = value.reshape(-1)
            entry["data"] = flat.astype(np.float32) if flat.dtype == np.float16 else flat
        outputs.append(entry)
    document: dict[str, Any] = {"model_name": model.name, "model_version": "1", "outputs": outputs}
    if request.identifier is not None:
        document["id"] = request.identifier
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (head + b"".join(blobs), len(head)) if blobs else (head, None)


def metadata(model: ServedModel) -> dict[str, Any]:
    """Return a model's metadata, with what Skerry knows of it under `skerry`."""

    def tensors(listed: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape} for tensor in listed]

    facts = model.facts
    return {
        "name": model.name,
        "versions": ["1"],
        "platform": f"{facts.framework.lower()}_{facts.model_file.rsplit('.', 1)[-1]}",
        "inputs": tensors(facts.inputs),
        "outputs": tensors(facts.outputs),
        "skerry": {
            "variant": facts.name,
            "framework": facts.framework,
            "precision": facts.precision,
            "technique": facts.technique,
            "accelerator": facts.accelerator,
            "executionDevice": model.engine.device,
            "expectedDevice": facts.device,
            "executionPrecision": model.engine.precision,
            "sourceSha256": facts.provenance.source_sha256,
        },
    }
