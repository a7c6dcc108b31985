"""CPU of the broker's fleet core with 100 and with 1,000 nodes of 64 cores.

Every tenth node has code that every second session leaves out. Figures with a target make the exit code 1
when they are short of it: an operation may cost at most twelve times as much with ten times as many nodes.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.support import fleet_edges
from benchmarks.support.figures import Figure
from benchmarks.support.fleet_crowd import CORE_COUNT, MANY_TASKS, FleetCrowd
from benchmarks.support.records import report
from quakegrid.services.broker.fleet import events as fleet

FEW_NODES, MANY_NODES = 100, 1000
SESSION_COUNTS = (1, 2, 10, 100)
# How many persons the sessions of the largest of these counts belong to.
PERSON_COUNTS = (1, 2, 50)
# What an operation may cost against the same sessions of nobody: each person's cores are divided once more.
MAX_FOR_PERSONS = 2.0
MAX_GROWTH = 12.0
ENDING_WORKERS = 6400
# Sessions with even ids leave no node out.
ENDING_ID = 1000
# Ends of workers that a broker reads in one turn of its loop.
ENDS_A_TURN = 16
SEED = 17
MS, US = 1e3, 1e6


@dataclass(frozen=True, slots=True)
class Operation:
    """What is measured: `measure` gives seconds of CPU of one operation in a fleet that has settled."""

    name: str
    unit: str
    scale: float
    at_most: float
    measure: Callable[[FleetCrowd], float]
    max_growth: float | None = MAX_GROWTH


def settled(node_count: int, session_count: int, person_count: int = 0) -> FleetCrowd:
    """A fleet whose sessions have their shares, and a task for each worker."""
    crowd = FleetCrowd(node_count, is_mixed=True)
    for session_id in range(1, session_count + 1):
        crowd.open(session_id, person=f"person{session_id % person_count}" if person_count else "")
    settle(crowd)
    return crowd


def settle(crowd: FleetCrowd) -> None:
    """Let some seconds go by in which agents and lanes do as they are told."""
    for _ in range(4):
        crowd.obey(burst=640)
        crowd.turn([crowd.count(session_id) for session_id in crowd.core.sessions])
        crowd.turn([fleet.SecondPassed()])


def some_events(crowd: FleetCrowd, count: int) -> Iterator[fleet.Event]:
    """Ends of workers, reports and counts, as they come in a working fleet."""
    source = random.Random(SEED)
    session_ids = list(crowd.core.sessions)
    for number in range(count):
        host = source.choice(crowd.hosts)
        match number % 4:
            case 0 | 1 if crowd.seats[host]:
                yield crowd.exit(next(iter(crowd.seats[host])))
            case 2:
                yield crowd.report(host)
            case _:
                session_id = session_ids[number % len(session_ids)]
                yield crowd.count(session_id, MANY_TASKS + number)


def one_event(crowd: FleetCrowd) -> float:
    """Each event has a turn of its own."""
    return event_s(crowd, burst=1, turn_count=200)


def burst_of_events(crowd: FleetCrowd) -> float:
    """Events come together."""
    return event_s(crowd, burst=64, turn_count=30)


def event_s(crowd: FleetCrowd, *, burst: int, turn_count: int) -> float:
    """CPU of an event of a burst."""
    events = some_events(crowd, burst * turn_count)
    before_s = crowd.cpu_s
    for _ in range(turn_count):
        crowd.turn([next(events) for _ in range(burst)])
    spent_s = crowd.cpu_s - before_s
    crowd.obey(burst=640)
    return spent_s / (burst * turn_count)


def reports_of_100(crowd: FleetCrowd) -> float:
    """A hundred agents report what they have, each in a turn of its own."""
    return min(reports_s(crowd, is_first=False) for _ in range(3))


def first_reports_of_100(crowd: FleetCrowd) -> float:
    """The same when the connections to them were lost and are there again."""
    return min(reports_s(crowd, is_first=True) for _ in range(3))


def reports_s(crowd: FleetCrowd, *, is_first: bool) -> float:
    """CPU of the reports of a hundred nodes."""
    before_s = crowd.cpu_s
    for host in crowd.hosts[:100]:
        crowd.turn([crowd.report(host, is_first=is_first)])
    return crowd.cpu_s - before_s


def second(crowd: FleetCrowd) -> float:
    """The broker's timer."""
    before_s = crowd.cpu_s
    for _ in range(20):
        crowd.turn([fleet.SecondPassed()])
    return (crowd.cpu_s - before_s) / 20


def status(crowd: FleetCrowd) -> float:
    """What `quakegrid status` reads."""
    return min(fleet_edges.statuses_s(crowd, 3))


# A status looks at every worker, and 64,000 of them do not fit into the caches of a processor.
OPERATIONS = (
    Operation("event", "us", US, 1000, one_event),
    Operation("event of a burst of 64", "us", US, 100, burst_of_events),
    Operation("100 nodes report", "ms", MS, 20, reports_of_100),
    Operation("100 nodes report for the first time", "ms", MS, 100, first_reports_of_100),
    Operation("second", "ms", MS, 10, second),
    Operation("status", "ms", MS, 100, status, max_growth=None),
)


