"""A repository of the Hugging Face hub or of a mirror of it, at one commit; only files that cannot run code.

httpx, and not huggingface_hub: that brings an HTTP library of its own, a program in Rust that does not know the
authorities of a site, and settings that it reads once from the environment; what is needed is to list and to get.
"""

import hashlib
import re
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

import httpx

from skerry.store import transport, trees
from skerry.store.download import Download
from skerry.store.errors import (
    AccessError,
    BadInputError,
    DigestMismatchError,
    NotFoundError,
    TooLargeError,
)
from skerry.store.registry import Advance
from skerry.store.settings import HUB_TOKEN, StoreSettings

SCHEME: Final = "hf://"
MAX_FILES: Final = 1000
_URI: Final = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repository>[A-Za-z0-9][\w.-]*/\w[\w.-]*)@(?P<commit>[0-9a-f]{40})(/(?P<path>.*))?",
    re.ASCII,
)
_SAFE: Final = frozenset(
    # Weights and graphs, configuration, what tokenizers are made of, data.
    (
        ".safetensors",
        ".gguf",
        ".onnx",
        ".tflite",
        ".keras",
        ".xml",
        ".json",
        ".txt",
        ".model",
        ".spm",
        ".tiktoken",
        ".jinja",
        ".npz",
    )
)
_ONNX_DATA: Final = re.compile(r"\.onnx([._]data(_\d+)?|\.weights)$")
_FOR_PEOPLE: Final = re.compile(r"(readme|licen[sc]e|notice|copying|use_policy)[^.]*\.txt", re.IGNORECASE)
_PICKLES: Final = frozenset((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".joblib", ".npy"))
_SHOWN: Final = 5
_BAD_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105 - what the hub says then


@dataclass(frozen=True)
class Repository:
    """What an hf:// URI names.

    Attributes:
        name: ORGANIZATION/NAME.
        commit: The revision, 40 hexadecimal digits.
        path: A file or a folder in it; empty: all of it.
        kind: `models` or `datasets`.
    """

    name: str
    commit: str
    path: str
    kind: str

    @staticmethod
    def parse(uri: str, endpoint: str) -> "Repository":
        """Read a URI; the path is taken as it stands, without percent-encoding.

        Raises:
            BadInputError: It has not the form hf://ORGANIZATION/NAME@COMMIT/PATH.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            repository = uri.removeprefix(SCHEME).partition("@")[0]
            message = (
                f"{uri}: the form is hf://ORGANIZATION/NAME@COMMIT[/PATH], COMMIT being 40 digits and no branch; "
                f"`git ls-remote {endpoint}/{repository} HEAD` prints the newest"
            )
            raise BadInputError(message)
        path = (found["path"] or "").strip("/")
        if not {".", "..", ""}.isdisjoint(path.split("/")) and path:
            message = f"{uri}: the path must not have . or .. or nothing between slashes"
            raise BadInputError(message)
        return Repository(found["repository"], found["commit"], path, "datasets" if found["datasets"] else "models")

    @property
    def page(self) -> str:
        """Path of the repository's page on the hub."""
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Entry:
    """One file as the hub lists it.

    Attributes:
        path: Its path in the repository.
        size: Its bytes.
        blob: What git calls it, a SHA-1; of the pointer where the file is in LFS.
        sha256: SHA-256 where it is in LFS.
    """

    path: str
    size: int
    blob: str
    sha256: str | None

    @staticmethod
    def of(item: dict[str, Any]) -> "Entry":
        """Read an item of the hub's listing."""
        large = item.get("lfs") or {}
        return Entry(str(item["path"]), int(item["size"]), str(item["oid"]), large.get("oid"))

    def verify(self, path: Path, what: str) -> None:
        """Compare what was fetched with the listing.

        Raises:
            DigestMismatchError: It is something else.
        """
        reason = "what serves it, or something on the way, changed it"
        if self.sha256 is not None:
            if (found := trees.file_sha256(path)) != self.sha256:
                raise DigestMismatchError(what, self.sha256, found, reason=reason)
        elif (found := _blob(path)) != self.blob:
            raise DigestMismatchError(what, self.blob, found, algorithm="git blob's SHA-1", reason=reason)


