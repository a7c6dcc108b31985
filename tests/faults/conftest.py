"""A cluster for all tests of calculations, which leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from tests.integration.conftest import settings
from tests.support.clusters import Cluster, running_cluster

__all__ = ["cluster", "quick", "settings", "slow"]


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
    """A job file that takes some seconds, most of them in its tasks."""
    return testing.copy_engine_case("event_based/case_6", tmp_path / "slow") / "job.ini"
