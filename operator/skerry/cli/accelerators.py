"""`skerry accelerators`: the hardware that Skerry knows, what each needs, and whether a site's own entries will do."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.errors import CommandError

if TYPE_CHECKING:
    from skerry.accelerators.catalogue import AcceleratorEntry, Catalogue, Match

app = typer.Typer(help="List the accelerators that Skerry knows, explain one, check entries of your own.")

Extra = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="Entries of your own as well: a list in YAML or JSON, as accelerators.extra takes.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")]
Named = Annotated[str, typer.Argument(metavar="NAME", help="Name of an accelerator.", show_default=False)]
Checked = Annotated[Path, typer.Argument(metavar="FILE", help="A list of entries.", show_default=False)]


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, *, file: Extra = None, as_json: Json = False) -> None:
    """List all accelerators: how each is recognised, what a pod asks for and gets, frameworks in their order."""
    if context.invoked_subcommand is not None:
        if file is not None or as_json:
            message = f"--file and --json go behind {context.invoked_subcommand}, which has options of its own"
            raise CommandError(message, os.EX_USAGE)
        return
    from rich import box  # noqa: PLC0415 - lazy
    from rich.table import Table  # noqa: PLC0415 - lazy

    from skerry.accelerators.catalogue import dump  # noqa: PLC0415 - lazy
    from skerry.cli.screens import WIDEST, console  # noqa: PLC0415 - lazy

    known = _known(file)
    if as_json:
        typer.echo(dump(known), nl=False)
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("name", "recognised by", "a pod asks for", "and gets", "frameworks"):
        table.add_column(column, overflow="fold")
    for entry in known.values():
        table.add_row(
            entry.name,
            "\n".join(_recognised(match) for match in entry.match) or "every node",
            "\n".join(_resources(entry)),
            "\n".join(_given(entry)),
            ", ".join(framework.name for framework in entry.frameworks),
        )
    console(sys.stdout, WIDEST).print(table)


@app.command()
def show(name: Named, *, file: Extra = None) -> None:
    """Explain one accelerator, with the reasons and their sources."""
    known = _known(file)
    entry = known.get(name)
    if entry is None:
        message = f"there is no accelerator {name!r}; there are {', '.join(sorted(known))}"
        raise CommandError(message, os.EX_USAGE)
    lines = [f"NAME:         {entry.name}", f"DESCRIPTION:  {entry.description}", f"SOURCE:       {entry.source}"]
    parts = {
        "RECOGNISED BY": [_recognised(match) for match in entry.match] or ["every node has it"],
        **({"TIERS": [f"{tier}: has {feature}" for tier, feature in entry.tiers.items()]} if entry.tiers else {}),
        "DRIVERS": entry.drivers or ["any"],
        "A POD ASKS FOR THE FIRST THAT ITS NODE HAS OF": _resources(entry),
        "A POD GETS": _given(entry) or ["nothing besides"],
        "FRAMEWORKS": [
            line for each in entry.frameworks for line in (f"{each.name}: {each.reason}", f"    source: {each.source}")
        ],
        "SERVED THROUGH": [f"{framework}, as {device}" for framework, device in entry.devices.items()]
        or ["nothing yet: this version of Skerry serves nothing there"],
        "CANDIDATES": [f"{each.framework} {each.precision} {each.technique}" for each in entry.candidates]
        or ["none yet: this version of Skerry does not optimize for it"],
    }
    for title, told in parts.items():
        lines += ["", f"{title}:", *(f"  {line}" for line in told)]
    typer.echo("\n".join(lines))


@app.command()
def check(file: Checked) -> None:
    """Check entries of your own against their form and against the built-in ones; exit code 65 when one is wrong."""
    added = len(_known(file)) - len(_known(None))
    typer.echo(f"{file}: {added} {'entry' if added == 1 else 'entries'}, nothing wrong")


def _known(file: Path | None) -> "Catalogue":
    """Return the built-in entries, and those of a file."""
    from skerry.accelerators.catalogue import CatalogueError, catalogue, checked, documents  # noqa: PLC0415 - lazy

    if file is None:
        return catalogue()
    try:
        return checked([*(entry.wire() for entry in catalogue().values()), *documents(file)])
    except CatalogueError as error:
        raise CommandError(str(error), os.EX_DATAERR) from error


def _recognised(match: "Match") -> str:
    words = []
    if match.pci:
        ids = f":{','.join(match.pci.devices)}" if match.pci.devices else ""
        words.append(
            f"PCI {match.pci.vendor}{ids}" + (f" class {match.pci.class_prefix}" if match.pci.class_prefix else "")
        )
    if match.usb:
        words.append(f"USB {match.usb.vendor}:{','.join(match.usb.products)}")
    if match.device_tree:
        words.append(f"device tree {', '.join(match.device_tree.compatible)}")
    if match.device:
        how = ", ".join([*match.device.names, *(f"driver {name}" for name in match.device.drivers)])
        words.append(f"{match.device.device_class} {how}".strip())
    words += [f"{name}={value}" for name, value in match.node_labels.items()]
    return " and ".join(words)


def _resources(entry: "AcceleratorEntry") -> list[str]:
    if not entry.schedulable:
        return ["nothing: it is only reported"]
    if not entry.match:
        return ["cpu, memory"]
    claims = [f"a claim of class {name}" for name in entry.device_classes]
    return [*entry.vendor_resources, *claims, entry.own_resource]


def _given(entry: "AcceleratorEntry") -> list[str]:
    if not entry.schedulable:
        return []
    usb = ["its USB device"] if any(match.usb for match in entry.match) else []
    paths = [f"/dev/{path.removeprefix('/dev/')}" for files in entry.files for path in files.paths]
    classes = [f"its {files.device_class} device" for files in entry.files if files.device_class]
    needs = entry.pod
    runtime = [f"runtime class {needs.runtime_class_name}"] if needs.runtime_class_name else []
    groups = [f"group {number}" for number in needs.supplemental_groups]
    return [*usb, *classes, *paths, *runtime, *groups, *(f"{name}={value}" for name, value in needs.env.items())]
