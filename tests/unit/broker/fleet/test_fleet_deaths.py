"""The fleet core: workers that die, at one broken node or everywhere."""

from __future__ import annotations

import pytest

from quakegrid.services.broker.fleet import deaths
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step


def warm(node_count: int, cores: int) -> Fleet:
    """A fleet of equal nodes that are up, with one session."""
    core = Fleet([HostCores(f"n{number}", -1) for number in range(node_count)], 1, "run")
    for number in range(node_count):
        step(core, fleet.NodeReported(f"n{number}", f"node{number}", cores, "warm"))
    step(core, fleet.SessionRequested(1, (10,)))
    return core


def kill(core: Fleet, host: str) -> list[fleet.Action]:
    """One worker at a host dies."""
    worker = core.workers_of(host=host)[0]
    return step(core, ended(worker.worker_id, "exit code 1", is_clean=False))


def is_failed(actions: list[fleet.Action]) -> bool:
    """Whether the session was given up."""
    return any(isinstance(action, fleet.FailSession) for action in actions)


@pytest.mark.parametrize(("node_count", "cores"), [(100, 64), (2, 64), (2, 1), (3, 16)])
def test_one_broken_node_does_not_fail_a_job(node_count: int, cores: int) -> None:
    """Its workers die at their start; those of the others are in long tasks."""
    core = warm(node_count, cores)
    count = 0

    while core.workers_of(host="n0"):
        assert not is_failed(kill(core, "n0"))
        count += 1

    assert count <= deaths.MAX_DEATHS + cores
    assert len(core.workers) == (node_count - 1) * cores
    assert not any(isinstance(each, fleet.StartWorkers) for each in step(core, fleet.SecondPassed()))
    core.check()


def test_node_gets_workers_again_when_a_task_was_done() -> None:
    """The session can work; what killed its workers there may have been a task."""
    core = warm(2, 1)
    while core.workers_of(host="n0"):
        kill(core, "n0")

    step(core, fleet.ProgressMade(1))
    again = step(core, fleet.SecondPassed())

    assert [each.host for each in again if isinstance(each, fleet.StartWorkers)] == ["n0"]


def test_node_gets_workers_again_when_its_agent_is_back() -> None:
    """Somebody may have mended it."""
    core = warm(2, 1)
    while core.workers_of(host="n0"):
        kill(core, "n0")

    again = step(core, fleet.NodeReported("n0", "node0", 1, "warm", frozenset()))

    assert [each.host for each in again if isinstance(each, fleet.StartWorkers)] == ["n0"]


@pytest.mark.parametrize(("node_count", "cores"), [(1, 1), (1, 64), (1, 256), (2, 1), (3, 16), (100, 64)])
def test_setup_that_crashes_everywhere_fails_the_job(node_count: int, cores: int) -> None:
    """Workers die evenly on all nodes."""
    core = warm(node_count, cores)
    count = 0
    actions: list[fleet.Action] = []

    while not is_failed(actions):
        hosts = [f"n{number}" for number in range(node_count)]
        host = next(each for each in hosts[count % node_count :] + hosts if core.workers_of(host=each))
        actions = kill(core, host)
        count += 1

    assert count <= deaths.MAX_DEATHS + 1
    assert count >= min(3 * node_count * cores, deaths.MAX_DEATHS)


def test_job_fails_when_the_last_node_without_deaths_is_gone() -> None:
    """Nobody else could work for it."""
    core = warm(2, 1)
    while core.workers_of(host="n0"):
        kill(core, "n0")

    step(core, fleet.NodeLost("n1", "gone"))

    assert is_failed(step(core, fleet.SecondPassed()))


def test_whole_node_may_be_killed_in_long_tasks() -> None:
    """256 workers die together, alone in their fleet."""
    core = warm(1, 256)

    told = [
        action
        for worker_id in list(core.workers)
        for action in step(core, ended(worker_id, "killed by SIGKILL", is_clean=False))
    ]

    assert not is_failed(told)
    assert len(core.workers) == 256


def test_progress_of_a_session_without_deaths_changes_no_node() -> None:
    """It comes five times a second from each session, and nodes are not sorted anew for it."""
    core = warm(1, 2)
    before = core.sessions[1].fit_version

    step(core, fleet.ProgressMade(1))

    assert core.sessions[1].fit_version == before
    assert not core.is_placement_due
