"""Which images are already in a node: names, and marks that say from what they were loaded."""

import io
import json
import re
import tarfile
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from devcluster.errors import DevclusterError

MARK = "dev.skerry.devcluster.source"
MARK_LENGTH = 32


@dataclass(frozen=True)
class Wanted:
    """An image that nodes shall have.

    Attributes:
        name: Its full name, as containerd keeps it.
        mark: What stands for its content.
    """

    name: str
    mark: str


def full_name(reference: str) -> str:
    """Return a reference with the registry, the folder and the tag that an engine adds by itself."""
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif not re.search(r"[.:]", first) and first != "localhost":
        reference = f"docker.io/{reference}"
    return reference if re.search(r"[:@]", reference.rsplit("/", 1)[1]) else f"{reference}:latest"


def short_name(reference: str) -> str:
    """Return what people call an image: the last part of its name, without tag or digest."""
    return re.split("[:@]", reference.rsplit("/", 1)[-1])[0]


def archive_images(path: Path) -> list[Wanted]:
    """Return the images of an archive as `docker save` or an OCI tool wrote it.

    Raises:
        DevclusterError: It is no such archive, or the images in it have no names.
    """
    try:
        with tarfile.open(path) as archive:
            members = set(archive.getnames())
            listing = "manifest.json" if "manifest.json" in members else "index.json"
            with archive.extractfile(listing) or io.BytesIO() as content:
                found = json.load(content)
    except (tarfile.TarError, KeyError, ValueError) as error:
        message = f"{path} is no image archive (a tar with manifest.json or index.json): {error}"
        raise DevclusterError(message) from error
    if listing == "manifest.json":
        named = [name for image in found for name in image.get("RepoTags") or []]
    else:
        annotations = [entry.get("annotations", {}) for entry in found.get("manifests", [])]
        keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
        named = [next((notes[key] for key in keys if key in notes), "") for notes in annotations]
    if not named or not all("/" in name or ":" in name for name in named):
        message = f"the images in {path} have no names: save them by name, for example with `podman save NAME:TAG`"
        raise DevclusterError(message)
    with path.open("rb") as stream:
        mark = file_digest(stream, "sha256").hexdigest()[:MARK_LENGTH]
    return [Wanted(full_name(name), mark) for name in named]


def present(listing: str) -> set[Wanted]:
    """Return the marked images in the output of `ctr images ls`: the first column is the name, the last the labels."""
    found = set()
    for line in listing.splitlines():
        if mark := re.search(rf"(?:^|[\s,]){re.escape(MARK)}=([0-9a-f]+)", line):
            found.add(Wanted(line.split()[0], mark.group(1)))
    return found


def mark_script(images: list[Wanted]) -> str:
    """Return a script that marks images in a node."""
    return " && ".join(
        f"ctr -n k8s.io images label '{image.name}' '{MARK}={image.mark}' >/dev/null" for image in images
    )
