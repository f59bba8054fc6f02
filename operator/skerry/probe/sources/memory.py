"""The node's memory, from `proc/meminfo`."""

from skerry.probe.sources.tree import Tree


def read(tree: Tree) -> tuple[int, int]:
    """Return how much the node has and how much is free or can be freed, in bytes; 0 for what is not told."""
    found = {"MemTotal": 0, "MemAvailable": 0}
    for line in tree.data("proc/meminfo").decode("ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if name in found and words and words[0].isdecimal():
            found[name] = int(words[0]) * 1024
    return found["MemTotal"], found["MemAvailable"]
