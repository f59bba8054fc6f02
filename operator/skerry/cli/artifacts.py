"""`skerry push`, `skerry pull` and `skerry digest`."""

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skerry.store.references import Reference
    from skerry.store.settings import Credentials, StoreSettings


_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Content(StrEnum):
    """What is pushed."""

    MODEL = "model"
    DATA = "data"


Source = Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What to push.", show_default=False)]
Target = Annotated[
    str, typer.Argument(metavar="oci://…", help="oci://REGISTRY[:PORT]/REPOSITORY:TAG", show_default=False)
]
Origin = Annotated[
    str,
    typer.Argument(metavar="oci://…", help="oci://REGISTRY[:PORT]/REPOSITORY:TAG or …@sha256:…", show_default=False),
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; empty or new.", show_default=False)]
Kind = Annotated[Content, typer.Option("--type", help="Whether it is a model, or data to calibrate or evaluate with.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="The registry (S3 endpoint, mirror of the hub) speaks plain HTTP.")
]
Username = Annotated[str | None, typer.Option("--username", "-u", help="User; needs --password-stdin.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")]
CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help="Docker configuration with logins. Default: $DOCKER_CONFIG/config.json or ~/.docker/config.json.",
    ),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="Certificate authorities to trust as well, in PEM.")
]
Patience = Annotated[
    int, typer.Option("--patience", min=0, metavar="SECONDS", help="For how long an unreachable registry is tried.")
]


def push(  # noqa: PLR0913 - they are the command's options
    source: Source,
    target: Target,
    kind: Kind = Content.MODEL,
    *,
    insecure: Insecure = False,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    credentials_file: CredentialsFile = None,
    ca_file: CaFile = None,
    patience: Patience = 30,
) -> None:
    """Push a model or data to a registry, and print the reference pinned by its digest.

    The printed reference is what `spec.source.uri` of an EdgeModel, or `uri` of its data, takes. One that was pushed
    through a port-forward names this machine; in the cluster, Skerry's own registry is registry.NAMESPACE:5000, where
    NAMESPACE is that of the installation.
    """
    import tempfile  # noqa: PLC0415 - lazy

    from skerry.api import artifact  # noqa: PLC0415 - lazy
    from skerry.store import image, transport  # noqa: PLC0415 - lazy
    from skerry.store.image import Layer  # noqa: PLC0415 - lazy

    reference = parse_reference(target)
    if reference.digest is not None:
        message = f"{target} names a digest; a push needs a tag, and the digest follows from the content"
        raise CommandError(message, os.EX_USAGE)
    files = _files(source)
    settings = settings_for(reference, insecure=insecure, ca_file=ca_file, patience=patience)
    credentials = credentials_for(reference, username, credentials_file, password_stdin=password_stdin)
    kinds = {Content.MODEL: artifact.SOURCE_ARTIFACT_TYPE, Content.DATA: artifact.DATA_ARTIFACT_TYPE}
    with (
        tempfile.TemporaryDirectory(prefix="skerry-push-") as work,
        _bar("pushing", sum(path.stat().st_size for path in files.values())) as (_, advance),
    ):
        pushed = transport.patiently(
            lambda: image.push_image(
                [Layer(files)],
                reference,
                artifact_type=kinds[kind],
                annotations={"org.opencontainers.image.title": source.resolve().name},
                settings=settings,
                credentials=credentials,
                work=Path(work),
                advance=advance,
            ),
            seconds=settings.patience_seconds,
            notify=_notify,
        )
    typer.echo(reference.pinned(pushed.digest).uri)
    if reference.host.rpartition(":")[0] in _THIS_MACHINE:
        _notify(
            f"{reference.host} is this machine; in the cluster name the registry as its nodes and pods know it, "
            "as in registry.skerry-system:5000"
        )


