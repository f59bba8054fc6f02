"""Models that Keras 3 saved: zip archives with JSON and weights in HDF5. Nothing of Keras is needed to judge them.

Keras builds a model by importing the modules and calling the classes that config.json names. Its safe mode refuses
marshalled lambdas, and has been got round time and again by naming something else. Here the list is the other way
round: layers and operations that compute and do nothing else are let through, by name, and Keras only ever sees a copy
of the archive which says what was checked.
"""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

from skerry.optimizer.errors import BadModelError, UnsupportedFormatError

SUFFIX: Final = ".keras"
CONFIG: Final = "config.json"
METADATA: Final = "metadata.json"
WEIGHTS: Final = "model.weights.h5"
HDF5_MAGIC: Final = b"\x89HDF"
SAVE_ANEW: Final = "load it with Keras 3 where you trust it, and save it anew: model.save('model.keras')"
EXPORT: Final = "export it to ONNX where its code is: model.export('model.onnx', format='onnx')"

LAYERS: Final = frozenset(
    {
        *("Activation", "ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "Average"),
        *("BatchNormalization", "Bidirectional", "CenterCrop", "Concatenate", "Dense", "Dot", "Dropout", "ELU"),
        *("EinsumDense", "Embedding", "Flatten", "GRU", "GRUCell", "GaussianDropout", "GaussianNoise"),
        *("GroupNormalization", "GroupQueryAttention", "Identity", "InputLayer", "LSTM", "LSTMCell"),
        *("LayerNormalization", "LeakyReLU", "Masking", "Maximum", "Minimum", "MultiHeadAttention", "Multiply"),
        *("Normalization", "PReLU", "Permute", "RMSNormalization", "RNN", "RandomBrightness", "RandomContrast"),
        *("RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector"),
        *("Rescaling", "Reshape", "Resizing", "SimpleRNN", "SimpleRNNCell", "Softmax", "SpectralNormalization"),
        *("StackedRNNCells", "Subtract", "TimeDistributed", "UnitNormalization"),
        *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
        *(
            f"{kind}{axes}D"
            for axes in (1, 2, 3)
            for kind in (
                *(
                    "AveragePooling",
                    "Conv",
                    "ConvLSTM",
                    "Cropping",
                    "GlobalAveragePooling",
                    "GlobalMaxPooling",
                    "MaxPooling",
                ),
                *("SpatialDropout", "UpSampling", "ZeroPadding"),
            )
        ),
        *(f"Conv{axes}DTranspose" for axes in (1, 2, 3)),
    }
)
ARRAY_OPERATIONS: Final = frozenset(
    {
        *("Abs", "Absolute", "Add", "All", "Amax", "Amin", "Any", "Arctan", "Arctan2", "Argmax", "Argmin", "Average"),
        *("BroadcastTo", "Ceil", "Clip", "Concatenate", "Copy", "Cos", "Cosh", "Cumprod", "Cumsum", "Divide", "Dot"),
        *("Einsum", "Equal", "Exp", "ExpandDims", "Expm1", "Flip", "Floor", "FloorDivide", "FullLike", "GetItem"),
        *("Greater", "GreaterEqual", "Hstack", "Less", "LessEqual", "Log", "Log10", "Log1p", "Log2", "LogicalAnd"),
        *("LogicalNot", "LogicalOr", "LogicalXor", "Matmul", "Max", "Maximum", "Mean", "Min", "Minimum", "Mod"),
        *("Moveaxis", "Multiply", "Negative", "NotEqual", "OnesLike", "Outer", "Pad", "Power", "Prod", "Ravel"),
        *("Reciprocal", "Repeat", "Reshape", "Roll", "Round", "Sign", "Sin", "Sinh", "Split", "Sqrt", "Square"),
        *("Squeeze", "Stack", "Std", "Subtract", "Sum", "Swapaxes", "Take", "TakeAlongAxis", "Tan", "Tanh"),
        *("Tensordot", "Tile", "Transpose", "Tril", "Triu", "TrueDivide", "Var", "Vstack", "Where", "ZerosLike"),
    }
)
NETWORK_OPERATIONS: Final = frozenset(
    {
        *("AveragePool", "BatchNorm", "Celu", "Conv", "ConvTranspose", "DepthwiseConv", "Elu", "Gelu", "Glu"),
        *("HardSigmoid", "HardSilu", "HardTanh", "LayerNorm", "LeakyRelu", "LogSigmoid", "LogSoftmax", "MaxPool"),
        *("Moments", "Normalize", "OneHot", "RMSNorm", "Relu", "Relu6", "Selu", "SeparableConv", "Sigmoid", "Silu"),
        *("Softmax", "Softplus", "Softsign", "Threshold"),
    }
)
ACTIVATIONS: Final = frozenset(
    {
        *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
        *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "squareplus", "swish", "tanh"),
        *("tanh_shrink", "threshold"),
    }
)
CLASSES: Final = {
    "keras": frozenset({"Sequential", "Model", "DTypePolicy"}),
    "keras.models": frozenset({"Sequential", "Model"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.dtype_policies": frozenset({"DTypePolicy"}),
    "keras.layers": LAYERS,
    "keras.src.ops.numpy": ARRAY_OPERATIONS,
    "keras.src.ops.nn": NETWORK_OPERATIONS,
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.regularizers": frozenset({"L1", "L2", "L1L2", "OrthogonalRegularizer"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.initializers": frozenset(
        {
            *("Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "LecunNormal"),
            *("LecunUniform", "Ones", "Orthogonal", "OrthogonalInitializer", "RandomNormal", "RandomUniform"),
            *("TruncatedNormal", "VarianceScaling", "Zeros", "IdentityInitializer"),
        }
    ),
}
"""Classes that compute and do nothing else: neither files, nor networks, nor functions by name, by their module."""

_MEMBERS: Final = (METADATA, CONFIG, WEIGHTS)
_VALUES: Final = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"})
_FUNCTION: Final = "function"
_FUNCTIONS_FROM: Final = frozenset({"builtins", "keras.activations"})
_LAMBDAS: Final = frozenset({"Lambda", "__lambda__"})
_HALVES: Final = frozenset({"mixed_float16", "mixed_bfloat16", "float16", "bfloat16"})
_POLICY: Final = "DTypePolicy"
_PLAIN: Final = "float32"
# Exporters of torch write names of layers into programs: with these it does not matter how well they quote them.
_NAME: Final = re.compile(r"[\w:/ -]{0,200}")
_VERSION: Final = re.compile(r"(\d{1,3})\.\d{1,3}\.\w{1,20}")
_MAJOR: Final = "3"
_MAX_METADATA: Final = 64 << 10
_MAX_CONFIG: Final = 64 << 20
_MAX_GROWTH: Final = 100
_ENCRYPTED: Final = 1
_BLOCK: Final = 1 << 20
_SHOWN: Final = 3
_MAX_NAME: Final = 80
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError)


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive of Keras by what it holds, whatever it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            return set(_MEMBERS) <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False


def check_archive(path: Path) -> None:
    """Refuse what is no archive of Keras 3, or has more in it than a model.

    Raises:
        UnsupportedFormatError: It is of an older Keras.
        BadModelError: It is something else, or damaged.
    """
    with path.open("rb") as stream:
        head = stream.read(len(HDF5_MAGIC))
    if head == HDF5_MAGIC:
        message = f"{path.name} is in the older format of Keras (HDF5), which is never loaded: {SAVE_ANEW}"
        raise UnsupportedFormatError(message)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path.name, archive)
            metadata = json.loads(archive.read(METADATA))
    except _DAMAGE as error:
        message = f"{path.name} is no model of Keras (model.save('model.keras')), or is damaged: {error}"
        raise BadModelError(message) from error
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None:
        message = f"{path.name}: {METADATA} does not say the version of Keras"
        raise BadModelError(message)
    if found[1] != _MAJOR:
        message = f"{path.name} was saved by Keras {version}, which this version does not read: {SAVE_ANEW}"
        raise UnsupportedFormatError(message)


def clean_archive(path: Path, target: Path) -> None:
    """Write a copy of an archive in which nothing is left that Keras would import, call or look up but what computes.

    How the model was trained is left out, and half precision, which is a choice for training, becomes single precision.

    Raises:
        BadModelError: It is no archive of Keras 3, or names something that may do more than compute.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
            config = json.loads(archive.read(CONFIG))
            if not isinstance(config, dict):
                message = f"{path.name}: {CONFIG} is no JSON object"
                raise BadModelError(message)
            _check(path.name, config)
            copy.writestr(METADATA, archive.read(METADATA))
            copy.writestr(CONFIG, json.dumps(config))
            with archive.open(WEIGHTS) as source, copy.open(WEIGHTS, "w", force_zip64=True) as sink:
                while block := source.read(_BLOCK):
                    sink.write(block)
    except _DAMAGE as error:
        message = f"{path.name} is damaged: {error}"
        raise BadModelError(message) from error


def _check_members(file: str, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if any(name.endswith("data.pkl") for name in names):
        message = f"{file} is a Python pickle (torch.save), which is never loaded: export the model to ONNX"
        raise BadModelError(message)
    missing, strange = sorted(set(_MEMBERS) - set(names)), sorted(set(names) - set(_MEMBERS))
    if missing:
        message = f"{file} is no model of Keras (model.save('model.keras')): it has no {', '.join(missing)}"
        raise BadModelError(message)
    if strange or len(names) != len(_MEMBERS):
        shown = ", ".join(name[:_MAX_NAME] for name in strange[:_SHOWN]) or "something twice"
        message = f"{file} holds {shown} beside the model, which is not read (files of layers, for example): {EXPORT}"
        raise BadModelError(message)
    limits = {METADATA: _MAX_METADATA, CONFIG: _MAX_CONFIG}
    for member in members:
        name, size, limit = member.filename, member.file_size, limits.get(member.filename)
        if limit is not None and size > limit:
            message = f"{file}: {name} has {size} bytes; at most {limit} are read"
            raise BadModelError(message)
        if member.flag_bits & _ENCRYPTED or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            message = f"{file}: {name} is encrypted or packed in a way that Keras does not use: {SAVE_ANEW}"
            raise BadModelError(message)
        if size > _MAX_GROWTH * max(member.compress_size, 1):
            message = f"{file}: {name} would grow from {member.compress_size} to {size} bytes; {SAVE_ANEW}"
            raise BadModelError(message)


def _check(file: str, value: Any) -> None:
    """Check all that Keras would make an object of, and take out what only training needs.

    Raises:
        BadModelError: With what is not allowed.
    """
    if isinstance(value, dict):
        if "class_name" in value:
            value.pop("compile_config", None)
            _check_object(file, value)
        if value.get("dtype") in ("mixed_float16", "mixed_bfloat16"):
            value["dtype"] = _PLAIN
        for each in value.values():
            _check(file, each)
    elif isinstance(value, list):
        for each in value:
            _check(file, each)


def _check_object(file: str, described: dict[str, Any]) -> None:
    given = [part.get("name", "") for part in (described, described.get("config")) if isinstance(part, dict)]
    if not all(each is None or (isinstance(each, str) and _NAME.fullmatch(each)) for each in given):
        message = f"{file} has a layer with a strange name: letters, digits, spaces and any of _ - : / are taken"
        raise BadModelError(message)
    name, module, config = described["class_name"], described.get("module"), described.get("config")
    if isinstance(name, str) and name in _LAMBDAS:
        message = f"{file} has a Lambda layer, which is code; such code is never run: {EXPORT}"
        raise BadModelError(message)
    known = _known(name, module, config)
    # Keras looks for an object of somebody's own under this name before it looks into the module.
    registered = described.get("registered_name") in (None, name, config if name == _FUNCTION else None)
    if not known or not registered:
        shown = f"{config if name == _FUNCTION else name} of {module or 'no module'}"
        other = "" if registered else f", registered as {str(described['registered_name'])[:_MAX_NAME]}"
        message = f"{file} needs {shown[: 2 * _MAX_NAME]}{other}: only layers that come with Keras are loaded; {EXPORT}"
        raise BadModelError(message)
    if isinstance(config, dict) and name == _POLICY and config.get("name") in _HALVES:
        config["name"] = _PLAIN


def _known(name: Any, module: Any, config: Any) -> bool:
    """Tell whether a description is one of a value, of an activation, or of a class that only computes."""
    if not isinstance(name, str):
        return False
    if name in _VALUES:
        return module is None
    if name == _FUNCTION:
        return module in _FUNCTIONS_FROM and isinstance(config, str) and config in ACTIVATIONS
    return isinstance(config, dict) and isinstance(module, str) and name in CLASSES.get(module, ())
