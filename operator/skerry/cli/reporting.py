"""The work of `skerry report`: find the report, and show it or write it down."""

import os
import sys
import tempfile
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from skerry.cli import cluster, report_view, screens
from skerry.cli.artifacts import credentials_for, parse_reference, settings_for
from skerry.cli.errors import CommandError
from skerry.cli.optimize import Access
from skerry.cli.report import Form, Query
from skerry.optimizer.rendering.files import HTML_FILE, JSON_FILE, MARKDOWN_FILE, report_files
from skerry.optimizer.report import Report
from skerry.store import image
from skerry.store.errors import UnreachableError
from skerry.store.references import SCHEME, Reference

_FILES: Final = {Form.HTML: HTML_FILE, Form.JSON: JSON_FILE, Form.MARKDOWN: MARKDOWN_FILE}
_ENDINGS: Final = {".html": Form.HTML, ".htm": Form.HTML, ".json": Form.JSON, ".md": Form.MARKDOWN}


def run(query: Query, access: Access) -> None:
    """Show a report as the options say.

    Raises:
        CommandError: There is none, or an option is wrong.
        StoreError: The registry cannot be reached.
    """
    form = _form(query)
    report = _parsed(*_found(query, access))
    if form is None:
        report_view.show(screens.console(sys.stdout), report)
        return
    content = next(file.content for file in report_files(report) if file.name == _FILES[form])
    if query.out is None and not query.browser:
        sys.stdout.write(content.decode())
        return
    path = _written(content, query.out)
    sys.stdout.write(f"{path}\n")
    if query.browser and not webbrowser.open(path.resolve().as_uri()):
        message = f"no browser could be started; open {path}"
        raise CommandError(message, os.EX_UNAVAILABLE)


def _form(query: Query) -> Form | None:
    """Return the form that is wanted; None stands for the terminal's summary."""
    if query.browser and query.form not in {None, Form.HTML}:
        message = f"--open shows HTML; leave out -o {query.form}"
        raise CommandError(message, os.EX_USAGE)
    if query.form is not None or (query.out is None and not query.browser):
        return query.form
    return Form.HTML if query.browser or query.out is None else _ENDINGS.get(query.out.suffix.lower(), Form.HTML)


def _written(content: bytes, out: Path | None) -> Path:
    path = out or Path(tempfile.mkdtemp(prefix="skerry-report-")) / HTML_FILE
    try:
        path.write_bytes(content)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise CommandError(message, os.EX_CANTCREAT) from error
    return path


def _found(query: Query, access: Access) -> tuple[bytes, str]:
    """Return the JSON report and where it was."""
    if query.where.startswith(SCHEME):
        return _pulled(parse_reference(query.where), access), query.where
    named = cluster.parse(query.where)
    if named is None:
        return _read(Path(query.where))
    reference = parse_reference(cluster.report_of(named, query.namespace, query.accelerator))
    if query.registry is not None:
        reference = replace(reference, host=query.registry)
    try:
        return _pulled(reference, access), query.where
    except UnreachableError as error:
        message = (
            f"{error}; that is the name by which nodes know the registry: where this machine reaches it otherwise, as "
            "after `kubectl port-forward service/registry-nodes 5000` in Skerry's namespace, say --registry "
            "localhost:5000"
        )
        raise CommandError(message, os.EX_UNAVAILABLE) from error


def _read(path: Path) -> tuple[bytes, str]:
    file = path / JSON_FILE if path.is_dir() else path
    if not file.is_file():
        message = f"{file}: there is no such file; name a report.json, oci://…, optjob/NAME or emodel/NAME"
        raise CommandError(message, os.EX_NOINPUT)
    return file.read_bytes(), str(file)


def _pulled(reference: Reference, access: Access) -> bytes:
    settings = settings_for(reference, insecure=access.insecure, ca_file=access.ca_file, patience=access.patience)
    credentials = credentials_for(
        reference, access.username, access.credentials_file, password_stdin=access.password_stdin
    )
    with tempfile.TemporaryDirectory(prefix="skerry-report-") as work:
        folder = Path(work) / "report"
        image.pull(reference, folder, settings=settings, credentials=credentials)
        file = folder / JSON_FILE
        if not file.is_file():
            message = f"{reference.uri} holds no {JSON_FILE}; a variant's report has its tag with -report behind it"
            raise CommandError(message)
        return file.read_bytes()


def _parsed(content: bytes, where: str) -> Report:
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"{where} is not a report that this version of Skerry can read: {place}: {first['msg']}"
        raise CommandError(message) from error
