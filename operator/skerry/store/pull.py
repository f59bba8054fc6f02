"""`python -m skerry.store.pull REFERENCE FOLDER`: what an init container does where image volumes are not supported."""

import os
import sys
from pathlib import Path
from typing import Final

from skerry.api import jobcontract
from skerry.api.jobcontract import ExitCode
from skerry.store import image
from skerry.store.errors import BadInputError, StoreError, UnreachableError
from skerry.store.references import Reference
from skerry.store.settings import Credentials, StoreSettings

MARKER: Final = ".skerry-digest"
"""File beside the artifact's with the digest of what was pulled."""
_ARGUMENTS: Final = 3


def _ensure(reference: Reference, folder: Path, settings: StoreSettings, credentials: Credentials) -> None:
    """Pull, unless the folder holds the pinned artifact already.

    After a node's restart init containers run again on the same volume, and the registry may be out of reach then.
    """
    marker = folder / MARKER
    if reference.digest is not None and marker.is_file() and marker.read_text(encoding="utf-8") == reference.digest:
        return
    marker.unlink(missing_ok=True)
    digest = image.pull(
        reference,
        folder,
        settings=settings,
        credentials=credentials,
        notify=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201 - the pod's log
    )
    marker.write_text(digest, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Pull; exit with a code of `skerry.api.jobcontract.ExitCode` and one clear message."""
    if len(arguments) != _ARGUMENTS:
        sys.stderr.write("usage: python -m skerry.store.pull REFERENCE FOLDER\n")
        return ExitCode.BAD_CONFIGURATION
    try:
        settings = StoreSettings.from_env(os.environ)
        secret = os.environ.get(jobcontract.ENV_SOURCE_CREDENTIALS)
        reference = Reference.parse(arguments[1])
        credentials = Credentials.from_folder(Path(secret) if secret else None, reference.host)
        _ensure(reference, Path(arguments[2]), settings, credentials)
    except UnreachableError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.UNAVAILABLE
    except BadInputError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.BAD_INPUT
    except OSError as error:
        sys.stderr.write(f"cannot write to {arguments[2]}: {error}\n")
        return ExitCode.UNAVAILABLE
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.BAD_CONFIGURATION
    return ExitCode.FINISHED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
