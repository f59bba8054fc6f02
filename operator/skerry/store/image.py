"""Artifacts as OCI images: a config with `diff_ids` and plain tar layers, which every container runtime can mount.

A "pure" OCI artifact mounted by containerd gives a running pod with an empty folder and no error; so whatever is going
to be mounted is made here and checked with `assert_mountable`. Equal files give equal digests: nothing of the time or
the machine goes into a layer.
"""

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from skerry.api.machines import architecture
from skerry.store import descriptors, transport, trees
from skerry.store.descriptors import TITLE, Descriptor
from skerry.store.errors import BadInputError, TooLargeError, UnsafeArchiveError
from skerry.store.references import Reference
from skerry.store.registry import IMAGE_CONFIG_TYPE, MANIFEST_TYPE, Advance, Registry
from skerry.store.settings import Credentials, StoreSettings

LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
MOUNTABLE_LAYERS: Final = {LAYER_TYPE, f"{LAYER_TYPE}+gzip", f"{LAYER_TYPE}+zstd"}
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
STAGING: Final = ".skerry-pull"
"""Folder inside the target in which files wait until all of them are there: only a mount point may be writable."""
_FILE_MODE: Final = 0o644


@dataclass(frozen=True)
class Layer:
    """The files of one layer: names below the image's root, and where they are now."""

    files: Mapping[str, Path]


@dataclass(frozen=True)
class Document:
    """A file that is read, not mounted: its name, its media type and its bytes."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Pushed:
    """What was stored: the manifest's digest, and the bytes of all layers."""

    digest: str
    size_bytes: int


