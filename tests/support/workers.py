"""Workers in the project's images: tools that this machine's Python does not have, as a Job's sidecars run them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster import images
from devcluster.engine import engine


@contextmanager
def worker(group: str, work: Path) -> Iterator[Path]:
    """Run the worker of a group of tools in its image, and give the folder with its socket.

    Args:
        group: The group, whose image is built when it is not there.
        work: Folder for everything, at the same place in the container.
    """
    here, name = engine(), f"skerry-test-{uuid.uuid4().hex[:12]}"
    reference = images.build(here, [f"optimizer-{group}"])[f"optimizer-{group}"]
    sockets = work / "workers"
    sockets.mkdir(exist_ok=True)
    here.run(
        *("run", "--detach", "--name", name, "--network", "none", "--user", "0", "--volume", f"{work}:{work}"),
        *(reference, "--folder", sockets, "--group", group, "--work", work),
    )
    try:
        yield sockets
    finally:
        here.run("rm", "--force", "--time", "1", name)


def python(group: str, script: Path, work: Path) -> str:
    """Run a script with the Python of a group's image, in a folder, and return its output."""
    here = engine()
    reference = images.build(here, [f"optimizer-{group}"])[f"optimizer-{group}"]
    mounts = ("--volume", f"{work}:{work}", "--volume", f"{script}:{script}:ro", "--workdir", str(work))
    entry = ("--entrypoint", "python3", reference, script)
    return here.run("run", "--rm", "--network", "none", "--user", "0", *mounts, *entry)
