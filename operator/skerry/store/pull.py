"""`python -m skerry.store.pull REFERENCE FOLDER`: what an init container does where image volumes are not supported."""

import os
import sys
from pathlib import Path

from skerry.api import jobcontract
from skerry.api.jobcontract import ExitCode
from skerry.store import image, transport
from skerry.store.errors import BadInputError, StoreError, UnreachableError
from skerry.store.references import Reference
from skerry.store.settings import Credentials, StoreSettings

_ARGUMENTS = 3


def main(arguments: list[str]) -> int:
    """Pull; exit with a code of `skerry.api.jobcontract.ExitCode` and one clear message."""
    if len(arguments) != _ARGUMENTS:
        sys.stderr.write("usage: python -m skerry.store.pull REFERENCE FOLDER\n")
        return ExitCode.BAD_CONFIGURATION
    try:
        settings = StoreSettings.from_env(os.environ)
        secret = os.environ.get(jobcontract.ENV_SOURCE_CREDENTIALS)
        credentials = Credentials.from_folder(Path(secret) if secret else None)
        reference = Reference.parse(arguments[1])
        transport.patiently(
            lambda: image.pull(reference, Path(arguments[2]), settings=settings, credentials=credentials),
            seconds=settings.patience_seconds,
            notify=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201 - the pod's log
        )
    except UnreachableError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.UNAVAILABLE
    except BadInputError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.BAD_INPUT
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.BAD_CONFIGURATION
    return ExitCode.FINISHED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
