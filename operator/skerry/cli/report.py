"""`skerry report`: an optimization's report, from a file, a registry or the cluster, for people.

Only the options are here, so that `skerry --help` answers at once; `skerry.cli.reporting` does the work.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.artifacts import CaFile, CredentialsFile, Insecure, PasswordStdin, Patience, Username
from skerry.cli.errors import need
from skerry.cli.optimize import Access

_NEEDED = ("httpx", "jinja2", "pydantic", "rich", "yaml")


class Form(StrEnum):
    """Forms of a report."""

    HTML = "html"
    JSON = "json"
    MARKDOWN = "markdown"


Where = Annotated[
    str,
    typer.Argument(
        metavar="WHERE",
        help="A report.json or the folder it is in, an oci:// URI, optjob/NAME or emodel/NAME.",
        show_default=False,
    ),
]
Output = Annotated[Form | None, typer.Option("-o", "--output", help="Its form. Default: a summary for the terminal.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write it there; its ending says the form: .html, .json or .md."),
]
Open = Annotated[bool, typer.Option("--open", help="Show it as HTML in the browser.")]
Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Of optjob/ and emodel/. Default: the kubeconfig's.")
]
Accelerator = Annotated[
    str | None, typer.Option("--accelerator", metavar="NAME", help="Which variant of emodel/, if there are several.")
]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="HOST[:PORT]",
        help="How this machine reaches the registry of optjob/ and emodel/, as through a port-forward: nodes may know "
        "it by another name.",
    ),
]


@dataclass(frozen=True)
class Query:
    """Which report is wanted, and in which form."""

    where: str
    form: Form | None
    out: Path | None
    browser: bool
    namespace: str | None
    accelerator: str | None
    registry: str | None


def report(  # noqa: PLR0913 - they are the command's options
    where: Where,
    *,
    output: Output = None,
    out: Out = None,
    browser: Open = False,
    namespace: Namespace = None,
    accelerator: Accelerator = None,
    registry: Registry = None,
    insecure: Insecure = False,
    username: Username = None,
    password_stdin: PasswordStdin = False,
    credentials_file: CredentialsFile = None,
    ca_file: CaFile = None,
    patience: Patience = 30,
) -> None:
    """Show the report of an optimization: what was chosen and why, and what every candidate gives.

    Exit codes: 0 shown; 64 an option is wrong; 65 it is not a report; 66 there is none; 69 a server does not answer;
    73 --out cannot be written; 78 credentials, certificates, packages or the kubeconfig are missing.
    """
    need("reading reports", _NEEDED, "its command line, pip install '.[cli]' in its checkout")
    from skerry.cli import reporting  # noqa: PLC0415 - lazy

    query = Query(where, output, out, browser, namespace, accelerator, registry)
    access = Access(
        insecure=insecure,
        username=username,
        password_stdin=password_stdin,
        credentials_file=credentials_file,
        ca_file=ca_file,
        patience=patience,
    )
    reporting.run(query, access)
