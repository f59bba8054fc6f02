"""Encoders of Hugging Face and exports of torch, converted to ONNX. Runs where torch is, in a child process.

What comes out must say what went in: both are run on random inputs of two shapes, and every output is compared.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from skerry.api.types import ModelFormat
from skerry.optimizer.conversion import clean_export, configuration
from skerry.optimizer.errors import BadModelError

OPSET: Final = 17
"""Opset of converted encoders: all runtimes have it; exports of torch come out with 18, as torch's exporter writes."""

MODEL_FILE: Final = "model.onnx"
TOLERANCE: Final = 1e-4
"""How far an output may be off, relative to the largest value of the output (and to 1 where that is smaller)."""
_REFUSED: Final = "Weights only load failed"
_SEED: Final = 17
_LONG: Final = 16
_SHAPES: Final = ((2, _LONG), (3, _LONG // 2 + 1))
_CLASSES: Final = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "Model": "AutoModel",
}
_OUTPUTS: Final = {"ForQuestionAnswering": ("start_logits", "end_logits"), "Model": ("last_hidden_state",)}

Array = npt.NDArray[Any]


def convert(path: Path, found: ModelFormat, folder: Path) -> Path:
    """Return the ONNX model made of a source.

    Args:
        path: The file or folder that was fetched.
        found: Its format.
        folder: Where the model is written.

    Raises:
        BadModelError: It cannot be loaded safely, cannot be converted, or says something else afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Whatever calls torch.load: tensors only, and no code of a pickle.
    os.environ.update({"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    target = folder / MODEL_FILE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing tells of every constant
        if found is ModelFormat.TORCH_EXPORT:
            _convert_export(path if path.is_file() else next(path.rglob("*.pt2")), target)
        else:
            _convert_encoder(path, target)
    return target


def _convert_encoder(folder: Path, target: Path) -> None:
    import torch  # noqa: PLC0415 - heavy
    import transformers  # noqa: PLC0415 - heavy

    document = configuration(folder)
    architecture = (document.get("architectures") or ["Model"])[0]
    ending = next((end for end in _CLASSES if str(architecture).endswith(end)), None)
    if ending is None:
        message = f"config.json names {architecture}; encoders are converted that end with {', '.join(_CLASSES)}"
        raise BadModelError(message)
    # Attention in single operators: what fuses them later recognises them, and masks are kept as they are.
    model = getattr(transformers, _CLASSES[ending]).from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="eager",
        dtype=torch.float32,
    )
    outputs = _OUTPUTS.get(ending, ("logits",))
    kinds = document.get("type_vocab_size", 0) > 1
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if kinds else [])]

    class _Plain(torch.nn.Module):  # type: ignore[misc]
        """Takes tensors in their order, and returns a tuple of the outputs that count."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return self.model(**dict(zip(names, tensors, strict=True)), return_dict=False)[: len(outputs)]

    plain = _Plain().eval()  # with the model inside: exporting puts both back to what this one was in before
    vocabulary, padding = int(document["vocab_size"]), int(document.get("pad_token_id") or 0)
    random = np.random.default_rng(_SEED)
    samples = [_tokens(random, names, shape, vocabulary, padding) for shape in _SHAPES]
    free = {0: "batch", 1: "sequence"}
    pooled = ending == "ForSequenceClassification"
    torch.onnx.export(
        plain,
        tuple(torch.from_numpy(samples[0][name]) for name in names),
        str(target),
        opset_version=OPSET,
        dynamo=False,
        input_names=names,
        output_names=list(outputs),
        dynamic_axes={**dict.fromkeys(names, free), **dict.fromkeys(outputs, {0: "batch"} if pooled else free)},
    )
    for sample in samples:
        with torch.no_grad():
            said = plain(*(torch.from_numpy(sample[name]) for name in names))
        compare(target, sample, [each.numpy() for each in said])


def _tokens(
    random: np.random.Generator, names: Sequence[str], shape: tuple[int, int], vocabulary: int, padding: int
) -> dict[str, Array]:
    """Return tokens of which the last row ends in padding: with a mask of ones alone, tracing would drop the mask."""
    ids = random.integers(0, vocabulary, shape)
    mask = np.ones(shape, np.int64)
    ids[-1, -2:], mask[-1, -2:] = padding, 0
    sample = {"input_ids": ids, "attention_mask": mask}
    return {name: sample.get(name, np.zeros(shape, np.int64)) for name in names}


def _convert_export(path: Path, target: Path) -> None:
    import torch  # noqa: PLC0415 - heavy

    copy = target.with_name("checked.pt2")
    clean_export(path, copy)
    try:
        program = torch.export.load(str(copy))
    except Exception as error:
        text = str(error)
        if _REFUSED in text:
            text = "its tensors come with a pickle that would run code"
        message = f"{path.name} cannot be loaded by torch {torch.__version__}: {text}"
        raise BadModelError(message) from error
    finally:
        copy.unlink()
    if program.example_inputs is None:
        message = f"{path.name} was exported without example inputs, so that nothing can be compared: export it to ONNX"
        raise BadModelError(message)
    arguments, keywords = program.example_inputs
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        made.save(str(target), external_data=False)
    except Exception as error:
        message = f"{path.name} cannot be converted to ONNX: {str(error).strip().splitlines()[0]}"
        raise BadModelError(message) from error
    random, module = np.random.default_rng(_SEED), program.module()
    arguments = tuple(_like(random, value) for value in arguments)
    keywords = {name: _like(random, value) for name, value in keywords.items()}
    with torch.no_grad():
        said = module(*arguments, **keywords)
    flat = torch.utils._pytree.tree_leaves  # noqa: SLF001 - how torch itself flattens
    names = [value.name for value in made.model.graph.inputs]
    values = [value.numpy() for value in flat((arguments, keywords))]
    compare(target, dict(zip(names, values, strict=True)), [value.numpy() for value in flat(said)])


def _like(random: np.random.Generator, value: Any) -> Any:
    """Return a random tensor of a tensor's shape and type; integers are those of the example in another order."""
    import torch  # noqa: PLC0415 - heavy

    if not isinstance(value, torch.Tensor):
        message = "the export takes something other than tensors: export the model to ONNX"
        raise BadModelError(message)
    array = value.numpy()
    if np.issubdtype(array.dtype, np.floating):
        return torch.from_numpy(random.standard_normal(array.shape).astype(array.dtype))
    return torch.from_numpy(random.permutation(array.ravel()).reshape(array.shape))


def compare(model: Path, inputs: Mapping[str, Array], said: Sequence[Array]) -> None:
    """Run the ONNX model and compare all of its outputs with what torch said.

    Raises:
        BadModelError: They differ.
    """
    import onnxruntime as ort  # noqa: PLC0415 - heavy

    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found = session.run(None, dict(inputs))
    for number, (mine, theirs) in enumerate(zip(found, said, strict=True)):
        check_same(session.get_outputs()[number].name, np.asarray(mine), theirs)


def check_same(name: str, mine: Array, theirs: Array) -> None:
    """Refuse a converted model whose output is not the source's.

    Raises:
        BadModelError: With the difference.
    """
    if mine.shape != theirs.shape:
        message = f"after conversion to ONNX the output {name!r} has the shape {mine.shape} instead of {theirs.shape}"
        raise BadModelError(message)
    largest = max(float(np.abs(theirs).max(initial=0.0)), 1.0)
    difference = float(np.abs(mine.astype(np.float64) - theirs).max(initial=0.0)) / largest
    if not difference <= TOLERANCE:  # NaN is no equality either
        message = (
            f"after conversion to ONNX the output {name!r} differs by {difference:.2g} of its largest value; "
            f"{TOLERANCE:g} is allowed: export the model to ONNX yourself"
        )
        raise BadModelError(message)
