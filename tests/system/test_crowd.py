"""A thousand real workers on one machine: they are all used, shared justly, cost little, and outlive faults.

Their tasks sleep and compute nothing, so neither the parts of their time nor the counts of what became of the
tasks depend on how fast the machine is. Where its CPU is used up, by others or by a machine too slow for a
thousand processes, the part that tasks ran tells of the machine and not of the cluster: the test says so.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from benchmarks.crowd import measures
from benchmarks.crowd.cluster import Crowd, available_memory_bytes, running_crowd
from quakegrid.sdk.executor import ClusterExecutor

# `alone`: it fills the machine's memory, and measures what tasks get of it.
pytestmark = [pytest.mark.full, pytest.mark.alone, pytest.mark.timeout(900)]
AGENTS, CORES = 16, 64
WORKER_BYTES = 10_000_000
THREADS_A_WORKER = 5
# Heartbeats wake a worker: it asks its lane and hears the answer, and the lane asks it, each every 3 s.
WAKEUPS_HZ = 1.5
# With less of the CPU left, tasks and messages wait for it.
CPU_LEFT = 0.05


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    """Sixteen nodes of 64 cores."""
    needed = AGENTS * CORES * WORKER_BYTES
    if available_memory_bytes() < needed:
        pytest.skip(f"a thousand workers need {needed / 1e9:.0f} GB of memory that nobody uses")
    limit, _hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit not in (resource.RLIM_INFINITY, -1) and limit < AGENTS * CORES * THREADS_A_WORKER:
        pytest.skip(f"a thousand workers need more than {limit} threads (ulimit -u)")
    with running_crowd(AGENTS, CORES) as crowd:
        yield crowd


@pytest.fixture(scope="module")
def executor(crowd: Crowd) -> Iterator[ClusterExecutor]:
    """A session that may have all workers."""
    with ClusterExecutor(crowd.settings, shows_output=False) as executor:
        yield executor


def hold(is_so: bool, told: str, idle_part: float) -> None:
    """Fail unless it is so, or skip where the machine had no CPU left: that tells nothing of the cluster."""
    if not is_so and idle_part < CPU_LEFT:
        pytest.skip(f"this machine's CPU is the limit: {told}")
    assert is_so, told


def keep_at_work(crowd: Crowd, executor: ClusterExecutor, worker_count: int) -> None:
    """Between two tasks a worker loses less than a twentieth of its time."""
    working = measures.work(crowd, executor, worker_count, 10.0)

    told = f"{working.utilisation:.1%} of the workers' time, {working.idle_part:.0%} of the CPU left"
    print(told, *(f"{name} {working.cpu_us(name):.0f} us a task" for name in working.used), sep=", ")
    assert working.task_count >= worker_count
    hold(working.utilisation >= 0.95, told, working.idle_part)


def test_thousand_workers_connect_and_are_used(crowd: Crowd, executor: ClusterExecutor) -> None:
    """Two thousand tasks a second take two to three cores for all that is around the naps."""
    keep_at_work(crowd, executor, crowd.worker_count)


def test_some_of_the_workers_are_used(crowd: Crowd, executor: ClusterExecutor) -> None:
    """A quarter of them, which a machine of two cores carries, while the first session has no tasks."""
    executor.submit(int).result()
    few = crowd.worker_count // 4
    with ClusterExecutor(crowd.settings, few, shows_output=False) as small:
        keep_at_work(crowd, small, few)


def test_worker_that_waits_does_not_wake(crowd: Crowd, executor: ClusterExecutor) -> None:
    """But for heartbeats; a thousand that look for work some times a second would take a core."""
    resting = measures.rest(crowd, executor, 10.0)

    print(f"{resting.wakeups_hz:.2f} wakeups a worker and second, {resting.cores:.2f} cores in all")
    assert resting.worker_count == crowd.worker_count
    assert resting.wakeups_hz <= WAKEUPS_HZ


def test_two_jobs_share_within_a_twentieth(crowd: Crowd, executor: ClusterExecutor) -> None:
    """The second comes while the first has all workers; what each gets is compared with the other's."""
    shared = measures.share(crowd, executor, 10.0)

    print(shared)
    for part in (shared.worker_part, shared.task_part):
        hold(0.475 <= part <= 0.525, str(shared), shared.idle_part)


def test_killed_lane_and_broker_cost_no_task_and_no_worker(crowd: Crowd, executor: ClusterExecutor) -> None:
    """A thousand workers connect again; what ran has run, and each result comes once."""
    survived = measures.survive(crowd, executor)

    print(survived.lane, survived.broker)
    feeder = survived.feeder
    assert not feeder.errors
    assert (feeder.lost_count, feeder.repeated_delivery_count, survived.lost_worker_count) == (0, 0, 0)
