"""The real scheduling core over virtual time: cores stay busy, and what was given too early comes back."""

from __future__ import annotations

import math

import pytest

from benchmarks.simulate_lane import lognormal_s
from benchmarks.support.lane.simulation import Job, Run, Simulation, lower_bound_s, round_robin_s

NODES = [1, 8] * 4


def simulate(job: Job, nodes: list[int] = NODES) -> Run:
    """Run a job to its end; every task is done once."""
    run = Simulation(nodes, job).run()
    assert run.done_count == len(job.durations_s)
    return run


def test_simulation_keeps_many_workers_busy() -> None:
    """Long tasks of unknown durations leave no core idle while any waits."""
    run = simulate(Job(lognormal_s(2000, mean_s=30.0)), nodes=[8] * 16)

    assert run.utilisation > 0.99


def test_simulation_with_weights_comes_near_the_lower_bound() -> None:
    """Heaviest first balances unequal nodes; task number modulo nodes does not."""
    durations_s = lognormal_s(2000, mean_s=30.0)

    run = simulate(Job(durations_s, weights=durations_s, expected_s=math.inf))

    assert run.makespan_s <= 1.05 * lower_bound_s(sum(NODES), durations_s)
    assert run.makespan_s < round_robin_s(NODES, durations_s) / 2


def test_simulation_takes_short_tasks_back_at_the_end() -> None:
    """What was handed out ahead goes to who idles: the tail is short although one task was misjudged."""
    durations_s = [*[0.01] * 1500, 3.0, *[0.01] * 500]

    run = simulate(Job(durations_s))

    assert run.recall_count
    assert run.makespan_s <= run.tail_s + 3.1


@pytest.mark.parametrize("mean_s", [0.002, 0.02, 30.0])
def test_simulation_is_deterministic(mean_s: float) -> None:
    """The same tasks give the same run, credits and recalls included."""
    job = Job(lognormal_s(500, mean_s))

    assert simulate(job) == simulate(job)
