"""References of artifacts."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.store.errors import BadInputError
from skerry.store.references import Reference

DIGEST = "sha256:" + "0123456789abcdef" * 4
label = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)
hosts = st.builds(
    lambda name, port: name if port is None else f"{name}:{port}",
    st.one_of(st.from_regex(r"[a-z0-9]+(\.[a-z0-9-]*[a-z0-9])?", fullmatch=True), st.just("[::1]")),
    st.none() | st.integers(1, 65535),
)
references = st.builds(
    Reference,
    hosts,
    st.lists(label, min_size=1, max_size=4).map("/".join),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True),
    st.none() | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
)


@settings(deadline=None)
@given(references)
def test_what_is_written_is_read_back(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.uri) == reference


@settings(deadline=None)
@given(references)
def test_a_pinned_reference_names_the_digest_alone(reference: Reference) -> None:
    pinned = reference.pinned(DIGEST)
    assert str(pinned) == f"{reference.repository}@{DIGEST}"
    assert pinned.selector == DIGEST


@settings(deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="az09:/@.-_[]A", max_size=40))
def test_any_text_is_a_reference_or_a_clear_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except BadInputError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert Reference.parse(reference.uri) == reference


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("oci://host/a", "names neither a tag nor a digest"),
        ("oci://host:5000", "not a reference of the form"),
        ("oci://host/A:1", "not a reference of the form"),
        ("oci://host/../a:1", "not a reference of the form"),
        ("oci://host/a:1\n", "not a reference of the form"),
        ("oci://host:70000/a:1", "no port 70000"),
        ("oci://[::1]:0/a:1", "no port 0"),
        ("oci://host/a@sha256:abc", "not a reference of the form"),
        ("https://host/a:1", "not a reference of the form"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(BadInputError, match=complaint):
        Reference.parse(text)


def test_the_operator_can_use_references_without_http_libraries() -> None:
    program = (
        "import sys, skerry.store.references\n"
        "print([name for name in ('httpx', 'pydantic', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