def end_s(node_count: int, session_count: int, worker_count: int) -> float:
    """CPU until others have the cores of a session that ends."""
    crowd = FleetCrowd(node_count, is_mixed=True)
    others = range(1, session_count)
    crowd.open(ENDING_ID, max_workers=worker_count, weight=1000.0)
    for session_id in others:
        crowd.open(session_id)
    # Where the first session is to have every core, the others have no task until it ends.
    is_whole = worker_count == node_count * CORE_COUNT
    for _ in range(4):
        for session_id in others:
            crowd.turn([crowd.count(session_id, 0 if is_whole else MANY_TASKS)])
        crowd.turn([crowd.count(ENDING_ID), fleet.SecondPassed()])
        crowd.obey(burst=640)
    have = crowd.core.workers.count_of_session(ENDING_ID)
    if have != worker_count:
        raise AssertionError(f"the session has {have} workers")

    counts = [crowd.count(session_id) for session_id in others]
    before_s = crowd.cpu_s
    crowd.turn([fleet.SessionEnded(ENDING_ID, is_forced=False), *counts])
    crowd.obey(burst=ENDS_A_TURN)
    spent_s = crowd.cpu_s - before_s
    crowd.core.check()
    # The only other session of two leaves out every tenth node.
    usable_count = node_count * CORE_COUNT * (9 if session_count == 2 else 10) // 10
    if len(crowd.core.workers) != usable_count:
        raise AssertionError(f"{len(crowd.core.workers)} cores are used in the end")
    return spent_s


def settled_figures(session_count: int) -> Iterator[Figure]:
    """Operations of a fleet at work."""
    few, many = settled(FEW_NODES, session_count), settled(MANY_NODES, session_count)
    for operation in OPERATIONS:
        few_s, many_s = operation.measure(few), operation.measure(many)
        name = f"{operation.name}, {session_count} sessions"
        yield Figure(name, operation.scale * many_s, operation.unit, at_most=operation.at_most)
        yield Figure(f"  against {FEW_NODES} nodes", many_s / few_s, "x", at_most=operation.max_growth)


def person_figures(person_count: int) -> Iterator[Figure]:
    """Operations of a fleet whose sessions belong to persons, against one whose sessions are nobody's."""
    session_count = SESSION_COUNTS[-1]
    for node_count in (FEW_NODES, MANY_NODES):
        nobodys = settled(node_count, session_count)
        crowd = settled(node_count, session_count, person_count)
        for operation in OPERATIONS:
            if operation.max_growth is None:
                continue
            # One after the other, twice: what the machine does meanwhile meets both.
            pairs = [(operation.measure(nobodys), operation.measure(crowd)) for _ in range(2)]
            without_s, spent_s = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
            who = "1 person" if person_count == 1 else f"{person_count} persons"
            name = f"{operation.name}, {node_count} nodes, {session_count} sessions of {who}"
            yield Figure(name, operation.scale * spent_s, operation.unit, at_most=operation.at_most)
            yield Figure("  against sessions of nobody", spent_s / without_s, "x", at_most=MAX_FOR_PERSONS)


def best_end_s(node_count: int, session_count: int, worker_count: int) -> float:
    """The better of two runs."""
    return min(end_s(node_count, session_count, worker_count) for _ in range(2))


def end_figures(session_count: int) -> Iterator[Figure]:
    """The end of a session beside others."""
    few_s = best_end_s(FEW_NODES, session_count, ENDING_WORKERS)
    many_s = best_end_s(MANY_NODES, session_count, ENDING_WORKERS)
    yield Figure(f"end of 6,400 workers, {session_count} sessions", MS * many_s, "ms", at_most=2000)
    yield Figure(f"  against {FEW_NODES} nodes", many_s / few_s, "x", at_most=MAX_GROWTH)
    whole_s = best_end_s(MANY_NODES, session_count, MANY_NODES * CORE_COUNT)
    yield Figure(f"end of 64,000 workers, {session_count} sessions", MS * whole_s, "ms", at_most=20_000)
    yield Figure("  against 6,400 of 100 nodes", whole_s / few_s, "x", at_most=MAX_GROWTH)


def figures() -> Iterator[Figure]:
    """All figures."""
    for session_count in SESSION_COUNTS:
        yield from settled_figures(session_count)
        if session_count > 1:
            yield from end_figures(session_count)
    for person_count in PERSON_COUNTS:
        yield from person_figures(person_count)
    counts_s = asyncio.run(fleet_edges.counts_s(settled(FEW_NODES, 1)))
    yield Figure("counts with 6,400 busy names, decoded", MS * counts_s, "ms", at_most=10)


if __name__ == "__main__":
    sys.exit(report("fleet", figures()))
