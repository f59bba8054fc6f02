"""`skerry plan`: what would be tried for a model, on each accelerator, with nothing but the manifest."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from skerry.cli.errors import CommandError

if TYPE_CHECKING:
    from skerry.accelerators.catalogue import Catalogue
    from skerry.api.edgemodel import EdgeModelSpec
    from skerry.planning.preview import Preview

_FP32_BYTES: Final = 4
_MIB: Final = 1 << 20
_LIST: Final = ", "

Manifest = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="Manifest with an EdgeModel, in YAML.", show_default=False)
]
Accelerators = Annotated[
    list[str] | None,
    typer.Option(
        "--accelerator",
        metavar="NAME",
        help="Only this one; may be given several times. Default: those that the manifest names, else all.",
        show_default=False,
    ),
]
Extra = Annotated[
    Path | None,
    typer.Option("--catalogue", metavar="FILE", help="Entries of your own, as accelerators.extra in the values."),
]
Kind = Annotated[
    str,
    typer.Option(help="What the model is built of: Convolutional, Transformer, Recurrent, Other or Language."),
]
Format = Annotated[
    str | None, typer.Option("--format", help="Format of the model. Default: what the manifest says, else ONNX.")
]
Parameters = Annotated[
    int | None,
    typer.Option(min=1, help="Number of the model's parameters: estimates are then in MiB, not only in percent."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")]


def plan(
    manifest: Manifest,
    *,
    accelerator: Accelerators = None,
    catalogue: Extra = None,
    kind: Kind = "Other",
    model_format: Format = None,
    parameters: Parameters = None,
    as_json: Json = False,
) -> None:
    """Tell what would be tried for an EdgeModel on each accelerator, with reasons and estimates; asks no cluster.

    Sizes and memory are rules of thumb; only an optimization measures them.
    """
    from skerry.planning.preview import preview  # noqa: PLC0415 - lazy

    spec = _spec(manifest)
    entries = _entries(spec, accelerator, catalogue)
    fp32 = None if parameters is None else parameters * _FP32_BYTES
    available = _available(spec, kind, model_format)
    found = sorted(preview(entries, available, spec.candidates, fp32), key=lambda each: bool(each.remark))
    if as_json:
        typer.echo(json.dumps([_document(each) for each in found], indent=2))
    else:
        typer.echo(f"for a model that is {available.kind} in the format {available.model_format}; see --kind, --format")
        _show(found)


def _document(found: "Preview") -> dict[str, Any]:
    return {**asdict(found), "left_out": dict(found.left_out)}


def _spec(path: Path) -> "EdgeModelSpec":
    """Return the spec of the EdgeModel in a manifest.

    Raises:
        CommandError: There is none, or it is not valid.
    """
    import yaml  # noqa: PLC0415 - lazy
    from pydantic import ValidationError  # noqa: PLC0415 - lazy

    from skerry.api.edgemodel import EdgeModelSpec  # noqa: PLC0415 - lazy
    from skerry.api.meta import API_VERSION  # noqa: PLC0415 - lazy
    from skerry.planning.gates import GateError, check  # noqa: PLC0415 - lazy

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise CommandError(message, os.EX_NOINPUT) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        message = f"{path} cannot be read as YAML: {error}"
        raise CommandError(message, os.EX_NOINPUT) from error
    models = [each for each in documents if isinstance(each, dict) and each.get("kind") == "EdgeModel"]
    if len(models) != 1:
        message = f"{path} must hold one EdgeModel, but holds {len(models)}"
        raise CommandError(message, os.EX_DATAERR)
    if (found := models[0].get("apiVersion")) != API_VERSION:
        message = f"{path}: the apiVersion is {found}; this version of Skerry knows {API_VERSION}"
        raise CommandError(message, os.EX_DATAERR)
    try:
        spec = EdgeModelSpec.model_validate(models[0].get("spec"))
        for gate in spec.gates:
            check(gate)
    except GateError as error:
        message = f"{path}: {error}"
        raise CommandError(message, os.EX_DATAERR) from error
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{path}: spec.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise CommandError(message, os.EX_DATAERR) from error
    return spec


def _entries(spec: "EdgeModelSpec", wanted: list[str] | None, extra: Path | None) -> "Catalogue":
    """Return the accelerators that are asked about."""
    from skerry.accelerators.catalogue import (  # noqa: PLC0415 - lazy
        CatalogueError,
        catalogue,
        checked,
        documents,
    )

    known = catalogue()
    if extra is not None:
        try:
            known = checked([*(entry.wire() for entry in known.values()), *documents(extra)])
        except CatalogueError as error:
            raise CommandError(str(error), os.EX_DATAERR) from error
    names = wanted or spec.accelerators
    unknown = sorted(set(names) - set(known))
    if unknown:
        message = f"there is no accelerator {_LIST.join(unknown)}; there are {_LIST.join(sorted(known))}"
        raise CommandError(message, os.EX_USAGE)
    return {name: entry for name, entry in known.items() if not names or name in names}


def _available(spec: "EdgeModelSpec", kind: str, model_format: str | None) -> Any:
    """Return what there is to work with, as far as manifest and options tell."""
    from skerry.api.types import ModelFormat, ModelKind  # noqa: PLC0415 - lazy
    from skerry.planning.candidates import LANGUAGE_FORMATS, Available, hint  # noqa: PLC0415 - lazy

    try:
        built_of = ModelKind(kind)
        found = ModelFormat(model_format) if model_format else hint(spec.source)
    except ValueError as error:
        words = f"kinds are {_LIST.join(ModelKind)}; formats are {_LIST.join(ModelFormat)}"
        message = f"{error}: {words}"
        raise CommandError(message, os.EX_USAGE) from error
    if found is ModelFormat.AUTO:
        found = ModelFormat.ONNX
    if found in LANGUAGE_FORMATS and built_of is ModelKind.OTHER:
        built_of = ModelKind.LANGUAGE
    data = spec.calibration is not None or spec.evaluation is not None
    return Available(found, calibration=data, calibration_labels=data, kind=built_of)


def _show(found: list["Preview"]) -> None:
    """Print the candidates in their order, each with its reason on lines of its own."""
    from rich.padding import Padding  # noqa: PLC0415 - lazy

    from skerry.cli.screens import WIDEST, console  # noqa: PLC0415 - lazy

    screen = console(sys.stdout, WIDEST)
    idle = [each for each in found if each.trouble]
    for each in found:
        if each.trouble:
            continue
        remark = f"  ({each.remark})" if each.remark else ""
        screen.print(f"[bold]{each.accelerator}[/bold]{remark}")
        for row in each.rows:
            size = _amount(row.size_bytes, row.size_percent)
            memory = _amount(row.memory_bytes, row.memory_percent)
            screen.print(Padding(f"[bold]{row.name}[/bold]  {row.when}; size {size}, memory {memory}", (0, 2)))
            screen.print(Padding(f"{row.reason} [dim]({row.source})[/dim]", (0, 6)))
        for name, reason in each.left_out.items():
            screen.print(Padding(f"[dim]{name}  not: {reason}[/dim]", (0, 2)))
    for reason in dict.fromkeys(each.trouble for each in idle):
        names = _LIST.join(each.accelerator for each in idle if each.trouble == reason)
        screen.print(f"{names}: {reason}")


def _amount(estimated: int | None, percent: float) -> str:
    return f"{percent:g} %" if estimated is None else f"{estimated / _MIB:.1f} MiB"