def _blob(path: Path) -> str:
    total = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(trees.CHUNK):
            total.update(chunk)
    return total.hexdigest()


def selected(entries: Sequence[Entry], repository: Repository) -> list[Entry]:
    """Return the files that are fetched: of those that the path names, the ones that cannot run code.

    A file that is named comes with its weights, where they are in a file of their own.

    Raises:
        NotFoundError: The path names nothing.
        BadInputError: What it names is not safe.
    """
    path = repository.path
    named = [entry for entry in entries if entry.path == path]
    if named:
        named += [entry for entry in entries if _belongs(entry.path, path)]
    else:
        named = [entry for entry in entries if not path or entry.path.startswith(f"{path}/")]
    if not named:
        message = f"{repository.name} has no file and no folder {path!r} at {repository.commit}"
        raise NotFoundError(message)
    known = {entry.path for entry in entries}
    safe = [entry for entry in named if _is_safe(entry.path, known)]
    if safe and (safe[0] is named[0] or named[0].path != path):
        return safe
    shown = ", ".join(entry.path for entry in sorted(named, key=_pickle_first)[:_SHOWN])
    message = (
        f"{SCHEME}{repository.page}@{repository.commit}: there is nothing in {path or 'it'} that is safe to read, but "
        f"{shown}{' and more' if len(named) > _SHOWN else ''}; files such as PyTorch's can run code when they are "
        f"loaded and are never fetched: name a repository with ONNX, OpenVINO IR or safetensors, or export to one"
    )
    raise BadInputError(message)


def _belongs(path: str, main: str) -> bool:
    """Tell whether a file holds the weights of another one, beside it."""
    if main.endswith(".onnx"):
        return path.startswith(main) and _ONNX_DATA.search(path) is not None
    return main.endswith(".xml") and path == f"{main.removesuffix('.xml')}.bin"


def _is_safe(path: str, known: set[str]) -> bool:
    pure = PurePosixPath(path)
    if pure.name.startswith(".") or _FOR_PEOPLE.fullmatch(pure.name):
        return False
    if pure.suffix == ".bin":  # OpenVINO's weights, and PyTorch's pickles
        return path.removesuffix(".bin") + ".xml" in known and not pure.name.startswith("pytorch_model")
    return pure.suffix in _SAFE or _ONNX_DATA.search(path) is not None


def _pickle_first(entry: Entry) -> tuple[bool, str]:
    return PurePosixPath(entry.path).suffix not in _PICKLES, entry.path


def _entries(items: Any) -> list[Entry]:
    """Return the files of a page of a listing; what is no listing raises what reading it meets."""
    if not isinstance(items, list):
        raise TypeError
    return [Entry.of(item) for item in items if item["type"] == "file"]


