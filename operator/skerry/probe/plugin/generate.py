"""Write the modules of deviceplugin.proto: `python -m skerry.probe.plugin.generate`, or `--check` to compare only.

Needs grpcio-tools and grpclib, which the development environment has.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
CODE = FOLDER.parents[2]
PROTO = FOLDER.relative_to(CODE) / "deviceplugin.proto"
NAMES = ("deviceplugin_grpc.py", "deviceplugin_pb2.py", "deviceplugin_pb2.pyi")
# protoc looks for plugins on the PATH, which does not name a virtual environment that nobody activated.
_PLUGIN = "#!{python}\nfrom grpclib.plugin.main import main\n\nmain()\n"


def rendered() -> dict[str, str]:
    """Return the text of every module by its name.

    Raises:
        subprocess.CalledProcessError: The file is wrong; protoc says on standard error what.
    """
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        plugin = out / "plugin"
        plugin.write_text(_PLUGIN.format(python=sys.executable), encoding="utf-8")
        plugin.chmod(0o700)
        subprocess.run(  # noqa: S603 - our own file
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={CODE}"),
                *(f"--python_out={out}", f"--pyi_out={out}", f"--grpclib_python_out={out}"),
                *(f"--plugin=protoc-gen-grpclib_python={plugin}", str(CODE / PROTO)),
            ],
            check=True,
        )
        return {name: (out / PROTO.parent / name).read_text(encoding="utf-8") for name in NAMES}


def stale(wanted: dict[str, str], folder: Path = FOLDER) -> list[str]:
    """Return the names of modules in the folder that differ from what would be generated."""
    return [
        name
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write or compare; exit 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    wanted = rendered()
    names = stale(wanted)
    if arguments.check and names:
        sys.stderr.write(f"{FOLDER}: not up to date: {', '.join(names)}; run `make generate`\n")
        return 1
    for name in names:
        (FOLDER / name).write_text(wanted[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
