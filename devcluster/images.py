"""The project's images, built from `images/<name>/Dockerfile` when what they are made of has changed."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devcluster import cache, parts
from devcluster.base import base
from devcluster.engine import Engine
from devcluster.errors import DevclusterError
from devcluster.hosts import build_mounts, cache_folder
from devcluster.process import step

ROOT = Path(__file__).parents[1]
REGISTRY = "registry"


def names() -> list[str]:
    """Return the names of all images: the project's, and the registry that the chart runs."""
    return [*sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile")), REGISTRY]


def inputs(name: str, root: Path = ROOT) -> list[Path]:
    """Return the files that an image is made of, as `images/<name>/inputs.txt` lists them by globs.

    Raises:
        DevclusterError: A glob matches nothing, so that a change of what was meant would go unnoticed.
    """
    folder = root / "images" / name
    found = {folder / "Dockerfile"}
    for line in (folder / "inputs.txt").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        matched = {path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts}
        if not matched:
            message = f"images/{name}/inputs.txt: {pattern!r} matches no file"
            raise DevclusterError(message)
        found |= matched
    return sorted(found)


def _registry(engine: Engine) -> str:
    """Return the image of the distribution registry: one program on the Debian base."""
    start = base(engine, "trixie")
    program = parts.build("registry") / "registry"
    recipe = (
        f"FROM {start}\nCOPY registry /usr/local/bin/registry\n"
        'USER 65532:65532\nENTRYPOINT ["/usr/local/bin/registry"]\nCMD ["serve", "/etc/distribution/config.yml"]\n'
    )
    reference = f"localhost/skerry-registry:{cache.digest(recipe, program)}"
    if not engine.has_image(reference):
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder, step(f"building {reference}"):
            shutil.copy2(program, folder)
            dockerfile = Path(folder) / "Dockerfile"
            dockerfile.write_text(recipe, encoding="utf-8")
            engine.run("build", "--quiet", "--tag", reference, "--file", dockerfile, folder)
    return reference


def _project(engine: Engine, name: str) -> str:
    start = base(engine, "trixie")
    reference = f"localhost/skerry-{name}:{cache.digest(start, cache.tree_digest(ROOT, inputs(name)))}"
    if not engine.has_image(reference):
        pip_cache = cache_folder() / "pip"
        pip_cache.mkdir(exist_ok=True)
        with step(f"building {reference}"):
            engine.run(
                *("build", "--quiet", "--network", "host", "--tag", reference, "--build-arg", f"BASE={start}"),
                *build_mounts(),
                *("--volume", f"{pip_cache}:/root/.cache/pip"),
                *("--layers", "--file", ROOT / "images" / name / "Dockerfile", ROOT),
            )
    return reference


def build(engine: Engine, wanted: Sequence[str] = ()) -> dict[str, str]:
    """Build the images named, or all, and return their references by name."""
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        message = f"no image named {', '.join(unknown)}: there are {', '.join(names())}"
        raise DevclusterError(message)
    with cache.lock(cache_folder(), "images"):
        return {name: _registry(engine) if name == REGISTRY else _project(engine, name) for name in wanted or names()}


@contextmanager
def archive(engine: Engine, reference: str) -> Iterator[Path]:
    """Give an archive of an image that is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        path = Path(folder) / "image.tar"
        engine.save(reference, path)
        yield path
