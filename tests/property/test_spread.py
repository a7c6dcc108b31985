"""Where the workers of one session start on an empty fleet, whatever its nodes and the session's wish."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import step

FITS, DIFFERS = {"x": "1"}, {"x": "2"}
NODES = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([True, True, True, False])), min_size=1, max_size=8
)
# How many tasks the session has, one after the other.
TASK_COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def play(
    nodes: list[tuple[int, bool]],
    max_workers: int,
    task_counts: list[int],
    width: int = 1,
    *,
    is_packed: bool,
) -> tuple[Fleet, Counter[str]]:
    """The fleet, and how many workers of its session each node has, in order of the nodes."""
    core = Fleet([HostCores(f"n{number}", -1) for number in range(len(nodes))], 0, "run", is_packed=is_packed)
    # Its cores are wanted by nobody else, and it has a task before the first node is there.
    step(core, fleet.SessionRequested(1, (), max_workers=max_workers, width=width, fingerprint=FITS))
    for task_count in task_counts:
        step(core, fleet.TasksCounted(1, task_count))
        for number, (core_count, is_fit) in enumerate(nodes):
            has = FITS if is_fit else DIFFERS
            core.handle(fleet.NodeReported(f"n{number}", "", core_count, "warm", fingerprint=has), 0.0)
        core.place()
    core.check()
    return core, Counter(worker.host for worker in core.workers.values())


@given(NODES, st.integers(0, 30), TASK_COUNTS)
def test_no_node_has_two_workers_more_than_another_with_room(
    nodes: list[tuple[int, bool]], max_workers: int, task_counts: list[int]
) -> None:
    """Also if the session asks for more and more workers, and some nodes are small or left out."""
    _, counts = play(nodes, max_workers, task_counts, is_packed=False)

    most = max(counts.values(), default=0)
    for number, (core_count, is_fit) in enumerate(nodes):
        count = counts[f"n{number}"]
        assert count <= (core_count if is_fit else 0)
        assert not is_fit or count == core_count or count >= most - 1


@given(NODES, st.integers(0, 30), TASK_COUNTS)
def test_packed_workers_leave_at_most_one_node_half_used(
    nodes: list[tuple[int, bool]], max_workers: int, task_counts: list[int]
) -> None:
    """A further node is used when the others are full."""
    _, counts = play(nodes, max_workers, task_counts, is_packed=True)

    half_used = [host for host, count in counts.items() if count < nodes[int(host[1:])][0]]
    assert len(half_used) <= 1


@given(NODES, st.integers(0, 30), TASK_COUNTS, st.integers(1, 5), st.booleans())
def test_every_wanted_core_is_used_however_workers_are_placed(
    nodes: list[tuple[int, bool]], max_workers: int, task_counts: list[int], width: int, is_packed: bool
) -> None:
    """Wide workers become narrower rather than missing."""
    core, counts = play(nodes, max_workers, task_counts, width, is_packed=is_packed)

    room = sum(core_count for core_count, is_fit in nodes if is_fit)
    used = sum(worker.core_count for worker in core.workers.values())
    is_full = 0 < max_workers == sum(counts.values())
    assert is_full or used >= min(room, max(task_counts) * width)
