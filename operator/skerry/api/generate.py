"""Write the CustomResourceDefinitions: `python -m skerry.api.generate FOLDER …`, or `--check` to compare only."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from skerry.api.crd import KINDS, definition

HEADER = "# Generated from operator/skerry/api by `make generate`; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Writes every value out: people read these files, and anchors would only save bytes."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def rendered() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        f"{kind.crd_name}.yaml": HEADER
        + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for kind in KINDS
    }


def stale(folder: Path) -> list[str]:
    """Return the names of files in the folder that differ from what would be generated."""
    wanted = rendered()
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main() -> int:
    """Write or compare; exit 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        if arguments.check:
            if names := stale(folder):
                sys.stderr.write(f"{folder}: not up to date: {', '.join(names)}; run `make generate`\n")
                return 1
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale(folder):
            (folder / name).unlink(missing_ok=True)
        for name, text in rendered().items():
            (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
