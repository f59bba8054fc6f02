"""Manifests of strangers."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.store.descriptors import Descriptor, layers
from skerry.store.errors import BadInputError
from skerry.store.image import assert_mountable

DIGEST = "sha256:" + "ab" * 32
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 3}
IMAGE = {"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": [LAYER]}


def test_a_layer() -> None:
    assert layers({"layers": [LAYER]}, "x") == [Descriptor(LAYER["mediaType"], DIGEST, 3)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:../../../etc/passwd"},
        {"digest": "sha512:" + "ab" * 64},
        {"digest": None},
        {"size": -1},
        {"size": "3"},
        {"size": True},
        {"mediaType": None},
        {"annotations": []},
        {"annotations": {"org.opencontainers.image.title": 1}},
    ],
)
def test_what_is_not_a_descriptor(change: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="x: "):
        layers({"layers": [{**LAYER, **change}]}, "x")


@pytest.mark.parametrize("raw", [None, [], {}, "text", [LAYER] * 128, [1]])
def test_what_are_no_layers(raw: Any) -> None:
    with pytest.raises(BadInputError):
        layers({"layers": raw}, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "annotations"]), json_values))
def test_any_json_is_a_descriptor_or_a_clear_error(raw: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        Descriptor.parse(raw, "x")


@pytest.mark.parametrize(
    ("media", "annotations", "is_tar"),
    [
        ("application/vnd.oci.image.layer.v1.tar", {}, True),
        ("application/vnd.oci.image.layer.v1.tar+gzip", {}, True),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", {}, True),
        ("application/vnd.cncf.model.weight.v1.tar", {}, True),
        ("application/vnd.cncf.model.weight.v1.raw", {}, False),
        ("application/onnx", {"io.deis.oras.content.unpack": "true"}, True),
        ("application/vnd.oci.image.layer.v1.tar+zstd", {}, False),
    ],
)
def test_which_layers_are_archives(media: str, annotations: dict[str, str], *, is_tar: bool) -> None:
    assert Descriptor(media, DIGEST, 1, annotations).is_tar is is_tar


def test_only_images_are_mounted() -> None:
    assert_mountable(IMAGE, "x")
    for config in ("application/vnd.cncf.model.config.v1+json", "application/vnd.oci.empty.v1+json"):
        with pytest.raises(BadInputError, match="mount it as an empty folder"):
            assert_mountable({**IMAGE, "config": {"mediaType": config}}, "x")
    with pytest.raises(BadInputError):
        assert_mountable({**IMAGE, "layers": []}, "x")
    raw = {**LAYER, "mediaType": "application/vnd.cncf.model.weight.v1.raw"}
    with pytest.raises(BadInputError, match=r"layers of type application/vnd\.cncf"):
        assert_mountable({**IMAGE, "layers": [raw]}, "x")
    for other in (None, "text", [1]):
        with pytest.raises(BadInputError, match="not an OCI image"):
            assert_mountable({**IMAGE, "config": other}, "x")
