"""Blocks of task records, as lanes write them."""

from __future__ import annotations

from collections.abc import Sequence

from quakegrid.api.v1.task_records_pb2 import ATTEMPT_END_LOST, TaskRecordBlock

OPENED_S = 1000.0
# Operation, worker, end, how long, how it ended.
Task = tuple[str, str, float, float, int]


def opening(workers: Sequence[str]) -> TaskRecordBlock:
    """The first block of a session whose workers are on two nodes."""
    block = TaskRecordBlock()
    block.session.session_id, block.session.opened_time_s = 7, OPENED_S
    for number, name in enumerate(workers):
        block.workers.add(worker_id=name, node=f"n{number % 2}", joined_time_s=OPENED_S)
    return block


def block_of(tasks: Sequence[Task], first_id: int = 1, memory_bytes: int = 5) -> TaskRecordBlock:
    """A block with these tasks."""
    operations = {name: at for at, name in enumerate(dict.fromkeys(task[0] for task in tasks))}
    workers = {name: at for at, name in enumerate(dict.fromkeys(task[1] for task in tasks))}
    count = len(tasks)
    return TaskRecordBlock(
        operations=operations,
        worker_ids=workers,
        task_ids=range(first_id, first_id + count),
        attempts=[1] * count,
        ends=[task[4] for task in tasks],
        operation_numbers=[operations[task[0]] for task in tasks],
        worker_numbers=[workers[task[1]] for task in tasks],
        end_times_s=[OPENED_S + task[2] for task in tasks],
        queued_s=[0.0] * count,
        held_s=[task[3] for task in tasks],
        duration_s=[0.0 if task[4] == ATTEMPT_END_LOST else task[3] for task in tasks],
        load_s=[0.0] * count,
        in_bytes=[10] * count,
        out_bytes=[1] * count,
        peak_memory_bytes=[memory_bytes] * count,
    )