def _plain(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = _FILE_MODE
    return info


def _pack(layer: Layer, target: Path) -> str:
    """Write a layer and return its digest, which for a plain tar is its diff_id as well."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(layer.files):
            path = layer.files[name]
            with path.open("rb") as stream:
                archive.addfile(_plain(name, path.stat().st_size), stream)
    with target.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def _blob(folder: Path, data: bytes) -> tuple[Path, str]:
    digest = hashlib.sha256(data).hexdigest()
    path = folder / digest
    path.write_bytes(data)
    return path, f"sha256:{digest}"


def push_image(
    layers: Sequence[Layer],
    reference: Reference,
    *,
    artifact_type: str,
    annotations: Mapping[str, str],
    settings: StoreSettings,
    credentials: Credentials,
    work: Path,
    advance: Advance = lambda _: None,
) -> Pushed:
    """Push files as an image that can be mounted and return its digest.

    `advance` is told of the layers' bytes as they are sent, or found in the registry.

    Raises:
        UnreachableError, AccessError: The registry cannot be written.
    """
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        Registry(reference.host, settings, credentials) as registry,
    ):
        descriptors, diff_ids, total = [], [], 0
        for number, layer in enumerate(layers):
            path = Path(folder) / f"layer{number}"
            digest = _pack(layer, path)
            registry.upload(reference, path, digest, advance)
            size = path.stat().st_size
            total += size
            diff_ids.append(digest)
            descriptors.append({"mediaType": LAYER_TYPE, "digest": digest, "size": size})
            path.unlink()
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        path, digest = _blob(Path(folder), json.dumps(config, sort_keys=True).encode())
        registry.upload(reference, path, digest)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": IMAGE_CONFIG_TYPE, "digest": digest, "size": path.stat().st_size},
            "layers": descriptors,
            "annotations": dict(annotations),
        }
        digest = registry.put_manifest(reference, manifest)
        # Asked for again: a registry that rewrites what it is given would have pods mount an empty folder.
        stored, _ = registry.manifest(reference.pinned(digest), push=True)
        assert_mountable(stored, reference.uri)
        return Pushed(digest, total)


def push_documents(
    documents: Sequence[Document],
    reference: Reference,
    *,
    artifact_type: str,
    settings: StoreSettings,
    credentials: Credentials,
    work: Path,
) -> str:
    """Push documents as an artifact that ORAS reads; it is not for mounting. Return its digest.

    Raises:
        UnreachableError, AccessError: The registry cannot be written.
    """
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        Registry(reference.host, settings, credentials) as registry,
    ):
        empty, empty_digest = _blob(Path(folder), b"{}")
        registry.upload(reference, empty, empty_digest)
        layers = []
        for document in documents:
            path, digest = _blob(Path(folder), document.content)
            registry.upload(reference, path, digest)
            layers.append(
                {
                    "mediaType": document.media_type,
                    "digest": digest,
                    "size": len(document.content),
                    "annotations": {TITLE: document.name},
                }
            )
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": EMPTY_TYPE, "digest": empty_digest, "size": 2},
            "layers": layers,
        }
        return registry.put_manifest(reference, manifest)


def assert_mountable(manifest: Mapping[str, Any], reference: str) -> None:
    """Refuse what containerd would mount as an empty folder, or not at all.

    Raises:
        BadInputError: The manifest is not that of an image with layers.
    """
    config = manifest.get("config")
    kind = config.get("mediaType") if isinstance(config, Mapping) else None
    others = {layer.media_type for layer in descriptors.layers(manifest, reference)} - MOUNTABLE_LAYERS
    if kind != IMAGE_CONFIG_TYPE or others:
        found = f"its config is {kind}" if kind != IMAGE_CONFIG_TYPE else f"it has layers of type {', '.join(others)}"
        message = (
            f"{reference} is not an OCI image ({found}): container runtimes would mount it as an empty folder or "
            "not at all; convert it once with `skerry pull` and `skerry push`"
        )
        raise BadInputError(message)


def pull(
    reference: Reference,
    folder: Path,
    *,
    settings: StoreSettings,
    credentials: Credentials,
    notify: Callable[[str], None] = lambda _: None,
    begin: Callable[[int], None] = lambda _: None,
    advance: Advance = lambda _: None,
) -> str:
    """Write an artifact's files into a folder and return the manifest's digest.

    Images and layers of type tar are unpacked; layers with a title (what ORAS pushes) become files of that name. A
    transfer that breaks off goes on where it was. The folder gets all files or none; what is there under the same names
    is replaced.

    Args:
        reference: What to pull.
        folder: Where to write; made when it is not there.
        settings: How to reach the registry, and for how long to try.
        credentials: Who we are.
        notify: Is told when something is tried again.
        begin: Is told the bytes of all layers.
        advance: Is told by how many bytes the transfer advanced.

    Raises:
        BadInputError: There is nothing to write, or it must not be unpacked.
        UnreachableError: The registry did not answer for `settings.patience_seconds`.
        AccessError: The registry denies access, or cannot be trusted.
    """
    patiently = partial(transport.patiently, seconds=settings.patience_seconds, notify=notify)
    with Registry(reference.host, settings, credentials) as registry:
        manifest, digest = patiently(lambda: registry.manifest(reference))
        layers = descriptors.layers(manifest, reference.uri)
        total = sum(layer.size for layer in layers)
        if total > settings.max_bytes:
            message = f"{reference.uri} has {total} bytes; the limit is {settings.max_bytes}"
            raise TooLargeError(message)
        begin(total)
        staging = folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        tree = staging / "tree"
        tree.mkdir(parents=True)
        try:
            for layer in layers:
                blob = staging / layer.hexadecimal
                patiently(partial(registry.download, reference, layer, blob, advance))
                _place(layer, blob, tree, settings.max_bytes - trees.size(tree), reference.uri)
                blob.unlink(missing_ok=True)
            _publish(tree, folder, reference.uri)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return digest


def _place(layer: Descriptor, blob: Path, tree: Path, limit: int, what: str) -> None:
    """Bring a layer's content into the tree."""
    if layer.is_tar:
        trees.unpack_tar(blob, tree, max_bytes=limit)
    elif layer.title is not None:
        target = trees.safe_target(tree, layer.title)
        if target.exists():
            message = f"{what} has two files named {layer.title!r}"
            raise UnsafeArchiveError(message)
        target.parent.mkdir(parents=True, exist_ok=True)
        blob.rename(target)
    else:
        message = (
            f"{what} has a layer of type {layer.media_type}, which is neither a tar archive (plain or with gzip) nor a "
            f"file with the annotation {TITLE}: how to unpack it is not known"
        )
        raise UnsafeArchiveError(message)


def _publish(tree: Path, folder: Path, what: str) -> None:
    """Move what the tree holds into the folder."""
    if not any(path.is_file() for path in tree.rglob("*")):
        message = f"{what} holds no files"
        raise BadInputError(message)
    for entry in tree.iterdir():
        target = folder / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        entry.replace(target)
