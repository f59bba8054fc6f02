"""Where each tool is: in this container's packages, or in a worker beside it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from skerry.accelerators.recipes import Tool, book
from skerry.api.types import Framework
from skerry.optimizer.child import HERE, Place
from skerry.optimizer.errors import ConfigurationError
from skerry.optimizer.worker import InWorker


@dataclass(frozen=True)
class Toolshed:
    """The place of each tool that can be used, by the tool's name."""

    places: Mapping[str, Place]

    @property
    def tools(self) -> frozenset[str]:
        """Names of the tools that can be used."""
        return frozenset(self.places)

    def running(self, framework: Framework) -> Place:
        """Return where models are loaded in a framework.

        Raises:
            ConfigurationError: Nowhere.
        """
        tool = book().runner(framework)
        if tool is None:
            message = f"nothing runs models in {framework}"
            raise ConfigurationError(message)
        if tool.tool not in self.places:
            message = (
                f"nothing here runs models in {framework}: that needs the tools of the group {tool.group}, which "
                "join a search when the format of the model is said (spec.source.format of an EdgeModel)"
            )
            raise ConfigurationError(message)
        return self.places[tool.tool]


def installed(tool: Tool) -> bool:
    """Tell whether a tool's packages and programs are here."""
    packages = all(find_spec(package) is not None for package in tool.packages)
    return packages and all(shutil.which(program) is not None for program in tool.programs)


def toolshed(workers: Path | None = None, groups: Sequence[str] = ()) -> Toolshed:
    """Return where the tools are: those that are installed here, and those of the groups that have a worker.

    Args:
        workers: Folder with the workers' sockets.
        groups: Groups that have a worker.
    """
    places: dict[str, Place] = {}
    for tool in book().tools.values():
        if workers is not None and tool.group in groups:
            places[tool.tool] = InWorker(workers, tool.group)
        elif installed(tool):
            places[tool.tool] = HERE
    return Toolshed(places)
