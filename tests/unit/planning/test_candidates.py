"""The decision matrix, cut down to what there is."""

import itertools
from dataclasses import replace

import pytest

from skerry.accelerators.catalogue import AcceleratorEntry, catalogue
from skerry.accelerators.recipes import Recipe, book
from skerry.api.types import CandidateRequest, Framework, ModelFormat, ModelKind, ModelSource, Precision, Technique
from skerry.planning.candidates import (
    Available,
    CandidateError,
    check,
    from_name,
    groups,
    hint,
    measurable,
    name_of,
    plan,
    recoveries,
)

CPU = catalogue()["cpu"]
ALL = Available(ModelFormat.ONNX, calibration=True, calibration_labels=True)


def request(framework: Framework, precision: Precision, technique: Technique, **options: str) -> CandidateRequest:
    return CandidateRequest(framework=framework, precision=precision, technique=technique, options=options)


def asked_for(recipe: Recipe) -> CandidateRequest:
    return request(recipe.framework, recipe.precision, recipe.technique)


def names(available: Available) -> list[str]:
    return [planned.name for planned in plan(CPU, available, []).candidates]


def test_with_labelled_data_everything_is_tried() -> None:
    assert names(ALL) == [
        "openvino-int8-ptq",
        "onnxruntime-int8-static",
        "onnxruntime-int8-dynamic",
        "openvino-int8-weights",
        "openvino-fp16",
        "openvino-fp32",
        "onnxruntime-fp32",
        "openvino-int8-aware",
    ]


def test_without_data_only_what_keeps_the_precision() -> None:
    nothing = Available(ModelFormat.ONNX, calibration=False, calibration_labels=False)
    found = plan(CPU, nothing, [])
    assert [planned.name for planned in found.candidates] == ["openvino-fp32", "onnxruntime-fp32"]
    assert "without data" in found.left_out["openvino-fp16"]
    assert "calibration" in found.left_out["openvino-int8-ptq"]


def test_without_labels_nothing_is_tuned_to_accuracy() -> None:
    unlabelled = Available(ModelFormat.ONNX, calibration=True, calibration_labels=False)
    found = plan(CPU, unlabelled, [])
    assert "labels" in found.left_out["openvino-int8-aware"]
    assert len(found.candidates) == 7


def test_onnx_runtime_is_left_out_for_an_ir() -> None:
    ir = Available(ModelFormat.OPENVINO, calibration=True, calibration_labels=True)
    assert all(name.startswith("openvino") for name in names(ir))


def test_every_combination_is_either_named_or_refused_with_what_there_is() -> None:
    known = [recipe.name for recipe in book().recipes.values()]
    for framework, precision, technique in itertools.product(Framework, Precision, Technique):
        wanted = request(framework, precision, technique)
        if wanted in map(asked_for, book().recipes.values()):
            assert from_name(name_of(wanted)) == wanted
            continue
        with pytest.raises(CandidateError, match=f"{framework} has no candidate {precision} {technique}; those it has"):
            check(wanted)
    assert len(set(known)) == len(known)


def test_requested_candidates_come_in_their_order_and_get_names_of_their_own() -> None:
    performance = request(Framework.OPENVINO, Precision.INT8, Technique.POST_TRAINING, preset="Performance")
    mixed = request(Framework.OPENVINO, Precision.INT8, Technique.POST_TRAINING)
    found = plan(CPU, ALL, [performance, mixed])
    assert [planned.name for planned in found.candidates] == ["openvino-int8-ptq", "openvino-int8-ptq-2"]
    assert found.candidates[0].request == performance


def test_a_requested_candidate_that_cannot_be_made_is_an_error() -> None:
    aware = request(Framework.OPENVINO, Precision.INT8, Technique.ACCURACY_AWARE)
    unlabelled = Available(ModelFormat.ONNX, calibration=True, calibration_labels=False)
    with pytest.raises(CandidateError, match=r"openvino-int8-aware was asked for, but accuracy-aware .* needs labels"):
        plan(CPU, unlabelled, [aware])


def test_a_requested_candidate_may_do_without_data_when_it_can() -> None:
    nothing = Available(ModelFormat.ONNX, calibration=False, calibration_labels=False)
    dynamic = request(Framework.ONNX_RUNTIME, Precision.INT8, Technique.DYNAMIC)
    assert [planned.name for planned in plan(CPU, nothing, [dynamic]).candidates] == ["onnxruntime-int8-dynamic"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"presett": "Mixed"}, "has no option 'presett'; its options are maxDropPercent, preset"),
        ({"preset": "Fast"}, "option preset is 'Fast'; it may be Mixed, Performance"),
        ({"maxDropPercent": "much"}, "must be a number from 0 to 100"),
        ({"maxDropPercent": "nan"}, "must be a number from 0 to 100"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(CandidateError, match=message):
        check(request(Framework.OPENVINO, Precision.INT8, Technique.ACCURACY_AWARE, **options))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CandidateError, match=r"no candidate 'int8'; there are .*openvino-int8-ptq"):
        from_name("int8")


HEXAGON = catalogue()["qualcomm-hexagon"]
A8 = request(Framework.QNN, Precision.INT8, Technique.POST_TRAINING)
LITERT = request(Framework.LITERT, Precision.INT8, Technique.DYNAMIC)


