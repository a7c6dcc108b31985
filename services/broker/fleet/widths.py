"""Where workers of a session may start, if it wants them wider than one core.

Pure. A worker is as wide as its session asks where a node has room for that, or will have when those that
are leaving it are gone. It is narrower rather than missing: a wide session never waits for cores that
others keep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.broker.fleet.state import FleetNode


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


def find_openings(
    lack: Lack, nodes: Sequence[FleetNode], room: Counter[str], leaving: Counter[str]
) -> Iterator[Opening]:
    """Yield openings, at first those of full width, and take them out of `room`.

    Args:
        lack: of one session.
        nodes: where it may have workers.
        room: free cores of each node.
        leaving: cores of each node whose workers are about to end.
    """
    missing, worker_count = lack.core_count, lack.worker_count
    for may_be_narrower in (False, True):
        for node in nodes:
            full = -(-lack.width // node.cores_per_worker)
            while missing > 0 and worker_count > 0:
                free, width = room[node.host], min(full, missing)
                if free < width:
                    is_waiting = lack.is_patient and width <= free + leaving[node.host]
                    if free <= 0 or is_waiting or not may_be_narrower:
                        break
                    width = free
                count = min(free // width, missing // width, worker_count)
                room[node.host] -= count * width
                missing -= count * width
                worker_count -= count
                yield Opening(node.host, width, count)
