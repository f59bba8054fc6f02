"""The patterns in the rules for URIs, read as the API server reads them, and what the store makes of the same URIs."""

import re

import pytest

from skerry.api import uris
from skerry.store import hub, s3
from skerry.store.errors import BadInputError

COMMIT = "0123456789" * 4
GOOD = (
    "s3://models/model.onnx",
    "s3://models.site-1/folder/",
    "s3://models/a b/ü+%20?x=1#y&'\".onnx",
    "s3://models/..hidden/...",
    f"hf://org/name@{COMMIT}",
    f"hf://org/name@{COMMIT}/",
    f"hf://Org-1/name.v1_2@{COMMIT}/onnx/model.onnx",
    f"hf://org/name@{COMMIT}/a b/",
    f"hf://datasets/org/name@{COMMIT}/test.npz",
)
BAD = (
    "s3://",
    "s3://models",
    "s3://models/",
    "s3:///model.onnx",
    "s3://m/model.onnx",
    "s3://Models/model.onnx",
    "s3://-models/model.onnx",
    "s3://user:secret@models/model.onnx",
    f"s3://{'m' * 64}/model.onnx",
    "s3://models/..",
    "s3://models/../model.onnx",
    "s3://models/a/./b",
    "hf://org/name",
    "hf://org/name@",
    "hf://org/name@main",
    f"hf://org/name@{COMMIT[:39]}",
    f"hf://org/name@{COMMIT}0",
    f"hf://org/name@{'A' * 40}",
    f"hf://name@{COMMIT}",
    f"hf://a/b/name@{COMMIT}",
    f"hf://org/na me@{COMMIT}",
    f"hf://../name@{COMMIT}",
    f"hf://org/..@{COMMIT}",
    f"hf://org/name@{COMMIT}/../secret",
    f"hf://org/name@{COMMIT}/a//b",
    f"hf://org/name@{COMMIT}/a/.",
)


def admitted(uri: str) -> bool:
    """Evaluate the rules for both schemes: a pattern that must match, and one that must not."""
    for rule in uris.URI_RULES["x-kubernetes-validations"]:
        text = rule["rule"]
        if text.startswith(f"!self.startsWith('{uri.partition('://')[0]}://')"):
            wanted, unwanted = re.findall(r"self\.matches\('(.*?)'\)", text)
            return re.search(wanted, uri) is not None and re.search(unwanted, uri) is None
    pytest.fail(f"there is no rule for {uri}")


def understood(uri: str) -> bool:
    try:
        if uri.startswith(s3.SCHEME):
            s3.parse(uri)
        else:
            hub.Repository.parse(uri, "https://hub")
    except BadInputError:
        return False
    return True


@pytest.mark.parametrize("uri", GOOD)
def test_what_is_admitted(uri: str) -> None:
    assert admitted(uri)
    assert understood(uri)


@pytest.mark.parametrize("uri", BAD)
def test_what_is_refused(uri: str) -> None:
    assert not admitted(uri)
    assert not understood(uri)


@pytest.mark.parametrize(
    ("scheme", "needed"), [("s3", True), ("https", True), ("pvc", True), ("hf", False), ("oci", False)]
)
def test_a_digest_is_needed_where_nothing_else_names_the_content(scheme: str, needed: bool) -> None:  # noqa: FBT001
    (pattern,) = re.findall(r"self\.uri\.matches\('(.*?)'\)", uris.SHA256_RULE[0])
    assert (re.search(pattern, f"{scheme}://x") is not None) is needed
