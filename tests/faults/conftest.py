"""A cluster for all tests of calculations, which leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from tests.integration.conftest import settings
from tests.support.clusters import Cluster, running_cluster

__all__ = ["brief", "cluster", "medium", "quick", "settings", "slow"]

SES = "ses_per_logic_tree_path = "


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of these tests' own."""
    with running_cluster(tmp_path_factory.mktemp("faults"), tmp_path_factory.mktemp("home")) as cluster:
        yield cluster


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A job file that takes half a second."""
    return testing.copy_engine_case("classical/case_01", tmp_path / "quick") / "job.ini"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A job file that keeps a core at work for ten seconds or more, for those who do not await its end."""
    return event_based(tmp_path / "slow", 30)


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """The same for five seconds: something may happen while it calculates, and it completes."""
    return event_based(tmp_path / "medium", 10)


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    """The same for a second: it goes on when the command that started it has ended, and completes."""
    return event_based(tmp_path / "brief", 3)


def event_based(folder: Path, ses_count: int) -> Path:
    """A calculation of three tasks; the work in them grows with the number of its stochastic event sets."""
    job_ini = testing.copy_engine_case("event_based/case_6", folder) / "job.ini"
    text = job_ini.read_text(encoding="utf-8")
    assert f"{SES}30" in text
    job_ini.write_text(text.replace(f"{SES}30", f"{SES}{ses_count}"), encoding="utf-8")
    return job_ini
