"""Artifacts as OCI images: a config with `diff_ids` and plain tar layers, which every container runtime can mount.

A "pure" OCI artifact mounted by containerd gives a running pod with an empty folder and no error; so whatever is going
to be mounted is made here and checked with `assert_mountable`. Equal files give equal digests: nothing of the time or
the machine goes into a layer.
"""

import hashlib
import json
import platform
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skerry.store.errors import BadInputError, UnsafeArchiveError
from skerry.store.references import Reference
from skerry.store.registry import IMAGE_CONFIG_TYPE, MANIFEST_TYPE, Registry
from skerry.store.settings import Credentials, StoreSettings
from skerry.store.trees import safe_target, unpack_tar

LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
TITLE: Final = "org.opencontainers.image.title"
UNPACK_TITLE: Final = "io.deis.oras.content.unpack"
_FILE_MODE: Final = 0o644
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def architecture() -> str:
    """Return this machine's architecture in the words of OCI and Kubernetes."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Layer:
    """The files of one layer: names below the image's root, and where they are now."""

    files: Mapping[str, Path]


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
) -> Pushed:
    """Push files as an image that can be mounted and return its digest.

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
            registry.upload(reference, path, digest)
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
        return Pushed(registry.put_manifest(reference, manifest), total)


def push_document(
    document: bytes,
    name: str,
    reference: Reference,
    *,
    artifact_type: str,
    settings: StoreSettings,
    credentials: Credentials,
    work: Path,
) -> str:
    """Push one document as an artifact that ORAS reads; it is not for mounting. Return its digest."""
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        Registry(reference.host, settings, credentials) as registry,
    ):
        empty, empty_digest = _blob(Path(folder), b"{}")
        registry.upload(reference, empty, empty_digest)
        path, digest = _blob(Path(folder), document)
        registry.upload(reference, path, digest)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": EMPTY_TYPE, "digest": empty_digest, "size": 2},
            "layers": [
                {
                    "mediaType": artifact_type,
                    "digest": digest,
                    "size": len(document),
                    "annotations": {TITLE: name},
                }
            ],
        }
        return registry.put_manifest(reference, manifest)


def assert_mountable(manifest: Mapping[str, Any], reference: str) -> None:
    """Refuse what containerd would mount as an empty folder.

    Raises:
        BadInputError: The manifest is not that of an image with layers.
    """
    config = manifest.get("config", {}).get("mediaType")
    layers = manifest.get("layers", [])
    if config != IMAGE_CONFIG_TYPE or not layers:
        message = (
            f"{reference} is not an OCI image (its config is {config}): container runtimes would mount it as an empty "
            "folder; convert it once with `skerry pull` and `skerry push`"
        )
        raise BadInputError(message)


def pull(
    reference: Reference,
    folder: Path,
    *,
    settings: StoreSettings,
    credentials: Credentials,
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Write an artifact's files into a folder and return the manifest's digest.

    Images and layers of type tar are unpacked; layers with a title (what ORAS pushes) become files of that name.

    Raises:
        BadInputError: There is nothing to write, or it must not be unpacked.
    """
    with Registry(reference.host, settings, credentials) as registry:
        manifest, digest = registry.manifest(reference)
        total = sum(int(layer["size"]) for layer in manifest["layers"])
        if total > settings.max_bytes:
            message = f"{reference.uri} has {total} bytes; the limit is {settings.max_bytes}"
            raise BadInputError(message)
        folder.mkdir(parents=True, exist_ok=True)
        for layer in manifest["layers"]:
            _layer(registry, reference, layer, folder, settings.max_bytes, progress)
    if not any(path.is_file() for path in folder.rglob("*")):
        message = f"{reference.uri} holds no files"
        raise BadInputError(message)
    return digest


def _layer(
    registry: Registry,
    reference: Reference,
    layer: dict[str, Any],
    folder: Path,
    limit: int,
    progress: Callable[[int], None],
) -> None:
    annotations = layer.get("annotations", {})
    title = annotations.get(TITLE)
    media = str(layer["mediaType"])
    blob = folder / f".{str(layer['digest']).removeprefix('sha256:')}"
    try:
        registry.download(reference, layer, blob, progress)
        if title is not None and annotations.get(UNPACK_TITLE) != "true" and not _is_tar(media):
            target = safe_target(folder, title)
            target.parent.mkdir(parents=True, exist_ok=True)
            blob.rename(target)
        elif _is_tar(media) or annotations.get(UNPACK_TITLE) == "true":
            unpack_tar(blob, folder, max_bytes=limit)
        else:
            message = f"{reference.uri} has a layer of type {media} without a title: its file name is not known"
            raise UnsafeArchiveError(message)
    finally:
        if not blob.exists() or blob.stat().st_size == int(layer["size"]):
            blob.unlink(missing_ok=True)  # a part of a blob stays, to be continued


def _is_tar(media: str) -> bool:
    return media.endswith((".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd"))