def test_an_accelerator_with_an_emulator_is_measured() -> None:
    assert measurable(HEXAGON)
    everything = replace(ALL, tools=frozenset({"qnn"}))
    assert [planned.name for planned in plan(HEXAGON, everything, []).candidates] == [
        *("qnn-int8-ptq", "qnn-int8-ptq-uint16", "qnn-fp16")
    ]
    with pytest.raises(CandidateError, match="it belongs to the image of the group qnn"):
        plan(HEXAGON, ALL, [A8])


def test_aimet_makes_what_qnn_runs() -> None:
    both = plan(HEXAGON, replace(ALL, tools=frozenset({"aimet", "qnn"})), [])
    found = next(planned for planned in both.candidates if planned.name == "aimet-qnn-int8")
    assert (found.tool.tool, found.recipe.framework, found.recipe.stage) == ("aimet", Framework.QNN, 2)
    assert [planned.name for planned in recoveries(found, ModelKind.CONVOLUTIONAL)] == [
        *("aimet-qnn-int8-seqmse", "aimet-qnn-int8-a16", "aimet-qnn-int8-a16seqmse")
    ]
    alone = plan(HEXAGON, replace(ALL, tools=frozenset({"aimet"})), [])
    assert not alone.candidates
    assert alone.left_out["aimet-qnn-int8"] == "qnn is not here: it belongs to the image of the group qnn"


def test_what_cannot_be_measured_is_left_out() -> None:
    both = HEXAGON.model_copy(update={"devices": {Framework.QNN: "HTP", Framework.ONNX_RUNTIME: "QNN"}})
    wanted = request(Framework.ONNX_RUNTIME, Precision.INT8, Technique.POST_TRAINING)
    with pytest.raises(CandidateError, match="cannot measure models in ONNXRuntime on qualcomm-hexagon"):
        plan(both, ALL, [wanted])
    assert not measurable(HEXAGON.model_copy(update={"devices": {Framework.ONNX_RUNTIME: "QNN"}}))


@pytest.mark.parametrize(
    ("entry", "hint", "requested", "wanted"),
    [
        (HEXAGON, ModelFormat.AUTO, [], ("qnn", "aimet")),
        (HEXAGON, ModelFormat.OPENVINO, [], ()),
        (CPU, ModelFormat.AUTO, [], ()),
        (CPU, ModelFormat.ONNX, [], ()),
        (CPU, ModelFormat.TFLITE, [], ("litert",)),
        (CPU, ModelFormat.AUTO, [LITERT], ("litert",)),
    ],
)
def test_images_that_a_search_needs(
    entry: AcceleratorEntry, hint: ModelFormat, requested: list[CandidateRequest], wanted: tuple[str, ...]
) -> None:
    assert groups(entry, hint, requested) == wanted


Q4 = request(Framework.LLAMA_CPP, Precision.INT4, Technique.WEIGHTS_ONLY)
LITERT = request(Framework.LITERT, Precision.INT8, Technique.POST_TRAINING)
MLX = request(Framework.MLX, Precision.INT4, Technique.WEIGHTS_ONLY)
PTQ = request(Framework.OPENVINO, Precision.INT8, Technique.POST_TRAINING)


@pytest.mark.parametrize(
    ("hinted", "requested", "wanted"),
    [
        (ModelFormat.AUTO, [], ()),
        (ModelFormat.ONNX, [], ()),
        (ModelFormat.OPENVINO, [], ()),
        (ModelFormat.TFLITE, [], ("litert",)),
        (ModelFormat.TFLITE, [LITERT], ("litert",)),
        (ModelFormat.GGUF, [MLX], ("llamacpp", "mlx")),
        (ModelFormat.HUGGING_FACE, [MLX], ("llamacpp", "mlx")),
        (ModelFormat.GGUF, [], ("llamacpp",)),
        (ModelFormat.HUGGING_FACE, [], ("olive", "llamacpp")),
        (ModelFormat.HUGGING_FACE, [Q4], ("llamacpp",)),
        (ModelFormat.HUGGING_FACE, [PTQ], ("olive",)),
        (ModelFormat.TORCH_EXPORT, [], ("olive",)),
    ],
)
def test_a_job_has_the_images_that_its_candidates_may_need(
    hinted: ModelFormat, requested: list[CandidateRequest], wanted: tuple[str, ...]
) -> None:
    assert groups(CPU, hinted, requested) == wanted


@pytest.mark.parametrize(
    ("uri", "stated", "wanted"),
    [
        ("oci://r/m:1", ModelFormat.AUTO, ModelFormat.AUTO),
        ("oci://r/m:1", ModelFormat.GGUF, ModelFormat.GGUF),
        ("https://h/m.gguf", ModelFormat.AUTO, ModelFormat.GGUF),
        ("hf://org/name@" + "0" * 40, ModelFormat.AUTO, ModelFormat.HUGGING_FACE),
        ("hf://org/name@" + "0" * 40 + "/model.onnx", ModelFormat.AUTO, ModelFormat.ONNX),
    ],
)
def test_what_a_source_says_of_its_format(uri: str, stated: ModelFormat, wanted: ModelFormat) -> None:
    assert hint(ModelSource(uri=uri, sha256="0" * 64, format=stated)) is wanted
