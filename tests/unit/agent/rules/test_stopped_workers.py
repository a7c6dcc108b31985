"""The rule for workers that are stopped."""

from __future__ import annotations

from quakegrid.services.agent.rules.memory import WorkerToStop
from quakegrid.services.agent.rules.stopped_workers import StoppedWorkers


def test_worker_that_stays_stopped_is_killed_at_the_limit() -> None:
    """With the reason that its job's log will tell."""
    rule = StoppedWorkers(timeout_s=3, look_s=1)

    looks = [rule.handle(["a"]) for _ in range(4)]

    assert looks == [[], [], [], [WorkerToStop("a", "it was stopped (SIGSTOP) for 3 s")]]


def test_worker_that_goes_on_in_time_is_let_be() -> None:
    """Each stop counts for itself, and each worker."""
    rule = StoppedWorkers(timeout_s=2, look_s=1)

    assert rule.handle(["a", "b"]) == rule.handle(["a", "b"]) == rule.handle(["b"])[1:] == []
    assert rule.handle(["a"]) == rule.handle(["a"]) == []


def test_limit_of_zero_lets_workers_be_stopped_for_ever() -> None:
    """As before there was a limit."""
    rule = StoppedWorkers(timeout_s=0, look_s=1)

    assert not any(rule.handle(["a"]) for _ in range(100_000))
