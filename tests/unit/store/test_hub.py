"""Sources on the Hugging Face hub, against a fake of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.store import hub as store
from skerry.store import transport, trees
from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    StoreError,
    TooLargeError,
    UnreachableError,
)
from skerry.store.fetch import Fetched, fetch
from skerry.store.settings import Credentials, StoreSettings
from tests.support.hub import COMMIT, SIGNATURE, TOKEN, FakeHub, Fault, Repository, running

MODEL = bytes(range(256)) * 10_000
URI = f"hf://org/digits@{COMMIT}"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running() as fake:
        fake.repositories["org/digits"] = Repository(
            {
                "README.md": b"# Digits",
                "LICENSE.txt": b"Apache",
                ".gitattributes": b"*.onnx lfs",
                "config.json": b"{}",
                "tokenizer.json": b"{1}",
                "tokenizer.model": b"pieces",
                "training.pt": b"\x80\x02",
                "training_args.bin": b"PK\x03\x04",
                "pytorch_model.bin": b"PK\x03\x04",
                "onnx/model.onnx": MODEL,
                "onnx/model.onnx_data": b"weights",
                "onnx/other.onnx": b"2",
                "model.keras": b"PK",
                "openvino/model.xml": b"<net/>",
                "openvino/model.bin": b"raw weights",
                "openvino/labels ü+%20.txt": b"odd",
            }
        )
        yield fake


class Get:
    """Fetches into a folder of the test."""

    def __init__(self, hub: FakeHub, folder: Path) -> None:
        self.settings = StoreSettings(allow_http=True, patience_seconds=30, hub_endpoint=hub.endpoint)
        self.folder = folder
        self.remarks: list[str] = []
        self.advanced: list[int] = []

    def __call__(
        self, uri: str, sha256: str | None = None, settings: StoreSettings | None = None, token: str = ""
    ) -> Fetched:
        return fetch(
            uri,
            self.folder / "fetched",
            sha256=sha256,
            settings=settings or self.settings,
            credentials=Credentials(hub_token=token),
            notify=self.remarks.append,
            advance=self.advanced.append,
        )


@pytest.fixture
def get(hub: FakeHub, tmp_path: Path) -> Get:
    return Get(hub, tmp_path)


def names(fetched: Fetched) -> set[str]:
    return {path.relative_to(fetched.path).as_posix() for path in fetched.path.rglob("*") if path.is_file()}


def test_a_repository_without_what_can_run_code(hub: FakeHub, get: Get) -> None:
    fetched = get(URI)
    assert names(fetched) == {
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "onnx/other.onnx",
        "model.keras",
        "openvino/model.xml",
        "openvino/model.bin",
        "openvino/labels ü+%20.txt",
    }
    assert (fetched.path / "onnx" / "model.onnx").read_bytes() == MODEL
    assert fetched.sha256 == trees.tree_sha256(fetched.path)
    assert sum(get.advanced) == fetched.size_bytes
    assert not [
        path for path in hub.paths() if path.endswith(("pytorch_model.bin", "args.bin", ".pt", ".md", "LICENSE.txt"))
    ]


def test_a_folder_of_a_repository(get: Get) -> None:
    assert names(get(f"{URI}/openvino/")) == {"model.xml", "model.bin", "labels ü+%20.txt"}


def test_a_file_with_its_weights(get: Get) -> None:
    fetched = get(f"{URI}/onnx/model.onnx")
    assert names(fetched) == {"model.onnx", "model.onnx_data"}
    assert names(get(f"{URI}/openvino/model.xml")) == {"model.xml", "model.bin"}


def test_a_file(get: Get) -> None:
    digest = hashlib.sha256(b"2").hexdigest()
    fetched = get(f"{URI}/onnx/other.onnx", digest)
    assert (fetched.path.name, fetched.path.read_bytes(), fetched.sha256) == ("other.onnx", b"2", digest)
    assert get(f"{URI}/openvino/labels ü+%20.txt").path.read_bytes() == b"odd"


def test_data(hub: FakeHub, get: Get) -> None:
    hub.repositories["datasets/org/digits"] = Repository({"test.npz": b"npz"})
    assert get(f"hf://datasets/org/digits@{COMMIT}/test.npz").path.read_bytes() == b"npz"
    assert get(f"hf://datasets/org/digits@{COMMIT}").path.name == "test.npz", "a folder with one file is that file"


def test_the_digest_is_checked_when_it_is_given(get: Get) -> None:
    digest = get(URI).sha256
    assert get(URI, digest).sha256 == digest
    with pytest.raises(DigestMismatchError, match="the digest in the spec is wrong"):
        get(URI, "0" * 64)


def test_a_second_fetch_leaves_nothing_of_the_first(hub: FakeHub, get: Get) -> None:
    get(URI)
    hub.repositories["org/digits"] = Repository({"config.json": b"{}", "vocab.txt": b"a"})
    assert names(get(URI)) == {"config.json", "vocab.txt"}


def test_the_token_goes_to_the_hub_only(hub: FakeHub, get: Get) -> None:
    hub.repositories["org/digits"].private = True
    get(f"{URI}/onnx/other.onnx", token=TOKEN)
    shown = {(headers["host"].split(":")[0], headers.get("authorization")) for _, headers in hub.requests}
    assert shown == {("127.0.0.1", f"Bearer {TOKEN}"), ("localhost", None)}


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_gated_repository(token: str, hub: FakeHub, get: Get) -> None:
    hub.repositories["org/digits"].gated = True
    with pytest.raises(AccessError, match="org/digits is gated: accept its terms there, and give the token") as caught:
        get(URI, token=token)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "token", "error", "sentence"),
    [
        (f"hf://org/none@{COMMIT}", "", AccessError, r"there is no such repository, or it is .* in HF_TOKEN \(401\)"),
        (f"hf://org/none@{COMMIT}", TOKEN, NotFoundError, r"that the token may not see \(404\)"),
        (URI, "hf_other", AccessError, "the hub does not know this HF_TOKEN"),
        (f"hf://org/digits@{'0' * 40}", "", NotFoundError, "has no commit 0000"),
        (f"{URI}/none", "", NotFoundError, "no file and no folder 'none'"),
        (f"{URI}/none/model.onnx", "", NotFoundError, "no file and no folder 'none/model.onnx'"),
        (f"{URI}/onn", "", NotFoundError, "no file and no folder 'onn'"),
        (f"{URI}/pytorch_model.bin", "", BadInputError, "files such as PyTorch's can run code"),
        (f"{URI}/training.pt", "", BadInputError, "files such as PyTorch's can run code"),
        ("hf://org/digits@main", "", BadInputError, "`git ls-remote http://.*/org/digits HEAD` prints the newest"),
        ("hf://org/digits", "", BadInputError, "the form is hf://ORGANIZATION/NAME@COMMIT"),
        (f"hf://digits@{COMMIT}", "", BadInputError, "the form is hf://"),
        (f"{URI}/onnx/../config.json", "", BadInputError, "must not have . or .."),
        (f"{URI}/onnx//model.onnx", "", BadInputError, "must not have . or .."),
    ],
)
def test_what_is_refused(uri: str, token: str, error: type[StoreError], sentence: str, get: Get) -> None:
    with pytest.raises(error, match=sentence):
        get(uri, settings=replace(get.settings, patience_seconds=0), token=token)


def test_nothing_safe(hub: FakeHub, get: Get) -> None:
    pickles = ("pytorch_model.bin", "README.md", "model.h5", "a.ckpt", "b.pkl")
    hub.repositories["org/digits"] = Repository(dict.fromkeys(pickles, b""))
    with pytest.raises(BadInputError, match=r"nothing in it that is safe to read, but a\.ckpt, b\.pkl, model\.h5"):
        get(URI)
    assert not [path for path in hub.paths() if "resolve" in path]


def test_a_pickle_does_not_become_weights_by_a_file_beside_it(hub: FakeHub, get: Get) -> None:
    hub.repositories["org/digits"] = Repository({"pytorch_model.bin": b"", "pytorch_model.xml": b"<net/>"})
    assert get(URI).path.name == "pytorch_model.xml"


@pytest.mark.parametrize(("path", "algorithm"), [("onnx/model.onnx", "SHA-256"), ("config.json", "git blob's SHA-1")])
def test_other_bytes_than_the_hub_lists(path: str, algorithm: str, hub: FakeHub, get: Get) -> None:
    size = len(hub.repositories["org/digits"].files[path])
    hub.faults[path] = [Fault(content=bytes(size))]
    with pytest.raises(DigestMismatchError, match=f"{path}: the {algorithm} is .* something on the way"):
        get(f"{URI}/{path}")


def test_more_bytes_than_the_hub_lists(hub: FakeHub, get: Get) -> None:
    hub.faults["config.json"] = [Fault(content=b"{}" * 1000)]
    with pytest.raises(BadInputError, match="sends more than the 2 bytes"):
        get(f"{URI}/config.json")


@pytest.mark.parametrize("path", ["onnx/model.onnx", "tokenizer.model"])
def test_a_body_that_is_cut_off_is_continued(path: str, hub: FakeHub, get: Get) -> None:
    data = hub.repositories["org/digits"].files[path]
    hub.faults[path] = [Fault(stop_after=len(data) // 2)]
    fetched = get(f"{URI}/{path}")
    file = fetched.path if fetched.path.is_file() else fetched.path / "model.onnx"
    assert file.read_bytes() == data
    assert [headers["range"] for _, headers in hub.requests if "range" in headers]
    assert len(get.remarks) == 1


def test_a_body_that_stops_coming_is_continued(hub: FakeHub, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_SECONDS", 0.2)
    hub.faults["onnx/other.onnx"] = [Fault(content=bytes(10), hold_after=4), Fault()]
    hub.repositories["org/digits"].files["onnx/other.onnx"] = bytes(10)
    assert get(f"{URI}/onnx/other.onnx").path.read_bytes() == bytes(10)
    assert "ReadTimeout" in get.remarks[0]


@pytest.mark.parametrize("name", ["tree:org/digits", "config.json"])
def test_a_rate_limit_is_waited_for(name: str, hub: FakeHub, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setitem(transport.patiently.__kwdefaults__ or {}, "sleep", waits.append)
    hub.faults[name] = [Fault(429, {"Retry-After": "7"})]
    get(f"{URI}/config.json")
    assert waits == [7.0]


def test_a_rate_limit_beyond_our_patience(hub: FakeHub, get: Get) -> None:
    hub.faults["config.json"] = [Fault(429, {"Retry-After": "3600"})]
    with pytest.raises(UnreachableError, match="answered 429"):
        get(f"{URI}/config.json")
    assert len([path for path in hub.paths() if "resolve" in path]) == 1, "it is not asked before it wants to be"


def test_too_much_is_refused_before_it_is_fetched(hub: FakeHub, get: Get) -> None:
    with pytest.raises(TooLargeError, match=r"10 files of \d+ bytes are more than .* name one of its folders or files"):
        get(URI, settings=replace(get.settings, max_bytes=1000))
    hub.repositories["org/digits"] = Repository({f"{number}.json": b"" for number in range(1001)})
    with pytest.raises(TooLargeError, match="1001 files"):
        get(URI)
    assert not [path for path in hub.paths() if "resolve" in path]


def test_a_repository_of_countless_files(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_ENTRIES", 10)
    with pytest.raises(TooLargeError, match="more than 10 files; name a folder"):
        get(URI)


@pytest.mark.parametrize("name", ["../escaped.json", "/etc/escaped.json", "a.json/b.json", f"{'n' * 256}.json"])
def test_a_name_that_cannot_be_a_file_beside_the_others(name: str, hub: FakeHub, get: Get) -> None:
    hub.repositories["org/digits"] = Repository({name: b"", "a.json": b""})
    with pytest.raises(BadInputError, match=rf"hf://org/digits@{COMMIT}: the file '({name}|a\.json)' "):
        get(URI)
    assert not [path for path in hub.paths() if "resolve" in path]


def test_a_model_may_be_called_like_a_text_for_people(hub: FakeHub, get: Get) -> None:
    hub.repositories["org/digits"] = Repository({"notice-board.onnx": b"1", "NOTICE.txt": b"", "Use_Policy-2.txt": b""})
    assert get(URI).path.name == "notice-board.onnx"


@pytest.mark.parametrize("content", [b"<html>", b"{}", b"[1]", b'[{"type": "file"}]', b'{"error": "no"}'])
def test_what_is_no_hub(content: bytes, hub: FakeHub, get: Get) -> None:
    hub.faults["tree:org/digits"] = [Fault(content=content)]
    with pytest.raises(AccessError, match="not a listing of the Hugging Face hub; is the endpoint right"):
        get(URI)


def test_plain_http_must_be_allowed(hub: FakeHub, get: Get) -> None:
    with pytest.raises(AccessError, match="would be asked by plain HTTP"):
        get(URI, settings=replace(get.settings, allow_http=False))
    assert hub.requests == []
    only_the_hub = replace(get.settings, allow_http=False, insecure=frozenset({f"127.0.0.1:{hub.port}"}))
    with pytest.raises(AccessError, match="localhost would be asked by plain HTTP") as caught:
        get(f"{URI}/onnx/other.onnx", settings=only_the_hub)
    assert SIGNATURE not in str(caught.value)


def test_the_usual_endpoint() -> None:
    assert StoreSettings.from_env({}).hub_endpoint == "https://huggingface.co"
    assert StoreSettings.from_env({"HF_ENDPOINT": "https://mirror/"}).hub_endpoint == "https://mirror"
    assert store.Repository.parse(URI, "https://mirror").page == "org/digits"
