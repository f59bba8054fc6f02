"""Where replicas are while a plan is made: what each node has left, how they are spread, and the best node for one."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from zlib import crc32

from skerry.api.quantities import Amounts, added
from skerry.planning.fit import compatible, fits, in_scope
from skerry.planning.nodes import NodeAccelerator, NodeState, Placed
from skerry.planning.plans import Option, Wish


@dataclass(frozen=True)
class Seat:
    """A place that a replica has in the plan.

    Attributes:
        option: The accelerator and its variant.
        node: Name of the node.
        resource: Extended resource by which it has its device; empty for the CPU.
        takes: What it takes of each resource of the node.
        replica: The replica that has it already; None for a new one.
    """

    option: Option
    node: str
    resource: str
    takes: Amounts
    replica: Placed | None = None


class Board:
    """What is left of each node, and how many of the deployment's replicas each node and each topology value has."""

    def __init__(self, wish: Wish, nodes: Iterable[NodeState], placed: Iterable[Placed]) -> None:
        """Begin with none of the deployment's replicas: what those have now that are placed is given back."""
        self.nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
        self._key = wish.key
        self._topology = wish.placement.topology_key
        self._left: dict[str, Amounts] = {}
        self._on: Counter[str] = Counter()
        self._within: Counter[str] = Counter()
        for replica in placed:
            self._give(replica.node, replica.requests)

    def free(self, node: str) -> Amounts:
        """Return what is left of each resource of a node."""
        left = self._left.get(node)
        return self.nodes[node].free if left is None else left

    def free_without(self, seat: Seat) -> Amounts:
        """Return what would be left of the node of a seat were the seat empty."""
        return added(self.free(seat.node), seat.takes)

    def _give(self, node: str, amounts: Amounts) -> None:
        if node in self.nodes:
            self._left[node] = added(self.free(node), amounts)

    def put(self, seat: Seat) -> None:
        """Seat a replica."""
        self._give(seat.node, {resource: -many for resource, many in seat.takes.items()})
        self._on[seat.node] += 1
        self._within[self.domain(seat.node)] += 1

    def remove(self, seat: Seat) -> None:
        """Take a replica off."""
        self._give(seat.node, seat.takes)
        self._on[seat.node] -= 1
        self._within[self.domain(seat.node)] -= 1

    def accelerator(self, option: Option, node: str) -> NodeAccelerator:
        """Return a node's accelerator of an option; one by that name and nothing else where the node has none."""
        return self.nodes[node].accelerators.get(option.accelerator) or NodeAccelerator(option.accelerator)

    def seat(self, option: Option, node: str) -> Seat:
        """Return a seat for a new replica."""
        accelerator = self.accelerator(option, node)
        return Seat(option, node, accelerator.resource, option.need.takes(accelerator))

    def eligible(self, option: Option) -> list[str]:
        """Return the nodes that the user means, that have the accelerator, working or not, and can run the variant."""
        need = option.need
        return [
            name
            for name, node in self.nodes.items()
            if option.accelerator in node.accelerators
            and next(in_scope(need, node), None) is None
            and next(compatible(need, node), None) is None
        ]

    def fits(self, option: Option, node: str) -> bool:
        """Tell whether one more replica can be placed on a node now."""
        return fits(option.need, self.nodes[node], self.free(node))

    def domain(self, node: str) -> str:
        """Return the value of the topology label; empty where there is none, or none is asked for."""
        return self.nodes[node].labels.get(self._topology, "") if self._topology else ""

    def _draw(self, name: str) -> int:
        """Return a number that differs from deployment to deployment and stays when other names come and go."""
        return crc32(f"{self._key}\n{name}".encode())

    def domain_rank(self, domain: str) -> tuple[bool, int, int, str]:
        """Return what orders topology values: nodes without one last, then those with the fewest replicas first."""
        return not domain, self._within[domain], self._draw(domain), domain

    def node_rank(self, node: str) -> tuple[int, int, int, str]:
        """Return what orders nodes: those with the fewest replicas of the deployment, then the least loaded, first."""
        return self._on[node], self.nodes[node].load, self._draw(node), node


class Pool:
    """Nodes to choose from, the best one first: the least used topology value, in it the least used node.

    Ranks change while replicas are seated, and nodes fill up: each is looked at again when it comes to the top.
    """

    def __init__(self, board: Board, nodes: Iterable[str], usable: Callable[[str], bool]) -> None:
        """Take those nodes in that are usable; `usable` is asked again whenever one is to be chosen."""
        self._board = board
        self._usable = usable
        self._members = set(nodes)
        self._nodes: dict[str, list[tuple[int, int, int, str]]] = {}
        for name in self._members:
            if usable(name):
                self._nodes.setdefault(board.domain(name), []).append(board.node_rank(name))
        for ranks in self._nodes.values():
            heapify(ranks)
        self._domains = [board.domain_rank(domain) for domain in self._nodes]
        heapify(self._domains)

    def best(self) -> str | None:
        """Return the node for the next replica; None when there is no room anywhere."""
        while self._domains:
            rank = self._domains[0]
            domain = rank[-1]
            if rank != (current := self._board.domain_rank(domain)):
                heapreplace(self._domains, current)
            elif (node := self._best_within(self._nodes[domain])) is None:
                heappop(self._domains)
            else:
                return node
        return None

    def _best_within(self, ranks: list[tuple[int, int, int, str]]) -> str | None:
        while ranks:
            node = ranks[0][-1]
            if ranks[0] != (current := self._board.node_rank(node)):
                heapreplace(ranks, current)
            elif not self._usable(node):
                heappop(ranks)
            else:
                return node
        return None

    def returned(self, node: str) -> None:
        """Take a node in again that has got room, or whose rank has fallen."""
        if node in self._members:
            domain = self._board.domain(node)
            heappush(self._nodes.setdefault(domain, []), self._board.node_rank(node))
            heappush(self._domains, self._board.domain_rank(domain))
