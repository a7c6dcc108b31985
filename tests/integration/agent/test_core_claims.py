"""Agents of one machine take different cores, by locks on files."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from quakegrid.errors import SettingsError, UsageError
from quakegrid.services.agent.node.core_claims import CoreClaims, limit_cores


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


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    """No file is made or locked elsewhere."""
    (tmp_path / "cores").mkdir()
    (tmp_path / "cores" / "0.0").symlink_to(tmp_path / "victim")
    claims = CoreClaims(tmp_path / "cores")

    with pytest.raises(SettingsError, match=r"0\.0: Too many levels of symbolic links"):
        claims.take([0], 1)

    assert not (tmp_path / "victim").exists()
    claims.release()


def test_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Whoever took the name first decides where it leads."""
    (tmp_path / "cores").symlink_to(tmp_path)

    with pytest.raises(SettingsError, match="Not a directory"):
        CoreClaims(tmp_path / "cores")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Such as one in /tmp that was made before ours."""
    (tmp_path / "cores").mkdir()
    os.chown(tmp_path / "cores", 65534, 65534)

    with pytest.raises(SettingsError, match="another user made it"):
        CoreClaims(tmp_path / "cores")


def test_folder_that_is_none_is_named(tmp_path: Path) -> None:
    """The message says which."""
    with pytest.raises(SettingsError, match="missing/cores: No such file"):
        CoreClaims(tmp_path / "missing" / "cores").take([0], 1)
