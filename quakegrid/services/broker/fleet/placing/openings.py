"""Where workers of a session may start: on which nodes, and how wide.

Pure. Workers *spread*: each starts on the node where fewest cores are used, since the workers of a node
share its memory bandwidth. If the fleet is to be *packed*, each starts on the node where most are used, so
that others stay empty.

A worker is as wide as its session asks where a node has room for that, or will have when those that are
leaving it are gone. It is narrower rather than missing: a wide session never waits for cores that others
keep.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quakegrid.services.broker.fleet.cores import CoreTable, Kind
from quakegrid.services.broker.fleet.state import FleetNode


@dataclass(frozen=True, slots=True)
class Lack:
    """What a session lacks: cores, in so many workers at most, each `width` cores wide.

    A patient session has workers already. It does not take single free cores of a node while other workers
    are leaving the node, so that its next worker is as wide as it should be.
    """

    core_count: int
    worker_count: int
    width: int = 1
    is_patient: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    """Room for `count` workers of a width."""

    host: str
    width: int
    count: int


@dataclass(slots=True)
class _FreeNode:
    """A node's free cores, and those that workers are about to leave."""

    host: str
    free: int
    leaving: int
    cores_per_worker: int


# Nodes in the order in which they take workers: rank, number of the node, its place.
_Heap = list[tuple[int, int, _FreeNode]]


class Openings:
    """The free cores of a fleet, while one placement hands them out.

    Args:
        nodes: by host.
        cores: of the nodes.
        is_packed: whether workers go where most cores are used, rather than fewest.
    """

    def __init__(self, nodes: Mapping[str, FleetNode], cores: CoreTable, *, is_packed: bool) -> None:
        self._nodes, self._cores = nodes, cores
        self._step = -1 if is_packed else 1
        self._heaps: dict[Kind, _Heap] = {}

    def take(self, session_id: int, lack: Lack) -> Iterator[Opening]:
        """Yield openings for what a session lacks; at first those of full width."""
        heaps = [self._heap(kind) for kind in self._cores.kinds if session_id not in kind]
        missing, worker_count = lack.core_count, lack.worker_count
        counts: dict[tuple[str, int], int] = {}
        for may_be_narrower in (False, True):
            unused: list[tuple[_Heap, tuple[int, int, _FreeNode]]] = []
            while missing > 0 and worker_count > 0 and (heap := _next(heaps)):
                rank, number, place = item = heapq.heappop(heap)
                width = _width(lack, place, missing, may_be_narrower=may_be_narrower)
                if not width:
                    unused.append((heap, item))
                    continue
                counts[place.host, width] = counts.get((place.host, width), 0) + 1
                missing -= width
                worker_count -= 1
                place.free -= width
                if place.free > 0:
                    heapq.heappush(heap, (rank + self._step * width, number, place))
            for heap, item in unused:
                heapq.heappush(heap, item)
        for (host, width), count in counts.items():
            yield Opening(host, width, count)

    def _heap(self, kind: Kind) -> _Heap:
        """The nodes of a kind that have free cores, looked at once a placement."""
        if kind in self._heaps:
            return self._heaps[kind]
        heap = self._heaps[kind] = []
        for host, cores in self._cores.kinds[kind].free.items():
            node = self._nodes[host]
            if not node.is_refusing:
                place = _FreeNode(host, cores.free, cores.leaving, node.cores_per_worker)
                heap.append((self._step * cores.used, cores.number, place))
        heapq.heapify(heap)
        return heap


def _next(heaps: list[_Heap]) -> _Heap | None:
    """The heap whose first node takes the next worker."""
    return min((heap for heap in heaps if heap), key=_first, default=None)


def _first(heap: _Heap) -> tuple[int, int]:
    rank, number, _ = heap[0]
    return rank, number


def _width(lack: Lack, place: _FreeNode, missing: int, *, may_be_narrower: bool) -> int:
    """Cores of the next worker on a node; 0 for no worker there."""
    width = min(-(-lack.width // place.cores_per_worker), missing)
    if width <= place.free:
        return width
    is_waiting = lack.is_patient and width <= place.free + place.leaving
    return place.free if may_be_narrower and not is_waiting else 0
