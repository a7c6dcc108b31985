"""Large arguments that come again, through a real lane to real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quakegrid import LocalCluster
from services.agent.blob_folders import SHARED_MEMORY
from tests.integration import sdk_calls

SIZE = 2_000_000


def folders() -> set[Path]:
    """Blob folders of all agents of this machine."""
    return set(SHARED_MEMORY.glob("quakegrid-*/*"))


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


def test_each_task_has_its_own_view_of_a_shared_argument(cluster: LocalCluster) -> None:
    """Tasks may change what they were given; nobody else sees it, and the numbers are right."""
    array = np.arange(SIZE, dtype=np.float64)

    with cluster.executor() as executor:
        first = list(executor.map(sdk_calls.double_in_place, [array] * 20))
        array[0] = 7.0
        second = executor.submit(sdk_calls.double_in_place, array).result()

    assert set(first) == {float(np.arange(SIZE).sum()) * 2}
    assert second == first[0] + 14.0


def test_blobs_are_freed_with_their_session(cluster: LocalCluster) -> None:
    """They are there while the executor is open, one file for all workers, and gone after it."""
    array = np.arange(SIZE, dtype=np.float64)
    before = folders()

    with cluster.executor() as executor:
        list(executor.map(sdk_calls.double_in_place, [array] * 20))
        (during,) = folders() - before
        contents = [path for path in during.iterdir() if not path.suffix]
    cluster.close()

    assert [path.stat().st_size for path in contents if path.exists()] in ([], [array.nbytes])
    assert folders() == before
