"""What a manifest says of its layers, read with suspicion: registries are not ours, and neither are their manifests."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from skerry.store.errors import BadInputError

TITLE: Final = "org.opencontainers.image.title"
UNPACK_TITLE: Final = "io.deis.oras.content.unpack"
MAX_LAYERS: Final = 127
"""Most layers of one artifact, the limit of container runtimes."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TAR: Final = (".tar", ".tar+gzip", ".tar.gzip")


@dataclass(frozen=True)
class Descriptor:
    """One blob that a manifest names."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def hexadecimal(self) -> str:
        """The digest without its algorithm: a safe file name."""
        return self.digest.removeprefix("sha256:")

    @property
    def title(self) -> str | None:
        """The file name that ORAS and ModelPack give a layer."""
        return self.annotations.get(TITLE)

    @property
    def is_tar(self) -> bool:
        """Whether the blob is a tar archive to be unpacked."""
        return self.media_type.endswith(_TAR) or self.annotations.get(UNPACK_TITLE) == "true"

    @staticmethod
    def parse(raw: Any, what: str) -> "Descriptor":
        """Read a descriptor; `what` begins the message of an error.

        Raises:
            BadInputError: A field is missing, or of another form than the OCI specification has it.
        """
        if not isinstance(raw, dict):
            message = f"{what}: a layer is not described by an object"
            raise BadInputError(message)
        media, digest, size = raw.get("mediaType"), raw.get("digest"), raw.get("size")
        annotations = {} if raw.get("annotations") is None else raw["annotations"]
        if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
            message = f"{what}: {digest!r} is not a digest of the form sha256:… with 64 hexadecimal digits"
            raise BadInputError(message)
        if not isinstance(media, str) or isinstance(size, bool) or not isinstance(size, int) or size < 0:
            message = f"{what}: the layer {digest} has no valid media type and size ({media!r}, {size!r})"
            raise BadInputError(message)
        if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
            message = f"{what}: the annotations of the layer {digest} are not texts"
            raise BadInputError(message)
        return Descriptor(media, digest, size, annotations)


def layers(manifest: Mapping[str, Any], what: str) -> list[Descriptor]:
    """Return the layers of a manifest.

    Raises:
        BadInputError: There is none, there are too many, or one is malformed.
    """
    raw = manifest.get("layers")
    if not isinstance(raw, list) or not raw:
        message = f"{what}: it has no layers"
        raise BadInputError(message)
    if len(raw) > MAX_LAYERS:
        message = f"{what}: it has {len(raw)} layers; at most {MAX_LAYERS} are supported"
        raise BadInputError(message)
    return [Descriptor.parse(layer, what) for layer in raw]
