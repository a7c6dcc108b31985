"""A cluster for all tests of calculations that go on by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import Cluster, running_cluster


@pytest.fixture(scope="session")
def auto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster where calculations go on by themselves."""
    root, home = tmp_path_factory.mktemp("auto"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, {"broker": {"resume": "auto"}}) as cluster:
        yield cluster
