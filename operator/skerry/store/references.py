"""References of OCI artifacts. This module imports nothing heavy: the operator uses it as well."""

import re
from dataclasses import dataclass, replace
from typing import Final

from skerry.store.errors import BadInputError

SCHEME: Final = "oci://"
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_PATH: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
_LAST_PORT: Final = 65535
_REFERENCE: Final = re.compile(
    rf"(?P<host>{_HOST})/(?P<path>{_PATH})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """A name of an artifact: `host/path[:tag][@digest]`, with at least one of tag and digest."""

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @staticmethod
    def parse(text: str) -> "Reference":
        """Read a reference, with or without `oci://` before it.

        Raises:
            BadInputError: It is not of the form, or names neither tag nor digest.
        """
        found = _REFERENCE.fullmatch(text.removeprefix(SCHEME))
        if found is None:
            message = (
                f"{text!r} is not a reference of the form oci://REGISTRY[:PORT]/REPOSITORY:TAG or …@sha256:DIGEST, "
                "REPOSITORY in lower case"
            )
            raise BadInputError(message)
        port = found["host"].rpartition("]")[2].partition(":")[2]
        if port and not 0 < int(port) <= _LAST_PORT:
            message = f"{text!r}: there is no port {port}"
            raise BadInputError(message)
        if found["tag"] is None and found["digest"] is None:
            message = f"{text!r} names neither a tag nor a digest: add :TAG or @sha256:DIGEST"
            raise BadInputError(message)
        return Reference(found["host"], found["path"], found["tag"], found["digest"])

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    @property
    def selector(self) -> str:
        """What a registry's API calls the reference: the digest, else the tag."""
        return self.digest or self.tag or ""

    def pinned(self, digest: str) -> "Reference":
        """Return the same repository, by digest only."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    @property
    def uri(self) -> str:
        """The reference with its scheme."""
        return f"{SCHEME}{self}"