def pull(
    origin: Origin,
    folder: Folder,
    *,
    insecure: Insecure = False,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    credentials_file: CredentialsFile = None,
    ca_file: CaFile = None,
    patience: Patience = 30,
) -> None:
    """Pull an artifact into a folder, verified, and print the reference pinned by its digest.

    It reads what `skerry push`, the optimizer, ORAS and ModelPack tools have pushed.
    """
    from skerry.store import image  # noqa: PLC0415 - lazy

    reference = parse_reference(origin)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"{folder} is not an empty folder; name one that is empty or does not exist yet"
        raise CommandError(message, os.EX_CANTCREAT)
    settings = settings_for(reference, insecure=insecure, ca_file=ca_file, patience=patience)
    credentials = credentials_for(reference, username, credentials_file, password_stdin=password_stdin)
    with _bar("pulling", None) as (begin, advance):
        digest = image.pull(
            reference,
            folder,
            settings=settings,
            credentials=credentials,
            notify=_notify,
            begin=begin,
            advance=advance,
        )
    typer.echo(reference.pinned(digest).uri)


def digest(
    path: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What to look at.", show_default=False)],
) -> None:
    """Print the SHA-256 that a spec's `sha256` takes: of a file, or of a folder's sorted listing.

    The listing has one line `<sha256>  <path>` for each file, sorted by the bytes of the paths.
    """
    from skerry.store import trees  # noqa: PLC0415 - lazy

    typer.echo(trees.sha256(path))


def parse_reference(text: str) -> "Reference":
    """Return an oci:// reference of the command line.

    Raises:
        CommandError: It does not begin with the scheme.
    """
    from skerry.store.references import SCHEME, Reference  # noqa: PLC0415 - lazy

    if not text.startswith(SCHEME):
        message = f"{text!r} does not begin with {SCHEME}: name the registry as oci://REGISTRY[:PORT]/REPOSITORY:TAG"
        raise CommandError(message, os.EX_USAGE)
    return Reference.parse(text)


def _files(source: Path) -> dict[str, Path]:
    """Return names in the artifact and where the files are."""
    if source.is_file():
        return {source.name: source}
    files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    if not files:
        message = f"{source} is neither a file nor a folder with files"
        raise CommandError(message, os.EX_NOINPUT)
    return files


def settings_for(reference: "Reference", *, insecure: bool, ca_file: Path | None, patience: int) -> "StoreSettings":
    """Return the settings of the environment with what the options add."""
    return settings_with({reference.host} if insecure else set(), ca_file=ca_file, patience=patience)


def settings_with(insecure: set[str], *, ca_file: Path | None, patience: int) -> "StoreSettings":
    """Return the settings of the environment with what the options add, and with hosts that speak plain HTTP."""
    from skerry.store.settings import StoreSettings  # noqa: PLC0415 - lazy

    found = StoreSettings.from_env(os.environ)
    return replace(
        found,
        insecure=found.insecure | insecure,
        ca_bundle=ca_file.read_text(encoding="utf-8", errors="replace") if ca_file else found.ca_bundle,
        patience_seconds=float(patience),
    )


def credentials_for(
    reference: "Reference", username: str | None, file: Path | None, *, password_stdin: bool
) -> "Credentials":
    """Return the logins that the options name, else the usual ones of Docker."""
    from skerry.store.settings import Credentials, Login  # noqa: PLC0415 - lazy

    if (username is None) is password_stdin:
        message = "--username and --password-stdin belong together"
        raise CommandError(message, os.EX_USAGE)
    if username is not None:
        password = sys.stdin.readline().rstrip("\r\n")
        return Credentials({reference.host: Login(username, password)})
    if file is not None:
        return Credentials.from_docker_config(file.read_text(encoding="utf-8"))
    usual = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    return Credentials.of_machine(usual.read_text(encoding="utf-8")) if usual.is_file() else Credentials()


def _notify(message: str) -> None:
    typer.echo(f"skerry: {message}", err=True)


@contextmanager
def _bar(verb: str, total: int | None) -> "Iterator[tuple[Callable[[int], None], Callable[[int], None]]]":
    """Show a progress bar on a terminal; yield what sets its total and what advances it."""
    from rich.console import Console  # noqa: PLC0415 - lazy
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=total)
        yield (
            lambda size: progress.update(task, total=size),
            lambda count: progress.advance(task, count),
        )
