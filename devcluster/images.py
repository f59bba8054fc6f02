"""The project's images, built from `images/<name>/Dockerfile` when what they are made of has changed."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from devcluster import buildsettings, cache, parts
from devcluster.base import PACKAGES, base
from devcluster.engine import Engine
from devcluster.errors import DevclusterError
from devcluster.hosts import cache_folder
from devcluster.process import step

ROOT = Path(__file__).parents[1]
REGISTRY = "registry"
PUBLISHED_REGISTRY = "docker.io/library/registry:3"
# Both the built and the published image run `registry serve FILE`.
REGISTRY_RECIPE = (
    "FROM scratch\nCOPY registry /usr/local/bin/registry\nENV PATH=/usr/local/bin\nUSER 65532:65532\n"
    'ENTRYPOINT ["registry"]\nCMD ["serve", "/etc/distribution/config.yml"]\n'
)
# Whoever builds by hand gets the published image; devcluster gives its own base of the same suite.
BASE_LINE = re.compile(r"^ARG BASE=docker\.io/library/debian:(\w+)-slim$", re.MULTILINE)
# What stands on NVIDIA's images is built by whoever has a license for them, and a GPU.
FOREIGN_LINE = re.compile(r"^ARG BASE=nvcr\.io/", re.MULTILINE)
ESSENTIAL = ("operator", "optimizer", "probe", "server", REGISTRY)
"""Images with which Skerry works; the others bring further tools, and are built when they are named."""
KEPT = 2  # references of one image in the store: the newest, and the one before for whoever goes back


def names(root: Path = ROOT) -> list[str]:
    """Return the names of all images that are built here: the project's, and the registry that the chart runs."""
    files = sorted(root.glob("images/*/Dockerfile"))
    ours = [path for path in files if not FOREIGN_LINE.search(path.read_text(encoding="utf-8"))]
    return [*(path.parent.name for path in ours), REGISTRY]


def inputs(name: str, root: Path = ROOT) -> list[Path]:
    """Return the files that an image is made of: its Dockerfile and what `images/<name>/inputs.txt` lists by globs.

    Raises:
        DevclusterError: The list is missing, or a glob matches nothing, so that a change would go unnoticed.
    """
    folder = root / "images" / name
    listing = folder / "inputs.txt"
    if not listing.is_file():
        message = f"images/{name}/inputs.txt is missing: it lists the files that the image is made of, a glob a line"
        raise DevclusterError(message)
    found = {folder / "Dockerfile"}
    for line in listing.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        # In Python before 3.13 a final `**` matches folders only.
        whole = f"{pattern}/*" if pattern.endswith("**") else pattern
        matched = {path for path in root.glob(whole) if path.is_file() and "__pycache__" not in path.parts}
        if not matched:
            message = f"images/{name}/inputs.txt: {pattern!r} matches no file"
            raise DevclusterError(message)
        found |= matched
    return sorted(found)


def suite(name: str, root: Path = ROOT) -> str:
    """Return the suite of Debian on which an image stands, from the line `ARG BASE=` of its Dockerfile.

    Raises:
        DevclusterError: There is no such line, or no base of that suite.
    """
    found = BASE_LINE.search((root / "images" / name / "Dockerfile").read_text(encoding="utf-8"))
    if found is None or found[1] not in PACKAGES:
        message = (
            f"images/{name}/Dockerfile must say on which Debian it stands, in a line "
            f"`ARG BASE=docker.io/library/debian:SUITE-slim` where SUITE is one of {', '.join(PACKAGES)}"
        )
        raise DevclusterError(message)
    return found[1]


def reference(name: str, start: str, root: Path = ROOT) -> str:
    """Return the reference of an image, which changes with its base and its inputs and with nothing else."""
    return f"localhost/skerry-{name}:{cache.digest(start, cache.tree_digest(root, inputs(name, root)))}"


def build(engine: Engine, wanted: Sequence[str] = (), root: Path = ROOT) -> dict[str, str]:
    """Build the images named, or those that Skerry cannot do without, and return their references by name."""
    unknown = sorted(set(wanted) - set(names(root)))
    if unknown:
        message = f"no image named {', '.join(unknown)}: there are {', '.join(names(root))}"
        raise DevclusterError(message)
    with cache.lock(cache_folder(), "images"):
        return {
            name: _registry(engine) if name == REGISTRY else _project(engine, name, root)
            for name in wanted or ESSENTIAL
        }


def _registry(engine: Engine) -> str:
    """Return the image of the distribution registry, published or built."""
    repository = f"localhost/skerry-{REGISTRY}"
    if engine.has_image(PUBLISHED_REGISTRY):
        return _tag_published(engine, repository)
    built = f"{repository}:{cache.digest(REGISTRY_RECIPE, parts.key(REGISTRY))}"
    if engine.has_image(built):
        return built
    if engine.pull(PUBLISHED_REGISTRY):
        return _tag_published(engine, repository)
    program = parts.build(REGISTRY) / "registry"
    with cache.scratch(cache_folder()) as folder, step(f"building {built}"):
        context = folder / "context"
        context.mkdir()
        shutil.copy2(program, context)
        engine.build(REGISTRY_RECIPE, context, built)
    parts.clean_build_cache()
    engine.keep(repository, KEPT)
    return built


def _tag_published(engine: Engine, repository: str) -> str:
    """Give the published image a name of ours, which no node looks for in the internet."""
    tagged = f"{repository}:{engine.image_id(PUBLISHED_REGISTRY)[:12]}"
    engine.run("tag", PUBLISHED_REGISTRY, tagged)
    return tagged


def _project(engine: Engine, name: str, root: Path) -> str:
    start = base(engine, suite(name, root))
    wanted = reference(name, start, root)
    if engine.has_image(wanted):
        return wanted
    pip_cache = cache_folder() / "pip"
    pip_cache.mkdir(exist_ok=True)
    with cache.scratch(cache_folder()) as folder, step(f"building {wanted}"):
        # Docker reaches package registries by its own settings, and cannot mount files while it builds.
        mounts = buildsettings.mounts(folder, pip_cache) if engine.name == "podman" else []
        engine.run(
            *("build", "--quiet", "--network", "host", "--tag", wanted, "--build-arg", f"BASE={start}", *mounts),
            *("--file", root / "images" / name / "Dockerfile", root),
        )
    engine.keep(f"localhost/skerry-{name}", KEPT)
    return wanted