class _Bearer(httpx.Auth):
    """Shows the token; httpx takes it away where another host is redirected to."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


class Hub:
    """The hub or its mirror, for reading."""

    def __init__(
        self, settings: StoreSettings, token: str, listeners: tuple[transport.Notify, Advance], client: httpx.Client
    ) -> None:
        self._settings = settings
        self._auth = _Bearer(token) if token else None
        self._notify, self._advance = listeners
        self._client = client

    def fetch(self, repository: Repository, folder: Path) -> Path:
        """Bring what is safe into a new folder; return the file that was named, or the folder.

        Raises:
            BadInputError: Nothing is safe, or it is not what the hub lists.
            UnreachableError: The hub did not answer for the settings' patience.
            AccessError: The hub wants another token.
        """
        parent = repository.path.rpartition("/")[0]
        entries = selected(self._listing(repository, parent), repository)
        self._limit(entries, repository)
        shutil.rmtree(folder, ignore_errors=True)
        base = repository.path if entries[0].path != repository.path else parent
        names = {entry.path.removeprefix(f"{base}/" if base else ""): entry for entry in entries}
        try:
            targets = trees.safe_targets(folder, names)
        except BadInputError as error:
            message = f"{SCHEME}{repository.page}@{repository.commit}: the file {error}"
            raise BadInputError(message) from error
        for name, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file(repository, names[name], target)
        return next(iter(targets.values())) if [entry.path for entry in entries] == [repository.path] else folder

    def _limit(self, entries: Sequence[Entry], repository: Repository) -> None:
        """Refuse what is too much before anything is fetched."""
        size, limit = sum(entry.size for entry in entries), self._settings.max_bytes
        if size > limit or len(entries) > MAX_FILES:
            message = (
                f"{SCHEME}{repository.page}@{repository.commit}: {len(entries)} files of {size} bytes are more than "
                f"the limits of {MAX_FILES} files and {limit} bytes; name one of its folders or files, as in …/onnx"
            )
            raise TooLargeError(message)

    def _listing(self, repository: Repository, folder: str) -> list[Entry]:
        url = f"{self._settings.hub_endpoint}/api/{repository.kind}/{repository.name}/tree/{repository.commit}"
        url += f"/{quote(folder)}" if folder else ""
        entries: list[Entry] = []
        cursor: str | None = ""
        while cursor is not None:
            items, cursor = transport.patiently(
                lambda: self._page(url, cursor, repository),  # noqa: B023 - called at once
                seconds=self._settings.patience_seconds,
                notify=self._notify,
            )
            entries += items
            if len(entries) > trees.MAX_ENTRIES:
                message = f"{url}: more than {trees.MAX_ENTRIES} files; name a folder of the repository"
                raise TooLargeError(message)
        return entries

    def _page(self, url: str, cursor: str, repository: Repository) -> tuple[list[Entry], str | None]:
        """Return one page of a listing, and the cursor of the next."""
        auth = self._auth or httpx.USE_CLIENT_DEFAULT
        query = {"recursive": "true", **({"cursor": cursor} if cursor else {})}
        with transport.mapped(url):
            response = self._client.get(url, params=query, auth=auth)
        self._check(response, url, repository)
        try:
            items = _entries(response.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{url}: the answer is not a listing of the Hugging Face hub; is the endpoint right?"
            raise AccessError(message) from error
        # Of the link only the cursor: a mirror's may name the hub itself, which must not see the mirror's token.
        following = response.links.get("next", {}).get("url")
        return items, httpx.URL(following).params.get("cursor") if following else None

    def _check(self, response: httpx.Response, url: str, repository: Repository) -> None:
        """Raise what an answer means; the hub has error codes of its own."""
        page = f"{self._settings.hub_endpoint}/{repository.page}"
        code = response.headers.get("X-Error-Code", "")
        if code == "GatedRepo":
            message = (
                f"{page} is gated: accept its terms there, and give the token of that account as {HUB_TOKEN} in the "
                "credentials Secret or the environment"
            )
            raise AccessError(message)
        if code == "RevisionNotFound":
            message = f"{page} has no commit {repository.commit}; `git ls-remote {page} HEAD` prints the newest"
            raise NotFoundError(message)
        if code == "EntryNotFound":
            message = f"{page} has no file and no folder {repository.path!r} at {repository.commit}"
            raise NotFoundError(message)
        if response.headers.get("X-Error-Message") == _BAD_TOKEN:
            message = f"{page}: the hub does not know this {HUB_TOKEN}, or it has expired"
            raise AccessError(message)
        # The hub answers 401 for what does not exist to those who show no token.
        if code == "RepoNotFound" or response.status_code == httpx.codes.UNAUTHORIZED:
            hint = "that the token may not see" if self._auth else f"that wants a token, in {HUB_TOKEN}"
            message = f"{page}: there is no such repository, or it is a private one {hint} ({response.status_code})"
            raise NotFoundError(message) if response.status_code == httpx.codes.NOT_FOUND else AccessError(message)
        transport.check(response, url)

    def _file(self, repository: Repository, entry: Entry, target: Path) -> None:
        url = f"{self._settings.hub_endpoint}/{repository.page}/resolve/{repository.commit}/{quote(entry.path)}"
        download = Download(
            url,
            target,
            auth=self._auth,
            max_bytes=entry.size,
            advance=self._advance,
            check=lambda response, what: self._check(response, what, repository),
        )
        try:
            transport.patiently(
                lambda: download.attempt(self._client), seconds=self._settings.patience_seconds, notify=self._notify
            )
        except TooLargeError as error:
            message = f"{url}: the server sends more than the {entry.size} bytes that the hub lists"
            raise BadInputError(message) from error
        entry.verify(target, url)
