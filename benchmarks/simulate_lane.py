"""Thousands of cores in virtual time: how well the real scheduling core keeps them busy.

The same seed gives the same figures on any machine. Figures with a target make the exit code 1 when they
are short of it.
"""

from __future__ import annotations

import gc
import math
import random
import sys
import time
from collections.abc import Iterator

from benchmarks.support.figures import Figure
from benchmarks.support.lane.simulation import Job, Simulation, lower_bound_s, round_robin_s
from benchmarks.support.records import report

SEED = 20
# Of the logarithm: one task in twenty takes more than five times the median.
SPREAD = 1.0
MEAN_S = 30.0
MANY_NODES = [64] * 1000
MANY_TASKS = 8 * sum(MANY_NODES)
MIXED_NODES = [8, 64] * 25
MIXED_TASKS = 100 * sum(MIXED_NODES)


def lognormal_s(count: int, mean_s: float, seed: int = SEED) -> list[float]:
    """Durations of tasks, some of them much longer than most."""
    source = random.Random(seed)
    mu = math.log(mean_s) - SPREAD**2 / 2
    return [source.lognormvariate(mu, SPREAD) for _ in range(count)]


def many_nodes() -> Iterator[Figure]:
    """A thousand equal nodes."""
    run = Simulation(MANY_NODES, Job(lognormal_s(MANY_TASKS, MEAN_S))).run()
    assert run.done_count == MANY_TASKS
    yield Figure("1,000 x 64 cores, used until the tail", 100 * run.utilisation, "%", at_least=97)


def mixed_nodes() -> Iterator[Figure]:
    """Small nodes and large ones, with weights and without."""
    durations_s = lognormal_s(MIXED_TASKS, MEAN_S)
    bound_s = lower_bound_s(sum(MIXED_NODES), durations_s)
    known = Job(durations_s, weights=durations_s, expected_s=math.inf)
    known_s = makespan_s(known)
    yield Figure("8 and 64 cores, weights known, by bound", known_s / bound_s, "x", at_most=1.05)
    modulo_s = round_robin_s(MIXED_NODES, sorted(durations_s, reverse=True))
    yield Figure("task number modulo nodes, known, by ours", modulo_s / known_s, "x")
    # Nobody who does not know it can help it if the longest task comes last: what counts is the distance
    # from a schedule in the same order whose messages take no time.
    unknown_s = makespan_s(Job(durations_s))
    yield Figure("8 and 64 cores, weights unknown, by bound", unknown_s / bound_s, "x")
    ideal_s = round_robin_s([sum(MIXED_NODES)], durations_s)
    yield Figure("the same by the order's own bound", unknown_s / ideal_s, "x", at_most=1.05)
    modulo_s = round_robin_s(MIXED_NODES, durations_s)
    yield Figure("task number modulo nodes, unknown, by ours", modulo_s / unknown_s, "x")


def makespan_s(job: Job) -> float:
    """How long a job takes on the mixed nodes."""
    run = Simulation(MIXED_NODES, job).run()
    assert run.done_count == MIXED_TASKS
    return run.makespan_s


def figures() -> Iterator[Figure]:
    """All figures of the simulation."""
    gc.disable()  # millions of objects that live to the end of a run
    for part in (many_nodes, mixed_nodes):
        start_s = time.process_time()
        yield from part()
        gc.collect()
        print(f"simulated {part.__name__} in {time.process_time() - start_s:.0f} s of CPU", file=sys.stderr)
    gc.enable()


if __name__ == "__main__":
    sys.exit(report("simulation", figures()))
