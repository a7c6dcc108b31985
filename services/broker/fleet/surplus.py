"""Which workers go when a node gives fewer cores than it did.

Pure. They are drained, so that nothing is lost: each ends after the task that it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from services.broker.fleet.state import FleetNode, FleetWorker, count_cores


def surplus_workers(
    nodes: Iterable[FleetNode],
    staying: Mapping[int, Sequence[FleetWorker]],
    targets: Mapping[int, int],
    busy: set[str],
) -> list[FleetWorker]:
    """Workers above what their node gives, from who has most above its target, idle ones first.

    Args:
        nodes: of the fleet.
        staying: workers by session, without those that drain.
        targets: cores that each of these sessions may have.
        busy: ids of workers that hold a task.
    """
    excess = {session_id: count_cores(each) - targets[session_id] for session_id, each in staying.items()}
    chosen: list[FleetWorker] = []
    for node in nodes:
        if not node.tells_cores:
            continue  # what it gives is not known now; it lets go of nothing
        here = [worker for workers in staying.values() for worker in workers if worker.host == node.host]
        while count_cores(here) > node.core_count:
            worker = max(here, key=lambda each: (excess[each.session_id], each.worker_id not in busy))
            here.remove(worker)
            excess[worker.session_id] -= worker.core_count
            chosen.append(worker)
    return chosen
