"""Agents of one machine take different cores, by locks on files."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from quakegrid.errors import SettingsError, UsageError
from services.agent.core_claims import CoreClaims, limit_cores


def test_agents_take_different_cores_while_there_are_some(tmp_path: Path) -> None:
    """Three agents with two cores each divide six."""
    agents = [CoreClaims(tmp_path) for _ in range(3)]

    taken = [agent.take(range(6), 2) for agent in agents]

    assert taken == [{0, 1}, {2, 3}, {4, 5}]
    for agent in agents:
        agent.release()


def test_claims_above_the_cores_are_stacked_evenly(tmp_path: Path) -> None:
    """Five agents with one core each put at most three on one of two cores."""
    agents = [CoreClaims(tmp_path) for _ in range(5)]

    taken = [agent.take([4, 7], 1) for agent in agents]

    assert taken == [{4}, {7}, {4}, {7}, {4}]
    for agent in agents:
        agent.release()


def test_agent_that_is_killed_frees_its_cores(tmp_path: Path) -> None:
    """The kernel frees the locks."""
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_claim_and_die, args=(tmp_path,))
    child.start()
    child.join()

    claims = CoreClaims(tmp_path)
    taken = claims.take(range(2), 1)

    assert child.exitcode == -9
    assert (tmp_path / "0.0").exists()
    assert taken == {0}
    claims.release()


def _claim_and_die(folder: Path) -> None:
    claims = CoreClaims(folder)
    assert claims.take(range(2), 1) == {0}
    os.kill(os.getpid(), 9)


def test_more_cores_than_there_are_is_refused() -> None:
    """Whoever asks for them is mistaken, and nothing changes."""
    before = os.sched_getaffinity(0)

    with pytest.raises(UsageError, match="100000"):
        limit_cores(100_000, None)

    assert os.sched_getaffinity(0) == before


def test_folder_that_is_none_is_named(tmp_path: Path) -> None:
    """The message says which."""
    with pytest.raises(SettingsError, match="missing/cores: No such file"):
        CoreClaims(tmp_path / "missing" / "cores").take([0], 1)
