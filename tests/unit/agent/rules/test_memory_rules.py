"""The memory rules: short of memory, and who is stopped."""

from __future__ import annotations

import pytest

from quakegrid.services.agent.rules.memory import (
    MemoryRules,
    NodeMemory,
    WorkerMemory,
    WorkerToStop,
    in_words,
)

MIB = 1 << 20
GIB = 1 << 30


def worker(name: str, session_id: int, own_gib: float) -> WorkerMemory:
    """A worker that shares half a GiB with the template."""
    return WorkerMemory(name, session_id, int((own_gib + 0.5) * GIB), int(own_gib * GIB))


def memory(percent: float, *workers: WorkerMemory) -> NodeMemory:
    """A node of 100 GiB."""
    return NodeMemory(int(percent * GIB), 100 * GIB, workers)


def rules(worker_bytes: int = 0) -> MemoryRules:
    """Soft limit 80 %, hard limit 95 %."""
    return MemoryRules("n1", 80, 95, worker_bytes)


def test_node_is_short_from_the_soft_limit_until_well_below_it() -> None:
    """A node at the limit does not flap."""
    core = rules()
    seen = []

    for percent in (79.9, 80, 79, 75.1, 74.9, 79.9):
        assert core.handle(memory(percent)) == []
        seen.append(core.is_short)

    assert seen == [False, True, True, True, False, False]


def test_largest_worker_of_the_greediest_session_is_stopped_past_the_hard_limit() -> None:
    """Not the largest of all: what counts is what a job has in sum."""
    workers = (worker("a", 1, 20), worker("b", 2, 13.7), worker("c", 2, 12))

    stops = rules().handle(memory(96, *workers))

    reason = "stopped at 14.2 GiB resident because n1's memory was at 96 % (hard_mem_limit 95)"
    assert stops == [WorkerToStop("b", reason)]


def test_nobody_is_stopped_at_the_hard_limit() -> None:
    """Only past it."""
    assert rules().handle(memory(95, worker("a", 1, 90))) == []


def test_next_worker_is_stopped_only_when_the_first_is_gone() -> None:
    """A kill gives its memory back first."""
    core = rules()
    first, second = worker("a", 1, 50), worker("b", 1, 40)

    stops = [core.handle(memory(96, *left)) for left in ((first, second), (first, second), (second,))]

    assert [[stop.name for stop in each] for each in stops] == [["a"], [], ["b"]]


def test_small_workers_are_left_alone_when_others_have_the_memory() -> None:
    """Stopping them would not help."""
    assert rules().handle(memory(99, worker("a", 1, 0.01), worker("b", 2, 0.05))) == []


def test_session_of_many_small_workers_is_passed_over() -> None:
    """The one whose worker has something to give back is taken."""
    small = tuple(worker(f"s{number}", 1, 0.05) for number in range(40))

    (stop,) = rules().handle(memory(99, *small, worker("large", 2, 1)))

    assert stop.name == "large"


def test_worker_above_its_own_limit_is_stopped_once() -> None:
    """Whatever the node has left, and only it."""
    core = rules(worker_bytes=300 * MIB)
    workers = (worker("a", 1, 0.5), worker("b", 1, 0.2))

    stops = core.handle(memory(99, *workers))

    reason = "stopped at 512 MiB of its own, more than [agent] worker_memory allows (300 MiB)"
    assert stops == [WorkerToStop("a", reason)]
    assert core.handle(memory(99, *workers)) == []


@pytest.mark.parametrize(("size", "words"), [(GIB, "1.0 GiB"), (GIB - MIB, "1023 MiB"), (0, "0 MiB")])
def test_sizes_read_as_words(size: int, words: str) -> None:
    """In GiB from one on."""
    assert in_words(size) == words
