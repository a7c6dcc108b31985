"""How many cores each node gives and workers have, with sums that are kept up to date.

Pure. Nodes are of one *kind* if the same sessions leave them out or avoid them. There are few kinds, so
placement asks for sums over kinds, and for nodes with free cores; none of these is counted when it is asked
for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from quakegrid.errors import IllegalMoveError

# The ids of the sessions that have no use for a node.
Kind = frozenset[int]
FITS_ALL: Kind = frozenset()


@dataclass(slots=True)
class NodeTally:
    """The cores of one node.

    Args:
        host: of the node.
        number: of the node, in the order in which nodes came.
        kind: of the node.
        given: that sessions can have.
        used: of all its workers.
        kept: of its workers that stay.
        stuck: of its workers that were asked to end long ago.
    """

    host: str
    number: int
    kind: Kind = FITS_ALL
    given: int = 0
    used: int = 0
    kept: int = 0
    stuck: int = 0

    @property
    def free(self) -> int:
        """Cores that a worker could have now; less than 0 if workers have more than the node gives."""
        return self.given - self.used

    @property
    def leaving(self) -> int:
        """Cores of workers that are about to end."""
        return self.used - self.kept - self.stuck

    @property
    def room(self) -> int:
        """Cores that are free, or will be soon."""
        return max(0, self.given - self.kept - self.stuck)


@dataclass(slots=True)
class KindTally:
    """The nodes of a kind: the cores that they give, the sum of their `room`, and those with free cores."""

    given: int = 0
    room: int = 0
    free: dict[str, NodeTally] = field(default_factory=dict)


class CoreTable:
    """The cores of all nodes of a fleet, by host.

    `kinds` has the sums of each kind; a kind without nodes may be there. `above` are the nodes whose staying
    workers have more cores than the node gives. `given` and `room` are over all nodes.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeTally] = {}
        self._count = 0
        self.kinds: dict[Kind, KindTally] = {FITS_ALL: KindTally()}
        self.above: dict[str, NodeTally] = {}
        self.given = 0
        self.room = 0

    def __getitem__(self, host: str) -> NodeTally:
        return self._nodes[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def enter(self, host: str) -> None:
        """A node that is new gives no core yet."""
        if host not in self._nodes:
            self._count += 1
            self._nodes[host] = NodeTally(host, self._count)

    def forget(self, host: str) -> None:
        """A node without workers that gives no core is gone."""
        del self._nodes[host]

    def give(self, host: str, core_count: int) -> None:
        """A node gives so many cores from now on."""
        node = self._nodes[host]
        added, before = core_count - node.given, node.room
        if added:
            node.given = core_count
            self.given += added
            self.kinds[node.kind].given += added
            self._sort(node, before)

    def change(self, host: str, *, used: int = 0, kept: int = 0, stuck: int = 0) -> None:
        """Workers of a node have more cores than before, or fewer."""
        node = self._nodes[host]
        before = node.room
        node.used += used
        node.kept += kept
        node.stuck += stuck
        self._sort(node, before)

    def divide(self, kinds: Mapping[str, Kind]) -> None:
        """Say which nodes are of which kind, by host; those that are not named fit all sessions."""
        self.kinds = {FITS_ALL: KindTally()} | {kind: KindTally() for kind in kinds.values()}
        for node in self._nodes.values():
            node.kind = kinds.get(node.host, FITS_ALL)
            cores = self.kinds[node.kind]
            cores.given += node.given
            cores.room += node.room
            if node.free > 0:
                cores.free[node.host] = node

    @property
    def is_uniform(self) -> bool:
        """Whether every node fits every session."""
        return len(self.kinds) == 1

    @property
    def is_any_free(self) -> bool:
        """Whether a node has a free core."""
        return any(cores.free for cores in self.kinds.values())

    def given_to(self, session_id: int) -> int:
        """Cores of the nodes that fit a session."""
        return sum(cores.given for kind, cores in self.kinds.items() if session_id not in kind)

    def check(self) -> None:
        """Raise `IllegalMoveError` unless the sums are those of the nodes."""
        again = CoreTable()
        again._nodes = self._nodes
        again.divide({node.host: node.kind for node in self._nodes.values()})
        is_right = (
            all(self.kinds[kind] == cores for kind, cores in again.kinds.items())
            and self.given == sum(cores.given for cores in self.kinds.values())
            and self.room == sum(cores.room for cores in self.kinds.values())
            and self.above.keys() == {node.host for node in self._nodes.values() if node.kept > node.given}
        )
        if not is_right:
            raise IllegalMoveError(f"the sums of the cores of {len(self._nodes)} nodes are wrong")

    def _sort(self, node: NodeTally, room_before: int) -> None:
        """Put a node among those that it belongs to."""
        cores = self.kinds[node.kind]
        added = node.room - room_before
        self.room += added
        cores.room += added
        if node.used < node.given:
            cores.free[node.host] = node
        else:
            cores.free.pop(node.host, None)
        if node.kept > node.given:
            self.above[node.host] = node
        else:
            self.above.pop(node.host, None)
