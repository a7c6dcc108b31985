"""What a lane leaves behind: it never looks for garbage among its old objects while many tasks wait."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.support.doors import played_door, worker

TASKS = 2000
WORKERS = 20
# Of the test itself and of what it calls; a cycle for each task would be thousands.
FEW_OBJECTS = 200


def test_tasks_that_are_done_leave_no_cycles(tmp_path: Path) -> None:
    """All of a task is freed when its outcome has gone: no look for garbage finds anything of it."""
    with played_door(tmp_path) as played:
        played.open()
        peer = played.join()
        for number in range(WORKERS):
            played.ready(f"w{number}")
        played.turn()
        gc.collect()
        gc.disable()
        try:
            for task_id in range(1, TASKS + 1):
                played.submit(task_id)
            played.turn()
            done = 0
            while done < TASKS:
                for number in range(WORKERS):
                    for message in played.heard(worker(f"w{number}")):
                        done += 1
                        played.finish(f"w{number}", message.run_task.lease.task_id)
                played.turn(0.01)
            outcome_count = len(played.heard(peer))
            assert gc.collect() < FEW_OBJECTS
        finally:
            gc.enable()
    assert outcome_count == TASKS + 1  # and `Joined`
