"""Who is in a folder of the kernel's, read once each."""

from collections.abc import Callable
from typing import Generic, TypeVar

from skerry.probe.sources.tree import Stamp, Tree

Member = TypeVar("Member")


class Roster(Generic[Member]):
    """The objects of a folder; those that were there before are not read again: a look costs next to nothing."""

    def __init__(
        self, tree: Tree, folder: str, read: Callable[[str], Member | None], wanted: Callable[[str], bool] = bool
    ) -> None:
        self._tree, self._folder, self._read, self._wanted = tree, folder, read, wanted
        self._stamps: dict[str, Stamp] = {}
        self._members: dict[str, Member] = {}
        self._list: tuple[Member, ...] = ()

    def look(self) -> tuple[Member, ...]:
        """Return the objects, sorted by name; the very same tuple as before when none came or went.

        One that cannot be read is left out and tried again with the next look.
        """
        stamps = {name: stamp for name, stamp in self._tree.stamps(self._folder).items() if self._wanted(name)}
        if stamps == self._stamps:
            return self._list
        members: dict[str, Member] = {}
        for name, stamp in stamps.items():
            same = self._stamps.get(name) == stamp
            member = self._members.get(name) if same else self._read(name)
            if member is not None:
                members[name] = member
        self._stamps = {name: stamps[name] for name in members}
        self._members = members
        found = tuple(members.values())
        if found != self._list:
            self._list = found
        return self._list
