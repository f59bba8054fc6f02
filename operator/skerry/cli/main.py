"""The entry of `skerry`.

Modules of commands import only what their signatures need; what works is imported inside the functions, so that
`skerry --help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from skerry.cli import accelerators, artifacts
from skerry.cli.errors import INTERRUPTED, CommandError, exit_code
from skerry.cli.optimize import optimize
from skerry.cli.plan import plan
from skerry.cli.report import report
from skerry.store.errors import StoreError

_USAGE_IN_TYPER = 2

app = typer.Typer(
    name="skerry",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(artifacts.push)
app.command()(artifacts.pull)
app.command()(artifacts.digest)
app.command()(optimize)
app.command()(report)
app.command()(plan)
app.add_typer(accelerators.app, name="accelerators")


@app.command()
def version() -> None:
    """Print the version of Skerry."""
    from skerry.version import version as installed  # noqa: PLC0415 - lazy

    typer.echo(installed())


def _version_and_exit(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version_and_exit, help="Print the version and exit."),
    ] = False,
) -> None:
    """Optimize AI models for edge hardware, measure and gate them, and carry artifacts to and from registries."""


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; an error becomes one sentence on stderr."""
    try:
        app(list(arguments), prog_name="skerry")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        return os.EX_USAGE if code == _USAGE_IN_TYPER else code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CommandError, StoreError, OSError) as error:
        typer.echo(f"skerry: {error}", err=True)
        return exit_code(error)
    return os.EX_OK


def main() -> None:
    """Run the command of the process's arguments; when it is told to end, it clears up first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
